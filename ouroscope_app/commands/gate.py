"""`ouroscope gate`: may this be trained on?"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ouroscope.canonical import to_plain
from ouroscope.errors import InvalidRequest
from ouroscope_app.commands.analyze import ENCODER_HELP, LINES_HELP, PARSER_HELP, PROCESSES_HELP
from ouroscope_app.home import Home
from ouroscope_app.output import REFUSED, answers, command, notes, print_json

if TYPE_CHECKING:
    from ouroscope_app.gating.question import Answered, Question

PREDICTIONS_HELP = (
    "What the model of the text expects: JSON lines of next-token records and scored texts (docs/gate.md)."
)


@command
def gate(
    baseline: str = typer.Option(
        help="What to compare with: a file, corpus/DIGEST, report/DIGEST, baselines/NAME; with --coordinator also "
        f"monitors/NAME. {LINES_HELP}"
    ),
    candidate: str = typer.Option(
        help="What would be trained on: a file, a directory, -, corpus/DIGEST, report/DIGEST."
    ),
    policy: str = typer.Option("", help="Refuse from `warning` (default) or `collapse` on, or a YAML or JSON file."),
    allow_insufficient_data: bool = typer.Option(
        False, "--allow-insufficient-data", help="Let through what cannot be judged; otherwise it is refused."
    ),
    predictions: str = typer.Option("", metavar="FILE", help=PREDICTIONS_HELP),
    coordinator: str = typer.Option("", metavar="HOST:PORT", help="Let this coordinator decide; nothing is recorded."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    parser: str = typer.Option("en_ouro_sm", help=f"{PARSER_HELP} Not with --coordinator."),
    encoder: str = typer.Option("none", help=f"{ENCODER_HELP} Not with --coordinator."),
    processes: int = typer.Option(1, min=1, help=PROCESSES_HELP),
    junit: Path = typer.Option(None, metavar="FILE", help="Write JUnit XML for a CI server."),
    markdown: Path = typer.Option(None, metavar="FILE", help="Write Markdown for a pull request or a job summary."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document; the summary goes to stderr."),
) -> None:
    """Say whether a corpus may be trained on: exit status 0 passed, 3 refused, 2 wrong usage, 1 a fault.

    What cannot be judged is refused: a gate that opens for lack of data is none.

    `ouroscope gate --baseline human.jsonl --candidate next.jsonl`

    `ouroscope gate --baseline baselines/mine --candidate next.jsonl --policy collapse --junit gate.xml`

    `ouroscope gate --baseline monitors/news --candidate next.jsonl --coordinator 127.0.0.1:50054`
    """
    from ouroscope_app.gating.question import Question

    _check_writable([path for path in (junit, markdown) if path])
    question = Question(
        baseline=baseline,
        candidate=candidate,
        predictions=predictions,
        text_field=text_field,
        policy=policy,
        allow_insufficient_data=allow_insufficient_data,
    )
    answered = _ask_there(question, coordinator) if coordinator else _ask_here(question, parser, encoder, processes)
    _show(answered, json_)
    for path, text in _forms(answered, junit, markdown):
        path.write_text(text, encoding="utf-8")
    if not answered.decision.passed:
        raise typer.Exit(REFUSED)


def _ask_here(question: Question, parser: str, encoder: str, processes: int) -> Answered:
    from ouroscope_app.gating.here import decide_here
    from ouroscope_app.measure import tools_of

    with closing(tools_of(parser, encoder, processes)) as tools:
        return decide_here(Home.find(os.environ), question, tools)


def _ask_there(question: Question, coordinator: str) -> Answered:
    from ouroscope_app.gating.there import decide_there

    with notes.status("waiting for the coordinator"):
        return decide_there(question, coordinator)


def _check_writable(paths: list[Path]) -> None:
    """Raise before anything is measured, not after it."""
    for path in paths:
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise InvalidRequest(f"{path} cannot be written: it is a directory, or its directory does not exist")
    if len(paths) != len(set(paths)):
        raise InvalidRequest(f"{paths[0]} was given for two forms; give each its own file")


def _forms(answered: Answered, junit: Path | None, markdown: Path | None) -> Iterator[tuple[Path, str]]:
    from ouroscope_app.gating import junit as as_junit
    from ouroscope_app.gating import markdown as as_markdown

    forms: tuple[tuple[Path | None, Callable[[Answered], str]], ...] = (
        (junit, as_junit.junit),
        (markdown, as_markdown.markdown),
    )
    for path, form in forms:
        if path:
            yield path, form(answered)


def _show(answered: Answered, json_: bool) -> None:
    from ouroscope_app.gating.summary import show_answer

    show_answer(notes if json_ else answers, answered)
    if json_:
        print_json(to_plain(answered.decision))

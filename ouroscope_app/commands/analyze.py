"""`ouroscope analyze`: measure a text."""

from __future__ import annotations

import os
from contextlib import closing
from enum import Enum
from typing import TYPE_CHECKING, Any

import typer

from ouroscope.canonical import to_plain
from ouroscope.errors import CapabilityMissing
from ouroscope.records.analysis import Counting, CountingSpec, MetricInfo, MetricValue, Report
from ouroscope.records.documents import View
from ouroscope_app.home import Home
from ouroscope_app.output import command, notes, print_json

if TYPE_CHECKING:
    from services.analyzer.side import Side

PARSER_HELP = "spaCy pipeline for lemmas and trees: an installed package, a folder, or none."
ENCODER_HELP = "Model for the embedding metrics: a folder, an id of the Hub (extra `embeddings`), or none."
PROCESSES_HELP = "Processes that parse; 1 is this one. More pay from about 50,000 words on."
EXECUTOR_HELP = "Where texts are read and parsed: local, or ray with --ray-address (extra `ray`, see docs/ray.md)."
RAY_HELP = "Head of the Ray cluster: host:port, or auto. Its nodes must see the files and OUROSCOPE_HOME."
WHOLE_HELP = (
    "Also count all text, not only the sample: types, n-grams, edges, frequent words, lengths. exact keeps all that "
    "differs; sketch stays within --count-memory however long the text is (extra `sketches`)."
)
MEMORY_HELP = "MiB that these counts may take."
LINES_HELP = "A line of .txt or of piped text is a document; in a directory each .txt file is one."


class Way(Enum):
    """How all text is counted."""

    EXACT = "exact"
    SKETCH = "sketch"


@command
def analyze(
    files: list[str] = typer.Argument(
        help=f"Files (.jsonl .txt .csv .parquet, .gz of these), directories, -, corpus/DIGEST. {LINES_HELP}"
    ),
    metrics: list[str] = typer.Option([], "--metric", "-m", help="Only this metric; may be given several times."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    continuation: bool = typer.Option(
        False, "--continuation", help="Look only at what follows each document's real prefix."
    ),
    parser: str = typer.Option("en_ouro_sm", help=PARSER_HELP),
    encoder: str = typer.Option("none", help=ENCODER_HELP),
    processes: int = typer.Option(1, min=1, help=PROCESSES_HELP),
    executor: str = typer.Option("local", help=EXECUTOR_HELP),
    ray_address: str = typer.Option("", help=RAY_HELP),
    count: Way | None = typer.Option(None, case_sensitive=False, help=WHOLE_HELP),
    count_memory: int = typer.Option(256, min=1, max=65536, metavar="MIB", help=MEMORY_HELP),
    save: str = typer.Option("", metavar="NAME", help="Keep the numbers as baselines/NAME, without the text."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Measure the diversity of a text: its words, its repetition, its network of concepts.

    All files are measured together as one corpus, at the largest token budget that it reaches: values rest on 20 equal
    groups of texts, so some words are left over. A value is the mean over samples that each leave out one group, with
    its 95 % interval; measures of a whole network and very small texts have none.

    Documents with the same `group` (an article, an author) count as one observation, any other as one of its own. So
    write an article as one document, not as many lines.
    """
    from ouroscope_app.kept import check_free, full_name
    from ouroscope_app.measure import measure, texts_of, tools_of
    from ouroscope_app.report_table import show_report
    from services.analyzer.whole.counts import check_counting

    home = Home.find(os.environ)
    counting = CountingSpec(counting=Counting(count.name), memory=count_memory * 2**20) if count else None
    check_counting(counting, allowed=2**36)
    if save:
        save = full_name(save)
        check_free(home.prepare().store(), save)
    view = View.CONTINUATION if continuation else View.WHOLE
    with closing(tools_of(parser, encoder, processes, executor, ray_address)) as tools:
        texts = texts_of(home, files, text_field, metrics, tools)
        side = measure(texts, metrics, view, ", ".join(files), tools, counting=counting)
    _check_measured(side.report, metrics)
    if save:
        side = _save(home, save, side)
    if json_:
        print_json(as_json(side.report))
    else:
        show_report(side.report)


def _check_measured(report: Report, metrics: list[str]) -> None:
    """Raise if nothing of what was asked for by name was measured; otherwise the report says what is missing."""
    if metrics and not report.metrics:
        from ouroscope_app.report_table import reasons

        why = "; ".join(f"{', '.join(ids)} ({reason})" for reason, ids in reasons(report).items())
        raise CapabilityMissing(f"nothing that was asked for can be measured here: {why or ', '.join(metrics)}")


def _save(home: Home, name: str, side: Side) -> Side:
    from services.analyzer import baselines, reports

    published = reports.publish(home.store(), side)
    assert published.report.report is not None
    baselines.create(home.store(), name.removeprefix(f"{baselines.SPACE}/"), published.report.report)
    notes.print(f"kept as {name}; compare with it by `ouroscope compare {name} FILE`", soft_wrap=True)
    return published


def as_json(report: Report) -> dict[str, Any]:
    """Return what `--json` prints: every metric with its value, interval, unit and direction."""
    from ouroscope_app.report_table import INFOS

    return {
        "metrics": {value.id: _value_json(value, INFOS[value.id]) for value in report.metrics},
        "documents": report.documents,
        "tokens": report.tokens,
        "clusters": report.clusters,
        "budget": report.rungs[-1].budget if report.rungs else 0,
        "parser": report.parser,
        "left_out": {left.id: left.reason for left in report.left_out},
        **({"whole_corpus": to_plain(report.whole_corpus)} if report.whole_corpus else {}),
    }


def _value_json(value: MetricValue, info: MetricInfo) -> dict[str, Any]:
    return {
        "value": value.value,
        "lower": value.lower,
        "upper": value.upper,
        "unit": info.unit,
        "direction": info.direction.value,
        "undefined_because": value.undefined_because,
    }

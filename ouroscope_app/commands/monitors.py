"""`ouroscope monitors`: watch a retraining pipeline of your own."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import typer

from ouroscope.canonical import to_plain
from ouroscope.errors import InvalidRequest
from ouroscope.gate import reaches
from ouroscope.records.analysis import Policy, Verdict
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope_app.commands.analyze import LINES_HELP
from ouroscope_app.commands.gate import PREDICTIONS_HELP
from ouroscope_app.home import Home
from ouroscope_app.output import REFUSED, answers, command, counted, notes, print_json

if TYPE_CHECKING:
    from ouroscope.client import MonitorClient

app = typer.Typer(help="Watch a retraining pipeline of your own, one call per generation.", no_args_is_help=True)

Record = TypeVar("Record")

NAME = typer.Argument(help="Name of the monitor, see `ouroscope monitors list`.")
JSON = typer.Option(False, "--json", help="Print one JSON document.")
COORDINATOR = typer.Option(
    "", metavar="HOST:PORT", help="Where the coordinator is; by default that of this data folder, started if need be."
)


class FailOn(StrEnum):
    """Least verdict that makes the exit status 3."""

    WARNING = "warning"
    COLLAPSE = "collapse"


@app.command("create")
@command
def create(
    name: str = typer.Argument(help="Lower-case letters, digits and hyphens, at most 63."),
    baseline: str = typer.Option(
        "",
        help="What generations are compared with: a file, corpus/DIGEST, report/DIGEST, baselines/NAME, or the full "
        "name of a generation; by default the first generation that is recorded.",
    ),
    policy: str = typer.Option("", metavar="FILE", help="YAML or JSON: margin, far_bound, persistence, ..."),
    description: str = typer.Option("", help="For people; at most 256 characters."),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    coordinator: str = COORDINATOR,
    json_: bool = JSON,
) -> None:
    """Make a monitor; a corpus as its baseline is measured now, domain by domain where it has several."""
    from ouroscope_app.gating.policies import read_policy
    from ouroscope_app.monitoring import baseline_named

    home = Home.find(os.environ)
    chosen = read_policy(Policy, policy) if policy else Policy()
    named = baseline_named(home, coordinator, baseline, text_field)
    monitor = Monitor(description=description, policy=chosen, baseline=named.baseline)

    async def making(client: MonitorClient) -> Monitor:
        short = _full(name).partition("/")[2]
        return await client.create_monitor(short, monitor, baseline_name=named.name)

    _tell(_ask(coordinator, making), json_)


@app.command("list")
@command
def list_(coordinator: str = COORDINATOR, json_: bool = JSON) -> None:
    """List the monitors in order of name, with the verdict on their newest generation."""
    found = _ask(coordinator, lambda client: _all(client.list_monitors()))
    if json_:
        print_json({"monitors": [to_plain(monitor) for monitor in found]})
        return
    if not found:
        notes.print("no monitors yet; make one with `ouroscope monitors create NAME`")
        return
    from ouroscope_app.monitor_table import show_monitors

    show_monitors(found)


@app.command("show")
@command
def show(name: str = NAME, coordinator: str = COORDINATOR, json_: bool = JSON) -> None:
    """Show the history of a monitor: the verdict and the effects of every generation."""

    async def reading(client: MonitorClient) -> tuple[Monitor, list[MonitorGeneration]]:
        full = _full(name)
        return await client.get_monitor(full), await _all(client.list_generations(full))

    monitor, generations = _ask(coordinator, reading)
    if json_:
        print_json({"monitor": to_plain(monitor), "generations": [to_plain(one) for one in generations]})
        return
    from ouroscope_app.monitor_table import show_history

    show_history(monitor, generations)


@app.command("record")
@command
def record(
    name: str = NAME,
    number: int = typer.Argument(min=0, help="Number of the generation, counted by your pipeline."),
    files: list[str] = typer.Argument(
        None, help=f"What its model wrote: files, directories, -, corpus/DIGEST, report/DIGEST. {LINES_HELP}"
    ),
    predictions: str = typer.Option("", metavar="FILE", help=PREDICTIONS_HELP),
    gateway_log: list[str] = typer.Option(
        [], metavar="FILE", help="Log of prompts and completions as JSON lines, as a vLLM or TGI gateway writes it."
    ),
    text_field: str = typer.Option("text", help="Field of the text in .jsonl, .csv and .parquet."),
    description: str = typer.Option("", help="For people, such as the version of the model; at most 256 characters."),
    synthetic_share: float = typer.Option(None, min=0, max=1, help="Of its tokens; by default as the documents tell."),
    request_id: str = typer.Option("", metavar="UUID", help="Makes it safe to call again after a broken call."),
    fail_on: FailOn = typer.Option(None, help="Exit with 3 from this verdict on."),
    coordinator: str = COORDINATOR,
    json_: bool = JSON,
) -> None:
    """Record a generation and say how it compares; the same content under the same number is recorded once.

    The exit status is 0 whatever the verdict, unless --fail-on is given. What cannot be judged fails nothing here:
    stopping for it is what `ouroscope gate` is for.
    """
    from ouroscope.integrations.gateway_logs import GatewayLog
    from ouroscope_app.inputs import inputs_named
    from ouroscope_app.monitor_table import say_what_is_odd, show_log

    files = files or []
    if not (files or predictions or gateway_log):
        raise InvalidRequest("there is nothing to record; give files, --predictions or --gateway-log")
    logs = [GatewayLog(log) for log in gateway_log]
    inputs = inputs_named(files, predictions, text_field, logs)
    about = description or next((log.description for log in logs), "")

    async def recording(client: MonitorClient) -> tuple[Monitor, MonitorGeneration]:
        before = await client.get_monitor(_full(name))
        generation = await client.record_generation(
            before.name,
            number,
            **inputs,
            description=about,
            synthetic_share=synthetic_share,
            request_id=request_id,
        )
        return before, generation

    before, generation = _ask(coordinator, recording)
    say_what_is_odd(before, generation)
    for name, log in zip(gateway_log, logs, strict=True):
        show_log(name, log.tally)
    _show(generation, json_)
    if fail_on and generation.verdict and reaches(generation.verdict, Verdict[fail_on.name]):
        raise typer.Exit(REFUSED)


@app.command("pause")
@command
def pause(name: str = NAME, coordinator: str = COORDINATOR, json_: bool = JSON) -> None:
    """Refuse new generations for now, for example while the pipeline is rebuilt."""
    _set_paused(name, coordinator, json_, paused=True)


@app.command("resume")
@command
def resume(name: str = NAME, coordinator: str = COORDINATOR, json_: bool = JSON) -> None:
    """Take new generations again."""
    _set_paused(name, coordinator, json_, paused=False)


@app.command("update")
@command
def update(
    name: str = NAME,
    baseline: str = typer.Option("", help="baselines/NAME, baseline/DIGEST or report/DIGEST; verdicts begin anew."),
    policy: str = typer.Option("", metavar="FILE", help="YAML or JSON: margin, far_bound, persistence, ..."),
    description: str = typer.Option(None, help="For people; at most 256 characters."),
    coordinator: str = COORDINATOR,
    json_: bool = JSON,
) -> None:
    """Change a monitor; it holds for generations that are recorded from now on, what was said before stays."""
    from ouroscope_app.gating.policies import read_policy
    from ouroscope_app.monitoring import kept_baseline

    changes: dict[str, object] = {}
    if baseline:
        changes["baseline"] = kept_baseline(Home.find(os.environ), baseline)
    if policy:
        changes["policy"] = read_policy(Policy, policy)
    if description is not None:
        changes["description"] = description
    if not changes:
        raise InvalidRequest("there is nothing to change; give --baseline, --policy or --description")

    async def changing(client: MonitorClient) -> Monitor:
        monitor = await client.get_monitor(_full(name))
        return await client.update_monitor(replace(monitor, **changes), list(changes))  # type: ignore[arg-type]  # by name

    _tell(_ask(coordinator, changing), json_)


@app.command("delete")
@command
def delete(
    name: str = NAME,
    coordinator: str = COORDINATOR,
    yes: bool = typer.Option(False, "--yes", help="Do not ask; nobody is asked where stdin is no terminal."),
) -> None:
    """Forget a monitor and its history, for good."""
    full = _full(name)

    async def deleting(client: MonitorClient) -> Monitor:
        monitor = await client.get_monitor(full)
        await client.delete_monitor(full)
        return monitor

    if sys.stdin.isatty() and not yes:
        known = _ask(coordinator, lambda client: client.get_monitor(full))
        typer.confirm(f"delete {full} with {counted(known.generations, 'generation')}?", abort=True)
    # Asked once where nobody is asked: without a coordinator at work each question starts the services.
    deleted = _ask(coordinator, deleting)
    answers.print(f"{full} deleted, with {counted(deleted.generations, 'generation')}", markup=False)


def _ask(coordinator: str, question: Callable[[MonitorClient], Awaitable[Record]]) -> Record:
    # gRPC is imported here, so that --help answers at once.
    from ouroscope_app.monitoring import ask

    return ask(Home.find(os.environ), coordinator, question)


def _full(name: str) -> str:
    from ouroscope.integrations.pipeline import monitor_name

    return monitor_name(name)


def _set_paused(name: str, coordinator: str, json_: bool, *, paused: bool) -> None:
    async def setting(client: MonitorClient) -> Monitor:
        monitor = await client.get_monitor(_full(name))
        return await client.update_monitor(replace(monitor, paused=paused), ["paused"])

    _tell(_ask(coordinator, setting), json_)


async def _all(records: AsyncIterator[Record]) -> list[Record]:
    return [record async for record in records]


def _tell(monitor: Monitor, json_: bool) -> None:
    if json_:
        print_json(to_plain(monitor))
        return
    from ouroscope_app.monitor_table import show_monitor

    show_monitor(monitor)


def _show(generation: MonitorGeneration, json_: bool) -> None:
    if json_:
        print_json(to_plain(generation))
        return
    from ouroscope_app.monitor_table import show_generation

    show_generation(generation)

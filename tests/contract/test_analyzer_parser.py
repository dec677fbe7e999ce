"""An analyzer with a parser: the same report in one process or several, and nothing left running behind it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager

import psutil
import pytest

from ouroscope.client import AnalyzerClient
from ouroscope.corpora.stored import write_corpus
from ouroscope.executor import Processes
from ouroscope.records.analysis import AnalyzeCorpus
from ouroscope.records.documents import Document
from services.analyzer.analysis import analyze
from services.analyzer.jobs import Jobs
from services.analyzer.parsing.parser import load_parser
from services.analyzer.service import start
from services.analyzer.session import Limits
from services.analyzer.spread import shipped_spread
from services.analyzer.tools import Tools, open_tools
from tests.log_events import event

SENTENCES = (
    "The old house on the hill was sold to a young family.",
    "They painted its walls and planted apple trees in the garden.",
    "When the winter came, snow covered the narrow road for weeks.",
    "Nobody could say who had lit the lamp in the tower that night.",
)
FEW = ("types", "dependency_depth", "syntactic_nodes")


def documents(count: int = 120) -> list[Document]:
    return [Document(id=str(n), text=f"{SENTENCES[n % 4]} Item {n} {SENTENCES[n // 4 % 4]}") for n in range(count)]


@pytest.fixture
def serving(store, connect):
    """Start an analyzer with these tools, and connect to it."""

    @asynccontextmanager
    async def begin(tools: Tools):
        server = await start(store, tools=tools)
        try:
            yield AnalyzerClient(connect(server.address))
        finally:
            await server.stop(grace=0.0)

    return begin


async def test_processes_change_nothing_and_end_with_the_service(serving):
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    direct, _ = analyze(documents(), metrics=FEW, tools=open_tools())
    async with serving(open_tools(processes=2)) as analyzer:
        streamed = await analyzer.analyze(documents(), metrics=FEW)
    assert streamed.parser == direct.parser == open_tools().parser.identity
    assert streamed.rungs == direct.rungs
    workers = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    assert not [worker for worker in workers if "spawn_main" in " ".join(worker.cmdline())]


async def test_a_stored_corpus_is_parsed_too(serving, store):
    asked = AnalyzeCorpus(corpus=write_corpus(store, documents()), metrics=FEW)
    async with serving(open_tools()) as analyzer:
        report = await analyzer.analyze_corpus(asked)
    assert report.parser.startswith("en_ouro_sm ")
    assert {value.id for value in report.metrics} == set(FEW)


async def test_without_a_parser_the_rest_is_measured_and_the_reason_told(serving):
    async with serving(Tools()) as analyzer:
        report = await analyzer.analyze(documents(), metrics=FEW)
    assert report.parser == ""
    assert {value.id for value in report.metrics} == {"types"}
    assert {left.id for left in report.left_out} == {"dependency_depth", "syntactic_nodes"}
    assert all("there is no parser here" in left.reason for left in report.left_out)


async def test_who_needs_no_trees_pays_for_none(serving):
    async with serving(open_tools(processes=2)) as analyzer:
        before = {child.pid for child in psutil.Process().children(recursive=True)}
        report = await analyzer.analyze(documents(), metrics=("types", "mattr"))
        assert {child.pid for child in psutil.Process().children(recursive=True)} == before
    assert report.parser == ""


async def test_a_process_that_was_lost_between_two_calls_is_not_missed(serving):
    async with serving(Tools(parser=load_parser(executor=Processes(1)))) as analyzer:
        await analyzer.analyze(documents(), metrics=FEW)
        for child in psutil.Process().children():
            if "spawn_main" in " ".join(child.cmdline()):
                child.kill()
                child.wait()
        assert (await analyzer.analyze(documents(), metrics=FEW)).parser


def test_another_parser_is_another_answer(store):
    jobs = [
        Jobs(store=store, spread=shipped_spread(), limits=Limits(), tools=tools) for tools in (Tools(), open_tools())
    ]
    assert jobs[0].fingerprint["parser"] == ""
    assert "spaCy 3" in jobs[1].fingerprint["parser"]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_a_process_with_workers_leaves_none_behind(process, connect, end):
    running = process(processes="2")
    address = (await asyncio.to_thread(event, running, "rpc.serving"))["address"]
    report = await AnalyzerClient(connect(address)).analyze(documents(), metrics=FEW)
    assert report.parser.startswith("en_ouro_sm ")
    workers = psutil.Process(running.pid).children(recursive=True)
    assert workers
    running.send_signal(end)
    assert await asyncio.to_thread(running.wait, 60) == (0 if end is signal.SIGTERM else -end)
    assert psutil.wait_procs(workers, timeout=60)[1] == []


def test_a_missing_parser_is_told_in_one_line(process):
    running = process(parser="xx_not_there")
    assert running.wait(60) == 1
    assert "install it" in event(running, "process.not_started")["error"]


def test_a_parser_that_does_not_work_is_told_before_the_first_call(process, tmp_path):
    import spacy

    nlp = spacy.blank("en")
    nlp.add_pipe("parser")
    nlp.to_disk(tmp_path / "untrained")
    running = process(parser=str(tmp_path / "untrained"))
    assert running.wait(120) == 1
    assert "never trained" in event(running, "process.not_started")["error"]

"""Tasks of lm-evaluation-harness on a tiny model; oracles are the harness's own `HFLM` and sums by hand."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog.testing
import yaml

from ouroscope.errors import Cancelled, CapabilityMissing, InvalidRequest, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, EvaluateTasks, TaskScore, Verification
from ouroscope.store.artifacts import ArtifactStore
from services.generator import tasks
from services.generator.in_process.backend import HfBackend
from services.generator.in_process.model import HfModel
from services.generator.meter import Meter

ITEMS = [
    {
        "query": f"The {creature} swallows its own",
        "choices": ["tail for the", "world whole", "naïve 🐍 mirror"],
        "label": number % 3,
        "answer": "tail",
    }
    for number, creature in enumerate(("serpent", "model", "library", "mirror", "café", "snake", "wheel"))
]


def write_task(folder: Path, name: str, **changes: Any) -> None:
    """Write a task over `ITEMS`, multiple choice if not told otherwise."""
    data = folder / "items.jsonl"
    data.write_text("\n".join(map(json.dumps, ITEMS)))
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data), "train": str(data)}},
        "test_split": "test",
        "fewshot_split": "train",
        "output_type": "multiple_choice",
        "doc_to_text": "{{query}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "{{label}}",
        "metric_list": [{"metric": "acc"}],
        "metadata": {"version": 1.5},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**config, **changes}))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found: Path = tmp_path_factory.mktemp("tasks")
    write_task(found, "ouro_choice")
    write_task(
        found,
        "ouro_answer",
        output_type="generate_until",
        doc_to_choice=None,
        doc_to_target="{{answer}}",
        generation_kwargs={"until": ["."], "max_gen_toks": 8, "do_sample": False},
        metric_list=[{"metric": "exact_match"}],
    )
    write_task(
        found,
        "ouro_whole",
        output_type="loglikelihood_rolling",
        doc_to_choice=None,
        doc_to_text="",
        doc_to_target="{{query}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    )
    write_task(found, "ouro_unsafe", unsafe_code=True)
    write_task(found, "ouro_absent", dataset_path=str(found / "nowhere"), dataset_kwargs=None)
    return found


@pytest.fixture
def evaluated(
    store: ArtifactStore, backend: HfBackend, model_ref: ArtifactRef, folder: Path, noting_task: Callable[..., Any]
) -> Callable[..., dict[tuple[str, str], TaskScore]]:
    def run(*names: str, task: Any = None, **options: Any) -> dict[tuple[str, str], TaskScore]:
        request = EvaluateTasks(model=model_ref, tasks=names, **{"batch_size": 4, **options})
        found = tasks.evaluate_tasks(store, backend, request, folder, task or noting_task())
        assert found.served is not None
        assert found.served.verification is Verification.LOADED
        return {(score.task, score.metric): score for score in found.scores}

    return run


def by_hand(model: HfModel, limit: int | None = None) -> float:
    """Return the share of items whose right choice has the highest log-probability."""
    right = 0
    for item in ITEMS[:limit]:
        sums = []
        for choice in item["choices"]:
            # Without the start token, as the harness reads a model whose tokenizer puts none.
            ids, after = model.tokens.encode(item["query"]), model.tokens.encode(f" {choice}")
            sums.append(_log_probability(model, [*ids, *after], len(ids)))
        right += sums.index(max(sums)) == item["label"]
    return right / len(ITEMS[:limit])


def _log_probability(model: HfModel, ids: list[int], first: int) -> float:
    import torch

    with torch.no_grad():
        logits = model.loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logits[i - 1, ids[i]]) for i in range(first, len(ids)))


def test_the_accuracy_of_a_choice_is_that_of_the_log_probabilities(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], model: HfModel
) -> None:
    score = evaluated("ouro_choice")["ouro_choice", "acc"]
    share = by_hand(model)
    assert score.value == pytest.approx(share)
    assert score.standard_error == pytest.approx((share * (1 - share) / (len(ITEMS) - 1)) ** 0.5)
    assert (score.examples, score.version) == (len(ITEMS), "1.5")


def test_only_as_many_examples_as_asked_for_are_looked_at(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], model: HfModel
) -> None:
    score = evaluated("ouro_choice", limit=3)["ouro_choice", "acc"]
    assert score.examples == 3
    assert score.value == pytest.approx(by_hand(model, 3))


def test_every_kind_of_task_gives_what_the_harness_itself_finds(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], model: HfModel, model_directory: Path, folder: Path
) -> None:
    from lm_eval import evaluate
    from lm_eval.tasks import TaskManager

    names = ["ouro_choice", "ouro_answer", "ouro_whole"]
    loaded = TaskManager(include_path=str(folder), include_defaults=False).load(names)
    for one in loaded["tasks"].values():
        one.set_config(key="num_fewshot", value=2)
        one.set_fewshot_seed(seed=3)
    theirs = evaluate(harness_own(model, model_directory), loaded, bootstrap_iters=0, log_samples=False)["results"]
    ours = evaluated(*names, few_shot=2, seed=3)
    for (task, metric), score in ours.items():
        assert score.value == pytest.approx(theirs[task][f"{metric},none"], rel=1e-5)
    assert {task for task, _ in ours} == set(names)


def test_free_answers_are_those_of_the_harness_itself(
    model: HfModel, model_directory: Path, noting_task: Callable[..., Any]
) -> None:
    from lm_eval.api.instance import Instance

    from services.generator.in_process.harness import HarnessModel

    asked = [
        Instance("generate_until", {}, (item["query"] * times, {"until": [" t", "w"], "max_gen_toks": 12}), 0)
        for item in ITEMS
        for times in (1, 9)
    ]

    ours = HarnessModel(
        model, [], batch_size=4, seed=0, measure=lambda kind, total: Meter(noting_task(), kind, total, unit="requests")
    )
    assert ours.generate_until(asked) == harness_own(model, model_directory).generate_until(asked)


def harness_own(model: HfModel, directory: Path) -> Any:
    """Return the model as the harness itself takes one of transformers."""
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    # One text at a time: its padding from the left moves the last bits.
    return HFLM(pretrained=model.loaded.model, tokenizer=tokenizer, batch_size=1, device="cpu", max_length=96)


def test_nothing_is_written_where_a_program_reads(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], capfd: pytest.CaptureFixture[str]
) -> None:
    with structlog.testing.capture_logs():
        evaluated("ouro_choice", "ouro_whole")
    assert capfd.readouterr().out == ""


def test_work_that_is_stopped_stops_between_batches(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], noting_task: Callable[..., Any]
) -> None:
    with pytest.raises(Cancelled):
        evaluated("ouro_choice", task=noting_task(4), batch_size=1)


def test_progress_counts_requests(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], noting_task: Callable[..., Any]
) -> None:
    task = noting_task()
    evaluated("ouro_choice", task=task)
    assert (task.told[-1].done, task.told[-1].total, task.told[-1].unit) == (21, 21, "requests")


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("ouro_unsafe", InvalidRequest, "runs programs that the model writes"),
        ("ouro_absent", PreconditionFailed, "cannot be fetched"),
    ],
)
def test_a_task_that_cannot_be_done_says_why(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], name: str, kind: type[Exception], told: str
) -> None:
    with pytest.raises(kind, match=told):
        evaluated(name)


def test_a_hub_that_cannot_be_reached_is_said_whatever_its_client_raises() -> None:
    """The library's own client, on a port where nobody listens: what it raises is what is caught."""
    from huggingface_hub.utils import get_session

    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(PreconditionFailed, match="cannot be fetched"), tasks._data_errors():
            get_session().get(f"http://127.0.0.1:{unheard.getsockname()[1]}/api/datasets/a/b", timeout=5)


def test_a_task_that_is_not_there_is_told_with_those_of_similar_names(
    evaluated: Callable[..., dict[tuple[str, str], TaskScore]], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = tasks._index
    # The whole index takes seconds; the operator's tells the same.
    monkeypatch.setattr(tasks, "_index", lambda folder, everything: index(folder, False))
    with pytest.raises(InvalidRequest, match="no task 'ouro_choise'; did you mean ouro_choice"):
        evaluated("ouro_choise")
    with pytest.raises(InvalidRequest, match=r"no task '/etc/passwd.yaml'"):
        evaluated("/etc/passwd.yaml")


def test_only_the_generators_own_process_does_tasks(monkeypatch: pytest.MonkeyPatch, backend: HfBackend) -> None:
    class Server:
        name, kind, capabilities = "pool", "vllm", frozenset({Capability.GENERATE, Capability.SCORE})

    with pytest.raises(CapabilityMissing, match="own process"):
        tasks.check_tasks(Server())  # type: ignore[arg-type]  # needs no more
    monkeypatch.setattr(tasks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(CapabilityMissing, match=r"pip install 'ouroscope\[evaluation\]'"):
        tasks.check_tasks(backend)

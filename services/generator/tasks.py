"""Tasks of lm-evaluation-harness by name, done by a model that this process has loaded. Knows no transport.

The harness, its thousands of tasks and their data are not part of an installation: `pip install ouroscope[evaluation]`
brings the first two, and data comes from the Hugging Face Hub when a task is first asked for. A request names tasks
that are listed, never a file, and a task that would run what the model has written is refused.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import lru_cache
from pathlib import Path
from typing import Any

import structlog
from tokenizers import Tokenizer

from ouroscope.canonical import digest_of
from ouroscope.errors import CapabilityMissing, InvalidRequest, PreconditionFailed
from ouroscope.records.artifacts import ArtifactRef
from ouroscope.records.generation import Capability, EvaluatedTasks, EvaluateTasks, TaskScore
from ouroscope.records.progress import Progress
from ouroscope.store.artifacts import ArtifactStore
from ouroscope.stored_models import base_of
from ouroscope.tokens import template_start
from services.generator.backend import Backend
from services.generator.declared import IN_PROCESS
from services.generator.meter import Meter, Task

log = structlog.get_logger(__name__)

_LIBRARY = "lm_eval"
_RESAMPLINGS = 1000
"""For the standard error of the few measures that have no formula for it."""


def check_tasks(backend: Backend) -> None:
    """Raise CapabilityMissing unless tasks can be done at all."""
    if Capability.EVALUATE_TASKS not in backend.capabilities:
        raise CapabilityMissing(
            f"tasks of lm-evaluation-harness are done in the generator's own process, by {IN_PROCESS!r}; "
            f"this generator runs models by {backend.name!r}",
            backend=backend.name,
        )
    if importlib.util.find_spec(_LIBRARY) is None:
        raise CapabilityMissing("lm-evaluation-harness is not installed; pip install 'ouroscope[evaluation]'")


def fingerprint(folder: Path | None) -> Mapping[str, str]:
    """Return what else than model and request changes the answer: the harness, and the operator's own tasks."""
    files = sorted(folder.rglob("*")) if folder else []
    stats = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files if path.is_file()]
    return {_LIBRARY: importlib.metadata.version(_LIBRARY), "own tasks": digest_of(stats)}


def evaluate_tasks(
    store: ArtifactStore, backend: Backend, request: EvaluateTasks, folder: Path | None, task: Task
) -> EvaluatedTasks:
    """Let the model do every task and return the values of their measures.

    Args:
        store: Where the model is.
        backend: The one in this process.
        request: What to do; its batch size must not be 0.
        folder: The operator's own tasks; None if there are none.
        task: The operation that this is.

    Raises:
        InvalidRequest: there is no such task, or it would run code that the model writes.
        CapabilityMissing: a task needs a package that is not installed.
        PreconditionFailed: the data of a task cannot be fetched.
    """
    task.report(Progress(stage="tasks"))
    loaded = _load(request, folder, task)
    task.check()
    # Imported here: the harness takes seconds, and few generators are asked for tasks.
    from lm_eval import evaluate

    from services.generator.in_process.harness import HarnessModel

    model: Any = backend.open(request.model)
    harnessed = HarnessModel(
        model,
        _start_of(store, request.model),
        batch_size=request.batch_size,
        seed=request.seed,
        measure=lambda kind, total: Meter(task, kind, total, unit="requests"),
    )
    with _quietly():
        found = evaluate(
            harnessed, loaded, limit=request.limit or None, bootstrap_iters=_RESAMPLINGS, log_samples=False
        )
    log.info("tasks.evaluated", tasks=len(loaded["tasks"]), model=request.model.digest[:12])
    return EvaluatedTasks(scores=tuple(_scores(found)), served=model.served)


def _start_of(store: ArtifactStore, model: ArtifactRef) -> list[int]:
    directory = store.directory(base_of(store, model) or model)
    return template_start(Tokenizer.from_file(str(directory / "tokenizer.json")))


def _load(request: EvaluateTasks, folder: Path | None, task: Task) -> dict[str, Any]:
    """Return the tasks with their data, ready to be asked."""
    index = _index_with(request.tasks, folder)
    with _quietly(), _data_errors():
        loaded: dict[str, Any] = {"tasks": {}, "groups": {}, "group_map": {}}
        for name in dict.fromkeys(request.tasks):
            task.check()
            for part, found in index.load(name).items():
                loaded[part].update(found)
    for name, one in loaded["tasks"].items():
        if getattr(one, "UNSAFE_CODE", False):
            raise InvalidRequest(f"task {name!r} runs programs that the model writes; that is not done here")
        # As the harness itself: a task that says 0 means it.
        said = one.get_config("num_fewshot")
        asked = request.few_shot if request.few_shot is not None and said != 0 else said
        one.set_config(key="num_fewshot", value=asked or 0)
        one.set_fewshot_seed(seed=request.seed)
    return loaded


def _index_with(names: Sequence[str], folder: Path | None) -> Any:
    """Return an index that has all names: the small one of the operator's tasks, else the whole, which takes seconds.

    Raises:
        InvalidRequest: one is in neither.
    """
    own = _index(folder, False) if folder else None
    if own is not None and set(names) <= set(own.all_tasks):
        return own
    index = _index(folder, True)
    if missing := [name for name in names if name not in index.task_index]:
        close = difflib.get_close_matches(missing[0], index.all_tasks, n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "see `lm_eval ls tasks` for the names"
        raise InvalidRequest(f"lm-evaluation-harness has no task {missing[0][:80]!r}; {hint}")
    return index


@lru_cache(maxsize=2)
def _index(folder: Path | None, everything: bool) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(folder) if folder else None, include_defaults=everything)


@contextmanager
def _data_errors() -> Iterator[None]:
    """Say what to do where data, or a package, is not there; texts of libraries may hold anything and stay inside."""
    # The library says which client it uses by this name, whatever its own version is called.
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # made when asked for, which mypy cannot see

    try:
        yield
    except ModuleNotFoundError as error:
        raise CapabilityMissing(
            f"a task needs the package {error.name!r}, which is not installed beside the generator"
        ) from error
    except (OSError, httpx.HTTPError) as error:
        log.info("tasks.no_data", exc_info=error)
        # Not Unavailable: the library has tried for half a minute, and clients would go on for a day.
        raise PreconditionFailed(
            "the data of a task cannot be fetched from the Hugging Face Hub; is there a network, or a copy in the "
            "cache (HF_HOME) of the generator's machine?"
        ) from error


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the harness from writing for a terminal and from starting processes: this is a service with threads."""
    from lm_eval.api import task as tasks_of_harness

    os.environ.setdefault("DISABLE_MULTIPROC", "1")
    tasks_of_harness.tqdm = lambda items, **_: items
    with redirect_stdout(io.StringIO()):
        yield


def _scores(found: Mapping[str, Any]) -> Iterator[TaskScore]:
    """Yield every measure of every task; one without a value is left out, and said in the log."""
    for name, values in found["results"].items():
        for key, value in values.items():
            metric, comma, kind = key.partition(",")
            if not comma or metric.endswith("_stderr"):
                continue
            number = _number(value)
            if number is None:
                log.warning("task.undefined", task=name, metric=metric)
                continue
            yield TaskScore(
                task=name,
                metric=metric if kind == "none" else f"{metric},{kind}",
                value=number,
                standard_error=_number(values.get(f"{metric}_stderr,{kind}")),
                examples=max(1, int(values.get("sample_len") or 1)),
                version=str(found["versions"].get(name) or ""),
            )


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None

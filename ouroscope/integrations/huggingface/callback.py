"""A callback of the transformers Trainer: lets the model in training write, reports it as a generation, can stop it.

Knows the Trainer; how a model is asked is in `answers`, what a monitor says is decided by the services. Training goes
on bit by bit as it would without the callback, and by default whatever fails in watching is told in the log only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import structlog
import torch
from transformers import TrainerCallback

from ouroscope.client.long_work import Patience
from ouroscope.client.monitors import SyncMonitors
from ouroscope.errors import CapabilityMissing, OuroscopeError
from ouroscope.gate import GRAVITY, reaches
from ouroscope.integrations.huggingface.answers import Asked
from ouroscope.integrations.huggingface.questions import Questions, as_documents, as_prompts
from ouroscope.integrations.pipeline import COORDINATOR, ensured, monitor_name
from ouroscope.records.analysis import Verdict
from ouroscope.records.checks import Problems
from ouroscope.records.documents import Document
from ouroscope.records.generation import SamplingSpec
from ouroscope.records.monitors import MonitorGeneration

log = structlog.get_logger(__name__)

Every = Literal["train", "epoch", "evaluate"]
OnError = Literal["warn", "raise"]


class CollapseDetected(RuntimeError):
    """A training has ended with a verdict that it was not to end with."""

    def __init__(self, sentence: str, generation: MonitorGeneration | None) -> None:
        super().__init__(sentence)
        self.generation = generation
        """What was recorded; None in the processes that do not record."""


class CollapseCallback(TrainerCallback):  # type: ignore[misc]  # the library ships no types
    """Records the model that a Trainer trains as generations of a monitor.

    >>> from ouroscope.integrations.huggingface import CollapseCallback
    >>> def watched(trainer, prompts):
    ...     trainer.add_callback(CollapseCallback("news", prompts, ensure=True))
    ...     return trainer.train()

    Numbers. The first recorded generation is `generation`, or one more than the newest of the monitor. With
    `every="train"` it is the trained model. With "epoch" it is the model after the first epoch, that after the k-th is
    k - 1 more; with "evaluate" the same holds for the k-th evaluation in the history of the training, which a resumed
    training has from its checkpoint. The trained model is one more again, unless it is the one of the last epoch or
    evaluation.
    """

    def __init__(
        self,
        monitor: str,
        prompts: Iterable[str | Document],
        *,
        heldout: Iterable[str | Document] = (),
        sampling: SamplingSpec | None = None,
        coordinator: str = COORDINATOR,
        generation: int | None = None,
        every: Every = "train",
        stop_on: Verdict | None = None,
        raise_at_end: bool = False,
        ensure: bool = False,
        description: str = "",
        synthetic_share: float | None = None,
        processing_class: Any = None,
        on_error: OnError = "warn",
        patience: Patience | None = None,
    ) -> None:
        """Say what is asked of the model and what is done with the answer; nothing is called yet.

        Args:
            monitor: `monitors/news`, or `news`.
            prompts: What the model continues, the same in every generation: texts, or human documents whose
                `prefix_length` says where the prompt ends; `ouroscope.corpora.openings` cuts such. At least 20 with
                some 10,000 words of continuations in all are needed for an interval.
            heldout: Human texts that nobody trains on.
            sampling: How continuations are drawn; a batch of 16 unless it says otherwise.
            coordinator: `host:port`.
            generation: Number of the first generation that is recorded.
            every: When a generation is recorded: after training, or also at each epoch or evaluation.
            stop_on: Least verdict at which training is stopped, at an epoch or evaluation.
            raise_at_end: Whether a training whose last verdict is as grave as `stop_on` ends with CollapseDetected.
            ensure: Whether a monitor that does not exist is made; its first generation becomes its baseline.
            description: Stands before the step in the description of each generation.
            synthetic_share: Share of synthetic tokens in what the model learns from, in [0, 1], where known.
            processing_class: The tokenizer, where the trainer has none.
            on_error: `warn` logs what fails in watching, `raise` ends the training with it.
            patience: How long to wait for the coordinator.

        Raises:
            InvalidRequest: the prompts or a choice cannot be used.
        """
        problems = Problems("callback")
        problems.check(every in ("train", "epoch", "evaluate"), "every", "must be train, epoch or evaluate")
        problems.check(on_error in ("warn", "raise"), "on_error", "must be warn or raise")
        problems.check(stop_on is None or stop_on in GRAVITY[1:], "stop_on", "must be WARNING or COLLAPSE")
        problems.check(stop_on is not None or not raise_at_end, "raise_at_end", "needs stop_on")
        problems.check(generation is None or generation >= 0, "generation", "must be 0 or more")
        problems.raise_any()
        self._questions = Questions(
            prompts=as_prompts(prompts), heldout=as_documents(heldout), sampling=sampling or SamplingSpec()
        )
        self._monitor = monitor_name(monitor)
        self._connect: Callable[[], SyncMonitors] = lambda: SyncMonitors(coordinator, patience)
        self._ensure = ensure
        self._first = generation
        self._every = every
        self._stop_on = stop_on
        self._raise_at_end = raise_at_end
        self._description = description
        self._synthetic_share = synthetic_share
        self._processing_class = processing_class
        self._on_error = on_error
        self._training = False
        self._recorded_step: int | None = None
        self._grave = False
        self.generations: list[MonitorGeneration] = []
        """What was recorded in this training, in its order; empty in processes other than the first."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Try out what will be needed: it should not fail only after hours of training."""
        self._training, self._recorded_step, self._grave = True, None, False
        self.generations = []
        self._guarded(state, lambda: self._prepare(args, **kwargs))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the model if each epoch is a generation."""
        if self._every == "epoch":
            self._record(args, state, control, epochs_done(state), **kwargs)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the model if each evaluation is a generation; one over several data sets counts once."""
        if self._every == "evaluate" and self._training and self._recorded_step != state.global_step:
            self._record(args, state, control, len(evaluated_steps(state)), **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Record the trained model, and say so if it is not to be used.

        Raises:
            CollapseDetected: its verdict is as grave as `stop_on`, and that was asked for.
        """
        # The best model, loaded at the end, is not the one of the last step.
        if self._recorded_step != state.global_step or args.load_best_model_at_end:
            self._record(args, state, control, self._count_at_end(args, state), **kwargs)
        self._training = False
        if self._raise_at_end and self._grave:
            newest = self.generations[-1] if self.generations else None
            raise CollapseDetected(newest.sentence if newest else "the monitor found collapse", newest)

    def _count_at_end(self, args: Any, state: Any) -> int:
        """Return which recording of this training the trained model is."""
        if self._every == "train":
            return 1
        steps = evaluated_steps(state)
        counted = len(steps) if self._every == "evaluate" else epochs_done(state)
        told_already = self._every == "epoch" or steps[-1:] == [state.global_step]
        return counted if told_already and not args.load_best_model_at_end else counted + 1

    def _record(self, args: Any, state: Any, control: Any, count: int, **kwargs: Any) -> None:
        """Record the `count`-th generation of this training, and stop it if the verdict says so."""
        self._recorded_step = state.global_step
        self._guarded(state, lambda: self._report(args, state, count, **kwargs))
        # Every process leaves the loop or none: a single one would wait for the others for ever.
        self._grave = agreed(self._is_grave(), args)
        if self._grave:
            control.should_training_stop = True

    def _guarded(self, state: Any, work: Callable[[], None]) -> None:
        """Do something in the first process; what fails there does not end a training unless that was asked for."""
        if not state.is_world_process_zero:
            return
        try:
            work()
        except Exception as error:  # whatever it is, hours of training are worth more than one generation of a monitor
            if self._on_error == "raise":
                raise
            told = error.message if isinstance(error, OuroscopeError) else type(error).__name__
            log.warning("monitor.not_recorded", monitor=self._monitor, step=state.global_step, error=told)

    def _prepare(self, args: Any, **kwargs: Any) -> None:
        self._asked(args, **kwargs)
        with self._connect() as monitors:
            self._number(monitors, 1)

    def _asked(self, args: Any, model: Any = None, processing_class: Any = None, **_: Any) -> Asked:
        refuse_shards(args)
        return Asked(model, self._processing_class or processing_class, self._questions)

    def _report(self, args: Any, state: Any, count: int, **kwargs: Any) -> None:
        asked = self._asked(args, **kwargs)
        with self._connect() as monitors:
            number = self._number(monitors, count)
            said = asked.answers(number)
            recorded = monitors.record_generation(
                self._monitor,
                number,
                said.documents,
                said.next_tokens,
                said.texts,
                description=f"{self._description} step {state.global_step}".strip(),
                synthetic_share=self._synthetic_share,
            )
        self.generations.append(recorded)
        verdict = recorded.verdict.value if recorded.verdict else "BASELINE"
        log.info("monitor.recorded", generation=recorded.name, step=state.global_step, verdict=verdict)

    def _number(self, monitors: SyncMonitors, count: int) -> int:
        if self._ensure:
            ensured(monitors, self._monitor)
        newest = monitors.get_monitor(self._monitor).newest
        first: int = (newest.number + 1 if newest else 0) if self._first is None else self._first
        self._first = first
        return first + count - 1

    def _is_grave(self) -> bool:
        verdict = self.generations[-1].verdict if self.generations else None
        return self._stop_on is not None and verdict is not None and reaches(verdict, self._stop_on)


def epochs_done(state: Any) -> int:
    """Return the number of the epoch that ends now; a last one may be cut short."""
    return math.ceil(float(state.epoch) - 1e-6)


def evaluated_steps(state: Any) -> list[int]:
    """Return the steps at which the history of a training has evaluations; one over several data sets counts once."""
    return sorted({entry["step"] for entry in state.log_history if any(key.startswith("eval_") for key in entry)})


def refuse_shards(args: Any) -> None:
    """Refuse weights that are spread over processes: one process alone would wait for the others for ever.

    Raises:
        CapabilityMissing: the training uses FSDP or DeepSpeed's ZeRO.
    """
    if args.fsdp or args.deepspeed:
        raise CapabilityMissing("a model whose weights are spread over processes cannot be asked; record it afterwards")


def agreed(answer: bool, args: Any) -> bool:
    """Return in every process what the first one says."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return answer
    told = torch.tensor([int(answer)], device=args.device)
    torch.distributed.broadcast(told, src=0)
    return bool(told.item())

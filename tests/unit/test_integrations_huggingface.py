"""The callback of the Trainer: trainings go on as without it, and the model is asked as the generator would ask it."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from tokenizers import ByteLevelBPETokenizer  # noqa: E402 (after the checks that the extra is installed)
from transformers import (  # noqa: E402
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from ouroscope.canonical import to_plain  # noqa: E402
from ouroscope.corpora.openings import openings  # noqa: E402
from ouroscope.corpora.stored import write_corpus  # noqa: E402
from ouroscope.errors import CapabilityMissing, InvalidRequest, NotFound, PreconditionFailed, Unavailable  # noqa: E402
from ouroscope.integrations.huggingface import CollapseCallback, CollapseDetected  # noqa: E402
from ouroscope.integrations.huggingface.answers import Asked  # noqa: E402
from ouroscope.integrations.huggingface.callback import refuse_shards  # noqa: E402
from ouroscope.integrations.huggingface.questions import Questions, as_documents, as_prompts  # noqa: E402
from ouroscope.integrations.huggingface.undisturbed import undisturbed  # noqa: E402
from ouroscope.predictions import read_next_tokens, read_scored_texts  # noqa: E402
from ouroscope.records.analysis import Verdict  # noqa: E402
from ouroscope.records.artifacts import ArtifactKind  # noqa: E402
from ouroscope.records.documents import Document, Origin, View  # noqa: E402
from ouroscope.records.generation import PromptUnit, SamplingSpec, Score  # noqa: E402
from ouroscope.records.monitors import Monitor  # noqa: E402
from ouroscope.store import ArtifactStore  # noqa: E402
from services.generator.in_process.backend import HfBackend  # noqa: E402
from services.generator.scoring import score  # noqa: E402
from tests.toy_monitors import ToyMonitors, toy_monitors  # noqa: E402
from tests.unit.generator.conftest import NotingTask  # noqa: E402

END = "<|end|>"
TEXTS = tuple(
    f"The {creature} swallows its own tail for the {ordinal} time, and calls the taste of it the whole wide world."
    for creature in ("serpent", "model", "library", "mirror", "café")
    for ordinal in ("first", "second", "third", "naïve 🐍")
)
FEW = SamplingSpec(max_new_tokens=6, batch_size=8)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_tokenizer() -> Any:
    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(TEXTS, vocab_size=320, show_progress=False, special_tokens=[END])
    return PreTrainedTokenizerFast(
        tokenizer_object=learner._tokenizer,
        bos_token=END,
        eos_token=END,
        pad_token=END,
        clean_up_tokenization_spaces=False,
    )


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return small_tokenizer()


def small_model(**changes: Any) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    limits = {"vocab_size": 320, "max_position_embeddings": 96, "bos_token_id": 0, "eos_token_id": 0}
    torch.manual_seed(0)
    # Dropout draws random numbers in training: a callback that moved the random state would change the weights.
    config = LlamaConfig(**shape, **limits, **{"initializer_range": 0.3, "attention_dropout": 0.3, **changes})
    return LlamaForCausalLM(config)


Train = Callable[..., Any]


def small_trainer(tokenizer: Any, output: Path, *callbacks: Any, **changes: Any) -> Any:
    """A training of two epochs of two steps, if one process does it."""
    data = [tokenizer(text, padding="max_length", max_length=48, truncation=True) for text in TEXTS[:8]]
    rows = [{**row, "labels": row["input_ids"]} for row in data]
    plain = {"num_train_epochs": 2, "per_device_train_batch_size": 4, "save_strategy": "no", "seed": 5}
    quiet = {"report_to": [], "disable_tqdm": True, "use_cpu": True, "logging_strategy": "no"}
    return Trainer(
        model=small_model(),
        args=TrainingArguments(output_dir=str(output), **{**plain, **quiet, **changes}),
        train_dataset=rows,
        eval_dataset=rows[:2],
        processing_class=tokenizer,
        callbacks=list(callbacks),
    )


@pytest.fixture
def train(tokenizer: Any, tmp_path: Path) -> Train:
    """Train a small model, with and without callbacks; return the trainer."""

    def run(*callbacks: Any, resume: bool = False, **changes: Any) -> Any:
        trainer = small_trainer(tokenizer, tmp_path / "out", *callbacks, **changes)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


@pytest.fixture
def toy() -> Iterator[ToyMonitors]:
    with toy_monitors() as toy:
        toy.monitors["monitors/m"] = Monitor(name="monitors/m")
        yield toy


@pytest.fixture
def watch(toy: ToyMonitors) -> Callable[..., CollapseCallback]:
    def make(**options: Any) -> CollapseCallback:
        prompts = options.pop("prompts", list(openings(TEXTS, 5)))
        return CollapseCallback("m", prompts, **{"sampling": FEW, "coordinator": toy.address, **options})

    return make


def weights(trainer: Any) -> list[Any]:
    return [parameter.detach().clone() for parameter in trainer.model.parameters()]


@pytest.mark.parametrize("every", ["train", "epoch", "evaluate"])
def test_a_training_that_is_watched_ends_with_the_same_bits(train: Train, watch: Any, toy: ToyMonitors, every: Any):
    rhythm = {"eval_strategy": "steps", "eval_steps": 1} if every == "evaluate" else {}
    plain = weights(train(**rhythm))
    watched = weights(train(watch(every=every, heldout=TEXTS), **rhythm))
    assert len(toy.told) == {"train": 1, "epoch": 2, "evaluate": 4}[every]
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))


def disturb(model: Any) -> None:
    """Draw random numbers while a model is asked, and fail."""
    with undisturbed(model):
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        torch.manual_seed(7)
        random.seed(7)
        np.random.seed(7)
        raise KeyError


def test_modes_and_random_states_come_back_also_after_a_failure():
    model = small_model().train()
    model.lm_head.eval()
    before = [module.training for module in model.modules()]
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    drawn = (torch.rand(1).item(), random.random(), np.random.rand())
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)
    with pytest.raises(KeyError):
        disturb(model)
    assert [module.training for module in model.modules()] == before
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == drawn
    assert torch.is_grad_enabled()


def test_the_same_weights_say_the_same_and_another_generation_draws_anew(tokenizer: Any):
    asked = Asked(small_model(), tokenizer, Questions(prompts=tuple(openings(TEXTS, 5)), sampling=FEW))
    assert asked.answers(1) == asked.answers(1)
    first, second = asked.answers(1), asked.answers(2)
    assert first.next_tokens == second.next_tokens
    assert [one.text for one in first.documents] != [one.text for one in second.documents]


def test_a_continuation_is_a_document_whose_prefix_is_the_prompt(tokenizer: Any):
    prompts = [Document(id=f"p{n}", text=text, group=f"g{n % 3}", domain="fables") for n, text in enumerate(TEXTS)]
    questions = Questions(prompts=as_prompts(openings(prompts, 5)), sampling=FEW)
    documents = Asked(small_model(), tokenizer, questions).answers(3).documents
    assert [one.prompt_id for one in documents] == [one.id for one in prompts]
    assert {(one.origin, one.generation, one.domain) for one in documents} == {(Origin.SYNTHETIC, 3, "fables")}
    assert [one.group for one in documents] == [one.group for one in prompts]
    assert all(
        text.startswith(one.text[: one.prefix_length]) and len(one.text[: one.prefix_length].split()) == 5
        for one, text in zip(documents, TEXTS, strict=True)
    )
    assert all(one.visible(View.CONTINUATION) for one in documents)


def test_batches_of_any_size_expect_the_same(tokenizer: Any):
    model, prompts = small_model(), tuple(openings(TEXTS, 5))
    one, many = (
        Asked(model, tokenizer, Questions(prompts=prompts, sampling=SamplingSpec(max_new_tokens=1, batch_size=size)))
        for size in (1, 8)
    )
    for a, b in zip(one.answers(0).next_tokens, many.answers(0).next_tokens, strict=True):
        assert a.entropy == pytest.approx(b.entropy, abs=1e-4)
        assert a.top_probabilities == pytest.approx(b.top_probabilities, abs=1e-5)


def test_it_says_of_a_model_what_the_generator_says_of_it(tokenizer: Any, tmp_path: Path):
    """The generator is the oracle: its own numbers are tested against a naive reference."""
    model = small_model().eval()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    store = ArtifactStore(tmp_path / "store")
    ref = store.publish(ArtifactKind.MODEL, None, {path.name: path for path in (tmp_path / "model").iterdir()}, {})
    documents = as_documents(TEXTS)
    corpus = write_corpus(store, documents)
    request = Score(
        model=ref,
        prompts=corpus,
        prompt_length=5,
        prompt_unit=PromptUnit.WORDS,
        heldout=corpus,
        max_tokens=30,
        last_n=8,
    )
    request = __import__("dataclasses").replace(request, batch_size=4)
    scored = score(store, HfBackend(store, device="cpu", threads=1), request, NotingTask())
    questions = Questions(
        prompts=tuple(openings(documents, 5)), heldout=documents, sampling=FEW, heldout_tokens=30, last_n=8
    )
    said = Asked(model, tokenizer, questions).answers(0)
    for ours, theirs in zip(said.next_tokens, read_next_tokens(store, scored.predictions), strict=True):
        assert (ours.prompt_id, ours.cluster, ours.true_rank) == (theirs.prompt_id, theirs.cluster, theirs.true_rank)
        assert ours.entropy == pytest.approx(theirs.entropy, abs=1e-4)
        assert ours.top_probabilities == pytest.approx(theirs.top_probabilities, abs=1e-5)
        assert ours.true_probability == pytest.approx(theirs.true_probability, abs=1e-5)
    for mine, other in zip(said.texts, read_scored_texts(store, scored.predictions), strict=True):
        assert mine.log_probability == pytest.approx(other.log_probability, rel=1e-4)
        assert {**to_plain(mine), "log_probability": 0} == {**to_plain(other), "log_probability": 0}


def test_habits_of_the_model_do_not_reach_its_answers(tokenizer: Any):
    """A model may come with penalties that hide repetition, the very thing that is watched."""
    plain, habitual = small_model(), small_model()
    habitual.generation_config.update(repetition_penalty=5.0, no_repeat_ngram_size=2, temperature=0.1, num_beams=2)
    questions = Questions(prompts=tuple(openings(TEXTS, 5)), sampling=FEW)
    assert Asked(habitual, tokenizer, questions).answers(0) == Asked(plain, tokenizer, questions).answers(0)


def test_the_tokenizer_of_the_training_is_left_as_it_is(tokenizer: Any):
    told = tokenizer.backend_tokenizer.to_str()
    Asked(small_model(), tokenizer, Questions(prompts=as_prompts(TEXTS), sampling=FEW)).answers(0)
    assert tokenizer.backend_tokenizer.to_str() == told


def test_numbers_go_on_from_the_newest_generation_of_the_monitor(train: Train, watch: Any, toy: ToyMonitors):
    train(watch())
    train(watch(description="nightly", synthetic_share=0.5))
    train(watch(every="epoch"))
    assert [one.number for one in toy.told] == [0, 1, 2, 3]
    assert (toy.told[1].description, toy.told[1].synthetic_share) == ("nightly step 4", 0.5)


def test_an_evaluation_in_the_last_step_is_the_trained_model(train: Train, watch: Any, toy: ToyMonitors):
    train(watch(every="evaluate", generation=10), eval_strategy="steps", eval_steps=3)
    assert [(one.number, one.description) for one in toy.told] == [(10, "step 3"), (11, "step 4")]
    toy.told.clear()
    trainer = train(watch(every="evaluate", generation=20), eval_strategy="epoch")
    trainer.evaluate()
    assert [(one.number, one.description) for one in toy.told] == [(20, "step 2"), (21, "step 4")]


def test_a_resumed_training_goes_on_with_its_numbers(train: Train, watch: Any, toy: ToyMonitors, tmp_path: Path):
    train(watch(every="epoch", generation=7), save_strategy="steps", save_steps=3)
    whole = {one.number: one.documents for one in toy.told}
    again = {"save_strategy": "steps", "save_steps": 3, "resume": True}
    shutil.rmtree(tmp_path / "out/checkpoint-4")
    train(watch(every="epoch", generation=7), **again)
    train(watch(every="epoch", generation=7), **again)
    assert [(one.number, one.description) for one in toy.told[2:]] == [(8, "step 4"), (8, "step 4")]
    assert toy.told[2].documents == whole[8]


def test_a_grave_verdict_stops_the_training_and_can_end_it_with_an_error(train: Train, watch: Any, toy: ToyMonitors):
    toy.verdicts = [None, Verdict.WARNING, Verdict.COLLAPSE]
    watching = watch(every="epoch", stop_on=Verdict.COLLAPSE)
    assert train(watching, num_train_epochs=9).state.global_step == 6
    assert [one.verdict for one in watching.generations] == [None, Verdict.WARNING, Verdict.COLLAPSE]
    toy.verdicts = [Verdict.STABLE, Verdict.WARNING]
    with pytest.raises(CollapseDetected, match=r"It is WARNING\.") as caught:
        train(watch(every="epoch", stop_on=Verdict.WARNING, raise_at_end=True), num_train_epochs=9)
    assert caught.value.generation.number == 4


def test_what_cannot_be_judged_stops_nothing(train: Train, watch: Any, toy: ToyMonitors):
    toy.verdicts = [Verdict.INSUFFICIENT_DATA] * 2
    assert train(watch(every="epoch", stop_on=Verdict.WARNING, raise_at_end=True)).state.global_step == 4


def test_a_monitor_that_fails_does_not_end_the_training_unless_asked(train: Train, watch: Any, toy: ToyMonitors):
    toy.failure = PreconditionFailed("it is paused")
    with capture_logs() as logs:
        assert train(watch()).state.global_step == 4
    (told,) = [line for line in logs if line["event"] == "monitor.not_recorded"]
    assert (told["error"], told["step"], told["monitor"]) == ("it is paused", 4, "monitors/m")
    with pytest.raises(PreconditionFailed, match="it is paused"):
        train(watch(on_error="raise"))


def test_what_will_fail_is_told_before_the_training(train: Train, watch: Any, toy: ToyMonitors):
    steps: list[int] = []

    class Counting(transformers.TrainerCallback):  # type: ignore[misc,name-defined]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            steps.append(state.global_step)

    toy.monitors.clear()
    with pytest.raises(NotFound):
        train(watch(on_error="raise"), Counting())
    with pytest.raises(InvalidRequest, match="does not fit into the model's context of 96"):
        train(watch(on_error="raise", sampling=SamplingSpec(max_new_tokens=90)), Counting())
    with pytest.raises(CapabilityMissing, match="causal"):
        Asked(torch.nn.Linear(2, 2), None, Questions(prompts=as_prompts(TEXTS)))
    with pytest.raises(CapabilityMissing, match="processing_class"):
        Asked(small_model(), None, Questions(prompts=as_prompts(TEXTS)))
    with pytest.raises(Unavailable):
        train(watch(on_error="raise", coordinator="127.0.0.1:1"), Counting())
    assert steps == []


def test_a_monitor_can_be_made_with_the_first_generation(train: Train, watch: Any, toy: ToyMonitors):
    toy.monitors.clear()
    train(watch(ensure=True))
    assert list(toy.monitors) == ["monitors/m"]
    assert toy.told[0].number == 0


def test_a_training_that_diverged_is_told_as_such(tokenizer: Any):
    model = small_model()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    asked = Asked(model, tokenizer, Questions(prompts=as_prompts(TEXTS), sampling=FEW))
    with pytest.raises(PreconditionFailed, match="diverged"):
        asked.answers(0)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"every": "step"}, "every"),
        ({"on_error": "ignore"}, "on_error"),
        ({"stop_on": Verdict.STABLE}, "stop_on"),
        ({"raise_at_end": True}, "raise_at_end"),
        ({"generation": -1}, "generation"),
        ({"prompts": []}, "prompts"),
        ({"prompts": [""]}, "prompts"),
        ({"prompts": ["twice", "twice"]}, "prompts"),
    ],
)
def test_impossible_choices_are_refused_at_once(options: dict[str, Any], field: str):
    with pytest.raises(InvalidRequest) as caught:
        CollapseCallback("m", options.pop("prompts", TEXTS), **options)
    assert [problem.field for problem in caught.value.problems] == [field]


ONE_OF_TWO = """
import sys
from pathlib import Path
from ouroscope.corpora.openings import openings
from ouroscope.integrations.huggingface import CollapseCallback, CollapseDetected
from ouroscope.records.analysis import Verdict
from tests.unit.test_integrations_huggingface import FEW, TEXTS, small_tokenizer, small_trainer

watching = CollapseCallback(
    "m", openings(TEXTS, 5), sampling=FEW, coordinator=sys.argv[1], every="epoch", stop_on=Verdict.COLLAPSE,
    raise_at_end=True,
)
trainer = small_trainer(small_tokenizer(), Path(sys.argv[2]), watching, num_train_epochs=9)
try:
    trainer.train()
except CollapseDetected as error:
    told = "collapse"
print("RESULT", trainer.args.world_size, trainer.state.global_step, len(watching.generations), told)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_of_several_processes_one_records_and_all_stop(toy: ToyMonitors, root: Path, tmp_path: Path):
    toy.verdicts = [None, Verdict.STABLE, Verdict.COLLAPSE]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = []
    for rank in ("0", "1"):
        environment = {**os.environ, **place, "PYTHONPATH": str(root), "RANK": rank, "LOCAL_RANK": rank}
        command = [sys.executable, "-c", ONE_OF_TWO, toy.address, str(tmp_path / rank)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, env=environment, **pipes))
    outputs = [process.communicate(timeout=500)[0] for process in processes]
    results = [[line for line in output.splitlines() if line.startswith("RESULT")] for output in outputs]
    assert results == [["RESULT 2 3 3 collapse"], ["RESULT 2 3 0 collapse"]], outputs
    assert [one.number for one in toy.told] == [0, 1, 2]


@pytest.mark.parametrize("shards", [{"fsdp": ["full_shard"]}, {"deepspeed": {"zero_optimization": {"stage": 3}}}])
def test_a_model_that_is_spread_over_processes_is_not_asked(shards: dict[str, Any]):
    with pytest.raises(CapabilityMissing, match="spread over processes"):
        refuse_shards(SimpleNamespace(**{"fsdp": [], "deepspeed": None, **shards}))

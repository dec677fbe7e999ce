"""Several processes as one: shares of a batch, shards of tensors, and checkpoints that count together or not at all."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ouroscope.errors import Cancelled, CapabilityMissing, StorageFull, Unavailable
from ouroscope.records.artifacts import ArtifactKind, ArtifactRef
from ouroscope.records.training import BaseWeights, LoraSpec, Method, Optimizer, Recipe
from ouroscope.store import Draft
from ouroscope.stored_models import StoredModel
from services.trainer.checkpoints import decoded, encoded
from services.trainer.course import Course
from services.trainer.environment import check_able, prepare
from services.trainer.finetune import train, trainable
from services.trainer.group.shards import LATEST, ShardedCheckpoints
from services.trainer.heldout import Heldout
from services.trainer.objective import counted_tokens
from services.trainer.opening import open_learner, open_model
from services.trainer.packing import DocumentList, packed_blocks
from services.trainer.world import Alone, Group, plain_number, share_of, whole_tensor

RECIPE = Recipe(steps=6, batch_size=2, block_tokens=16, learning_rate=5e-3, checkpoint_steps=3)
MODEL = ArtifactRef(ArtifactKind.MODEL, "0" * 64)
DOCUMENTS = DocumentList([[5, 6, 7, 8, 9], [10, 11], [12, 13, 14]])


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 5))
def test_the_shares_of_all_processes_are_the_batch_and_every_process_has_as_many_blocks(blocks, size):
    batch = torch.arange(blocks * 4).reshape(blocks, 4)
    shares = [share_of(batch, rank, size) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    assert torch.equal(torch.cat(shares)[:blocks], batch)
    assert counted_tokens(shares) == counted_tokens([batch])


def test_alone_everything_is_as_it_was():
    world, batch = Alone(), torch.ones(2, 3)
    assert world.share(batch) is batch
    assert world.mean(1, 2.5) == (1, 2.5)
    assert world.together(lambda: "done") == "done"


@pytest.fixture
def group(monkeypatch) -> Iterator[Group]:
    """A group of this process only: the library's way of doing things, without another process."""
    place = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    told = {**place, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        world = Group()
        world.settle("cpu")
        yield world
        world.close()


class Nowhere:
    def restore(self, weights, optimizer):
        return Course()

    def save(self, weights, optimizer, course): ...


def learnt(directory, environment, world, memory, control):
    return taught(open_model(directory, environment), environment, world, memory, control, RECIPE)


def taught(model, environment, world, memory, control, recipe):
    environment = world.place(model, environment) if isinstance(world, Group) else environment
    moving = trainable(model)
    course = train(
        model,
        lambda first: packed_blocks(DOCUMENTS, block_tokens=recipe.block_tokens, end=0, seed=0, first=first),
        recipe,
        environment,
        vocabulary=320,
        memory=memory,
        control=control,
        clock=lambda: 0.0,
        heldout=Heldout(DOCUMENTS, recipe, end=0) if recipe.heldout_steps else None,
        world=world,
    )
    return course, {name: whole_tensor(weight) for name, weight in moving.items()}


def test_a_group_of_one_process_learns_to_the_bit_what_a_process_alone_learns(
    group, model_directory, environment, make_control
):
    exact = replace(environment, precision="float32")
    alone, expected = learnt(model_directory, exact, Alone(), Nowhere(), make_control())
    together, weights = learnt(model_directory, exact, group, Nowhere(), make_control())
    assert together.losses == alone.losses
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_group_in_low_precision_gathers_low_weights_and_keeps_full_ones(
    group, model_directory, environment, make_control
):
    low = replace(environment, precision="bfloat16")
    course, weights = learnt(model_directory, low, group, Nowhere(), make_control())
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    assert course.losses[-1] < course.losses[0]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator that torch can use")
def test_a_group_of_one_process_on_an_accelerator_learns_about_what_a_process_alone_learns(
    group, model_directory, make_control
):
    environment = prepare(threads=1, device="cuda")
    alone, _ = learnt(model_directory, environment, Alone(), Nowhere(), make_control())
    group.settle("cuda")
    together, _ = learnt(model_directory, environment, group, Nowhere(), make_control())
    assert together.losses == pytest.approx(alone.losses, rel=0.05)


def test_adapters_over_a_base_of_another_number_type_are_sharded_with_it(
    group, model_directory, environment, make_control
):
    lora = replace(RECIPE, method=Method.LORA, lora=LoraSpec(rank=2, base_weights=BaseWeights.BFLOAT16))
    stored = StoredModel(ref=MODEL, whole=MODEL, directory=model_directory)
    exact = replace(environment, precision="float32")
    (alone, expected), (together, weights) = (
        taught(open_learner(stored, lora, exact), exact, world, Nowhere(), make_control(), lora)
        for world in (Alone(), group)
    )
    assert together.losses == alone.losses
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_group_keeps_the_best_weights_on_held_out_text_also_in_its_checkpoint(
    group, store, model_directory, environment, make_control
):
    # So large a rate that nothing after the first evaluation is as good again.
    recipe = replace(RECIPE, steps=12, learning_rate=0.5, warmup_share=0, heldout_steps=1, patience=2)
    exact = replace(environment, precision="float32")
    alone, expected = taught(open_model(model_directory, exact), exact, Alone(), Nowhere(), make_control(), recipe)
    assert alone.steps < recipe.steps
    for control in (make_control(stop_after=2), make_control()):
        with contextlib.suppress(Cancelled):
            memory = ShardedCheckpoints(store.draft("c"), group)
            together, weights = taught(open_model(model_directory, exact), exact, group, memory, control, recipe)
    assert (together.losses, together.heldout) == (alone.losses, alone.heldout)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_group_that_was_stopped_goes_on_from_its_shards_to_the_same_bits(
    group, store, model_directory, environment, make_control
):
    _, expected = learnt(model_directory, environment, group, Nowhere(), make_control())
    memory = ShardedCheckpoints(store.draft("a"), group)
    with pytest.raises(Cancelled):
        learnt(model_directory, environment, group, memory, make_control(stop_after=4))
    control = make_control()
    _, weights = learnt(model_directory, environment, group, ShardedCheckpoints(store.draft("a"), group), control)
    assert control.steps == [5, 6]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_shards_written_as_plain_values_are_read_by_the_safe_loader_and_become_shards_again(
    group, model_directory, environment
):
    model = open_model(model_directory, environment)
    group.place(model, environment)
    weights = dict(islice(trainable(model).items(), 2))
    state = {"weights": {name: weight.detach() for name, weight in weights.items()}, "steps": [1, (2, None)]}
    again = group.sharded(decoded(encoded(group.plain(state))))
    assert again["steps"] == [1, (2, None)]
    for name, weight in weights.items():
        assert type(again["weights"][name]) is type(weight.data)
        assert torch.equal(again["weights"][name].full_tensor(), weight.full_tensor())
    assert plain_number(torch.tensor(2.5)) == 2.5


class Threads:
    """A world of threads: what one of them cannot do, none of them has done."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, failed: list[bool]) -> None:
        self.rank, self.size, self._barrier, self._failed = rank, size, barrier, failed

    def mean(self, *numbers: float) -> tuple[float, ...]:
        self._failed[self.rank] = bool(numbers[0])
        self._barrier.wait(5)
        mean = sum(self._failed) / self.size
        self._barrier.wait(5)
        return (mean,)

    together = Group.together

    def plain(self, state):
        return state

    sharded = plain


def by_all(size, work):
    """Do `work` in each thread of a world; return what came of it, errors too."""
    barrier, failed, outcomes = threading.Barrier(size), [False] * size, [None] * size

    def run(rank):
        try:
            outcomes[rank] = work(Threads(rank, size, barrier, failed))
        except (StorageFull, Unavailable) as error:
            outcomes[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def saved(store, steps, full_for=None):
    def work(world):
        weight = torch.nn.Parameter(torch.full((2,), float(steps)))
        optimizer = torch.optim.SGD([weight])
        memory = ShardedCheckpoints(TooSmall(store.draft("b")) if world.rank == full_for else store.draft("b"), world)
        memory.restore({"w": torch.nn.Parameter(torch.zeros(2))}, torch.optim.SGD([weight]))
        memory.save({"w": weight}, optimizer, Course(losses=[1.0] * steps))

    return work


def restored(store):
    def work(world):
        weight = torch.nn.Parameter(torch.zeros(2))
        course = ShardedCheckpoints(store.draft("b"), world).restore({"w": weight}, torch.optim.SGD([weight]))
        return course.steps, weight.tolist()

    return work


class TooSmall:
    """A draft without room."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def has(self, name):
        return self._draft.has(name)

    def read(self, name):
        return self._draft.read(name)

    def write(self, name, data):
        raise StorageFull("no room")


@pytest.mark.parametrize("full_for", [0, 1])
def test_a_disk_that_is_full_for_one_process_leaves_all_of_them_the_checkpoint_before(store, full_for):
    assert by_all(2, saved(store, 4)) == [None, None]
    outcomes = by_all(2, saved(store, 8, full_for))
    assert isinstance(outcomes[full_for], StorageFull)
    assert isinstance(outcomes[1 - full_for], Unavailable)
    assert by_all(2, restored(store)) == [(4, [4.0, 4.0])] * 2


def test_a_newer_checkpoint_takes_the_place_of_the_one_before(store):
    for steps in (4, 8, 12):
        by_all(2, saved(store, steps))
    assert by_all(2, restored(store)) == [(12, [12.0, 12.0])] * 2
    assert len(store.draft("b").names()) == 5


def test_a_checkpoint_with_a_damaged_part_or_of_another_number_of_processes_is_passed_over_by_all(store):
    by_all(2, saved(store, 4))
    assert by_all(3, restored(store)) == [(0, [0.0, 0.0])] * 3
    store.draft("b").write("checkpoint-1-00001.pt", b"damaged")
    assert by_all(2, restored(store)) == [(0, [0.0, 0.0])] * 2
    assert store.draft("b").has(LATEST)


def test_what_one_process_refuses_stops_the_others(store):
    def work(world):
        def fail():
            if world.rank == 1:
                raise StorageFull("no room")

        return world.together(fail)

    first, second = by_all(2, work)
    assert isinstance(first, Unavailable)
    assert isinstance(second, StorageFull)


def test_an_optimizer_that_cannot_be_sharded_is_refused_before_anything_is_started(environment):
    check_able(replace(RECIPE, optimizer=Optimizer.ADAFACTOR), environment)
    with pytest.raises(CapabilityMissing, match=r"ADAFACTOR works in one process only"):
        check_able(replace(RECIPE, optimizer=Optimizer.ADAFACTOR, processes=2, method=Method.FULL), environment)

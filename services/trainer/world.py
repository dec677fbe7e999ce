"""Who trains: one process alone, or several that each hold a part of every weight. Knows tensors; nothing of recipes.

In several processes the model is sharded by FSDP2 (`fully_shard`), one unit per transformer block and one for the rest:
a block is gathered when it is needed and given back afterwards, so each process holds a share of weights, gradients and
optimiser state, and one whole block at a time. FSDP2 averages gradients over the processes, so what a process divides
its losses by is an average as well.

Shapes: B = blocks of one micro-step, T = tokens of a block.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard

from ouroscope.errors import OuroscopeError, Unavailable
from services.trainer.environment import Environment

T = TypeVar("T")

_PART = "part of a tensor"
"""Key that marks the plain form of a sharded tensor."""
_CONTEXT = ~0
"""A token that counts nowhere."""


class World(Protocol):
    """The processes that train one model together, seen from one of them. Every method but `share` is made by all."""

    @property
    def rank(self) -> int:
        """Return the number of this process, from 0."""

    @property
    def size(self) -> int:
        """Return how many there are."""

    def share(self, batch_BT: torch.Tensor) -> torch.Tensor:
        """Return this process's blocks of a batch, equally many in each; what is missing counts nothing."""

    def mean(self, *numbers: float) -> tuple[float, ...]:
        """Return the means over all processes, the same to the last bit in each."""

    def together(self, work: Callable[[], T]) -> T:
        """Do something that may fail in one process and not in another.

        Raises:
            OuroscopeError: what it raised here.
            Unavailable: it failed in another process only.
        """

    def plain(self, state: Any) -> Any:
        """Return `state` with this process's part in place of each sharded tensor."""

    def sharded(self, state: Any) -> Any:
        """Undo `plain`."""


class Alone:
    """One process: everything is its own, and nothing is changed on the way."""

    rank = 0
    size = 1

    def share(self, batch_BT: torch.Tensor) -> torch.Tensor:
        """See World."""
        return batch_BT

    def mean(self, *numbers: float) -> tuple[float, ...]:
        """See World."""
        return numbers

    def together(self, work: Callable[[], T]) -> T:
        """See World."""
        return work()

    def plain(self, state: Any) -> Any:
        """See World."""
        return state

    def sharded(self, state: Any) -> Any:
        """See World."""
        return state


class Group:
    """Processes that an agent of torchrun started, joined by torch.distributed.

    Tensors of a model travel by NCCL on GPUs and by gloo on processors; numbers always by gloo, as float64.
    """

    def __init__(self) -> None:
        """Join the others; returns when all are there."""
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._local_rank, self._local_size = (int(os.environ[f"LOCAL_{name}"]) for name in ("RANK", "WORLD_SIZE"))
        self._mesh: DeviceMesh | None = None

    def settle(self, device: str) -> None:
        """Take the device of this process: `cpu` or `cuda`."""
        if device == "cuda":
            torch.cuda.set_device(self._local_rank)
        self._mesh = init_device_mesh(device, (self.size,))

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do something one after another on each machine, so that its memory need hold it once.

        Raises:
            OuroscopeError: what it raised here.
            Unavailable: it failed in another process.
        """
        turns = range(self._local_size)
        outcomes = [self.together(work if turn == self._local_rank else _nothing) for turn in turns]
        mine: T = outcomes[self._local_rank]
        return mine

    def place(self, model: torch.nn.Module, environment: Environment) -> Environment:
        """Keep this process's part of the model, on its device; return what forward passes are made in.

        In low precision weights are gathered as such: no copy of them outlives their use, as those of autocast would.
        What flows between blocks is then in low precision too, which autocast keeps in float32.
        """
        low = None if environment.precision == "float32" else getattr(torch, environment.precision)
        policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32 if low else None)
        for block in _transformer_blocks(model):
            fully_shard(block, mesh=self._mesh, mp_policy=policy)
        fully_shard(model, mesh=self._mesh, mp_policy=policy)
        return replace(environment, precision="float32")

    def share(self, batch_BT: torch.Tensor) -> torch.Tensor:
        """See World."""
        return share_of(batch_BT, self.rank, self.size)

    def mean(self, *numbers: float) -> tuple[float, ...]:
        """See World."""
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return tuple((sums / self.size).tolist())

    def together(self, work: Callable[[], T]) -> T:
        """See World."""
        outcome, failure = _attempt(work)
        (failed,) = self.mean(failure is not None)
        if failed:
            raise failure or Unavailable("another process of the group stopped")
        return outcome  # type: ignore[return-value]  # without a failure there is an outcome

    def plain(self, state: Any) -> Any:
        """See World."""
        return _mapped(state, lambda leaf: _part(leaf) if isinstance(leaf, DTensor) else leaf)

    def sharded(self, state: Any) -> Any:
        """See World."""
        if isinstance(state, Mapping) and state.get(_PART):
            return self._whole(state)
        return _mapped(state, lambda leaf: leaf, inside=self.sharded)

    def _whole(self, part: Mapping[str, Any]) -> DTensor:
        if self._mesh is None:
            raise ValueError("nothing is sharded before a model is placed")
        placement = Replicate() if part["dimension"] is None else Shard(part["dimension"])
        local = part["local"].to(self._mesh.device_type)
        return DTensor.from_local(
            local, self._mesh, [placement], shape=torch.Size(part["shape"]), stride=tuple(part["stride"])
        )

    def tell(self, data: bytes) -> bytes:
        """Return the bytes that the first process has, in every process."""
        length = torch.tensor([len(data)])
        dist.broadcast(length, 0)
        content = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
        content = content if self.rank == 0 else torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(content, 0)
        return bytes(content.numpy())

    def close(self) -> None:
        """Leave the others."""
        dist.destroy_process_group()


def share_of(batch_BT: torch.Tensor, rank: int, size: int) -> torch.Tensor:
    """Return the blocks of one of `size` processes, as many as any other has; blocks that count nothing fill up.

    >>> share_of(torch.tensor([[1, 2], [3, 4], [5, 6]]), rank=1, size=2).tolist()
    [[5, 6], [-1, -1]]
    """
    rows = -(-len(batch_BT) // size)
    mine_BT = batch_BT[rank * rows : (rank + 1) * rows]
    missing_BT = batch_BT.new_full((rows - len(mine_BT), batch_BT.shape[1]), _CONTEXT)
    return torch.cat([mine_BT, missing_BT])


def plain_number(number: torch.Tensor) -> float:
    """Return a tensor of one element as a number, the same in every process."""
    return float(number.full_tensor() if isinstance(number, DTensor) else number)


def whole_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """Return all of a tensor in the memory of the processor; of a sharded one, made by every process."""
    whole: torch.Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().cpu().contiguous()


def _nothing() -> Any:
    """Do nothing, while it is another process's turn."""


def _transformer_blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules that the library says must not be split; none is fine: then the model is one unit."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    return [module for module in model.modules() if type(module).__name__ in names]


def _part(tensor: DTensor) -> dict[str, Any]:
    (placement,) = tensor.placements
    return {
        _PART: True,
        "local": tensor.to_local().detach(),
        "dimension": placement.dim if isinstance(placement, Shard) else None,
        "shape": list(tensor.shape),
        "stride": list(tensor.stride()),
    }


def _mapped(state: Any, leaf: Callable[[Any], Any], inside: Callable[[Any], Any] | None = None) -> Any:
    """Return a copy of nested mappings, lists and tuples with `leaf` of everything else."""
    inside = inside or (lambda part: _mapped(part, leaf))
    if isinstance(state, Mapping):
        return {key: inside(part) for key, part in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(inside(part) for part in state)
    return leaf(state)


def _attempt(work: Callable[[], T]) -> tuple[T | None, OuroscopeError | None]:
    try:
        return work(), None
    except OuroscopeError as failure:
        return None, failure

"""Starts the workers of one machine and looks after them: `python -m services.trainer.group.agent`.

What torchrun would do, and its agent does it. But torchrun starts programs, and each would import torch and its
relatives for itself, which takes seconds and hundreds of megabytes. Here they are imported once, and the workers are
forks of this process. A fork can use no GPU that its parent has asked for, and none at all works on macOS: there the
workers are started afresh.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ouroscope.memory import importing
from services.trainer.group.lifeline import end_with_supervisor

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

_NAME = "services.trainer.group.agent"


def command(meeting: str, *, nodes: int, node: int, local: int, logs: Path, folder: Path | None) -> list[str]:
    """Return the command that starts the workers of one machine.

    Args:
        meeting: `host:port` of the first machine.
        nodes: Machines.
        node: Number of this one, from 0.
        local: Processes on each.
        logs: Where torch may write.
        folder: What the supervisor shares with the workers; None on the other machines, since the first worker tells
            them all what to do.
    """
    options = {"meeting": meeting, "nodes": nodes, "node": node, "local": local, "logs": logs, "folder": folder}
    told = [f"--{name}={value}" for name, value in options.items() if value is not None]
    return [sys.executable, "-m", _NAME, *told]


def main(arguments: list[str]) -> int:
    """Work until all workers have ended; return 1 if one of them failed, and 0 also after an error that was told."""
    asked = _parser().parse_args(arguments)
    if asked.folder:
        end_with_supervisor(asked.folder)
    # Imported only now: torch takes seconds, in which the lifeline already holds.
    with importing():
        from torch.distributed.elastic.multiprocessing.api import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.launcher.api import elastic_launch

        # For the forks, which find it imported.
        from services.trainer.group import part  # noqa: F401
    try:
        elastic_launch(_configuration(asked), work)(asked.folder)
    except (ChildFailedError, SignalException):
        return 1
    return 0


def work(folder: Path | None) -> None:
    """Take part, as one of the workers; the exit status of the process says whether another attempt may help."""
    if folder:
        end_with_supervisor(folder)
    from services.trainer.group.part import take_part

    if status := take_part(folder):
        sys.exit(status)


def _configuration(asked: Namespace) -> LaunchConfig:
    import torch
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    return LaunchConfig(
        min_nodes=asked.nodes,
        max_nodes=asked.nodes,
        nproc_per_node=asked.local,
        run_id="group",
        # A meeting point that is told, since machines that find one another exchange pickles.
        rdzv_backend="static",
        rdzv_endpoint=asked.meeting,
        rdzv_configs={"rank": asked.node},
        max_restarts=0,
        start_method="fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn",
        logs_specs=DefaultLogsSpecs(log_dir=str(asked.logs)),
    )


def _parser() -> ArgumentParser:
    parser = ArgumentParser()
    parser.add_argument("--meeting", required=True)
    for name in ("nodes", "node", "local"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("logs", "folder"):
        parser.add_argument(f"--{name}", type=Path)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Where the processes of a group run: the operator's word, never a request's."""

from __future__ import annotations

from dataclasses import dataclass

from ouroscope.addresses import split_address
from ouroscope.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The machines that train together, and how many processes they take."""

    processes: int
    """Most processes of one group, on all machines together."""
    nodes: int = 1
    """Machines; the trainer's own is the first."""
    meeting: str = ""
    """`host:port` of the first machine, where the others find it; only with several."""

    def __post_init__(self) -> None:
        if self.nodes == 1:
            return
        split_address(self.meeting)
        if self.processes % self.nodes:
            raise InvalidRequest(
                f"OURO_TRAINER_MAX_PROCESSES is {self.processes}, which {self.nodes} machines cannot share equally; "
                "give a multiple of OURO_TRAINER_NODES"
            )

    @property
    def local(self) -> int:
        """Return the most processes on each machine."""
        return self.processes // self.nodes


def hosts_of(processes: int, nodes: int, meeting: str, here: int) -> Hosts:
    """Return the machines of these settings.

    Args:
        processes: On all machines together; 0 takes what every machine has if all are like this one.
        nodes: Machines.
        meeting: Where they meet; only with several.
        here: Processes that this machine can take.

    Raises:
        InvalidRequest: the settings do not fit together.
    """
    return Hosts(processes=processes or here * nodes, nodes=nodes, meeting=meeting)

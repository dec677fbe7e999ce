"""One of the processes that train together: `python -m services.trainer.group.worker [FOLDER]`, started by torchrun.

On the first machine every process has the supervisor's folder; on others none has, since the first process tells them
all what to do.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ouroscope.memory import importing
from services.trainer.group.lifeline import end_with_supervisor


def main(arguments: list[str]) -> int:
    """Train; return the exit status, which is 0 also after an error that was told."""
    folder = Path(arguments[0]) if arguments else None
    if folder:
        end_with_supervisor(folder)
    # Imported only now: torch takes seconds, in which the lifeline already holds.
    with importing():
        from services.trainer.group.part import take_part

    return take_part(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

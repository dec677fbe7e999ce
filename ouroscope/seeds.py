"""Seeds for every random choice, derived from one root. Knows nothing of what draws from them.

Drawing child seeds one after another would tie each to how many were drawn before; adding a seed to a root lets
neighbours meet (root 1, child 2 and root 2, child 1). A digest of the whole path has neither fault.
"""

from __future__ import annotations

from ouroscope.canonical import digest_of


def derive_seed(root: int, *path: str | int) -> int:
    """Return the seed of the thing that `path` names below `root`, in [0, 2**63).

    Depends on nothing else; different paths give different seeds in practice, and 1 and "1" are different paths.

    >>> derive_seed(7, "arm", 1) == derive_seed(7, "arm", 1) != derive_seed(7, "arm", 2)
    True
    """
    return int(digest_of("ouroscope.seeds/1", root, *path)[:16], 16) >> 1

"""Noise for sampling that is a pure function of (seed, document, position).

So a document's text does not depend on its neighbours in a batch, on the order of the documents or on what was
generated before a restart. Knows nothing of models.

The law of one draw: with integer masses m_0, m_1, ... of total M and noise u in [0, 2**32), token i is drawn where the
running sum first exceeds (u * M) >> 32. Integers, because their sums do not depend on the order of addition: floating
point sums differ between devices and between batch shapes.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

NOISE_BITS = 32
MASS_BITS = 30
"""Probabilities become integers in units of 2**-30; what is less probable than that is never drawn."""


def noise(seed: int, document: str, count: int) -> NDArray[np.int64]:
    """Return `count` independent uniform integers in [0, 2**32), the same for ever for one (seed, document).

    Position t of a document is element t, whatever `count` is.

    >>> (noise(1, "a", 3) == noise(1, "a", 9)[:3]).all()
    np.True_
    """
    name = f"ouroscope.noise/1\n{seed}\n{document}".encode()
    key = int.from_bytes(hashlib.sha256(name).digest()[:16], "little")
    # The raw stream of a bit generator is promised to be stable between versions of numpy; its distributions are not.
    raw = np.random.Philox(key=key).random_raw(count)
    return np.asarray(raw >> np.uint64(64 - NOISE_BITS), dtype=np.int64)

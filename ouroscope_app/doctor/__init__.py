"""Whether an installation is sound: small checks, each a reading and a judgement, and what to do about it."""

"""Documents as vectors of meaning, and what is computed from them. Only `encoder` knows torch."""

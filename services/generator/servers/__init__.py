"""Models that run in servers: what all of them share, and each kind by itself. Needs no torch."""

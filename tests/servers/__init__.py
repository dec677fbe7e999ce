"""Servers for tests: stand-ins that speak a kind's protocol and fail on demand, and real ones."""

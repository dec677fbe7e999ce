"""Adapters for pipelines that are not ours. Importing one needs what it adapts; importing this needs nothing."""

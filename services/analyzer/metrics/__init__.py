"""Metrics as pure functions of small summaries; each docstring is the data sheet of its metric."""

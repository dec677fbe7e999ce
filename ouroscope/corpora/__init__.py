"""Where human text comes from: the embedded corpus of docstrings, and readers of files and data sets."""

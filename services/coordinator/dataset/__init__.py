"""Human text of a run: each domain read once, dealt into prompts and held-out text, kept as corpora."""

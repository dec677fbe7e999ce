"""One folder per process: generator, trainer, analyzer, coordinator. None imports another."""

"""Models that run in this process with torch and transformers: the only code of the generator that imports torch."""

"""From text to trees: which pipeline parses, how texts are cut and spread over workers, what is kept as arrays."""

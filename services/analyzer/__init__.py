"""The analyzer: how diverse a text is, what a model expects next, and whether both have collapsed."""

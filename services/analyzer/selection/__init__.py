"""Which documents of a pool the next model is trained on: looked at one by one, taken by a rule, stored as a corpus."""

"""Several runs side by side: tidy tables, severity against the share of synthetic text, the cross-dataset matrix."""

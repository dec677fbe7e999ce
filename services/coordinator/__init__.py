"""Drives the autophagy loop, keeps its history and shows it to Prometheus."""

"""Monitors: retraining pipelines that others run, watched with the same measurements as runs."""

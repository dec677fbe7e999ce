"""Tests of the coordinator, and the workers that stand in for the real ones."""

"""Semantic networks: how they are built from words, and what is measured on them."""

"""The composition root: command line and embedded launcher. The only package that may import both sides."""

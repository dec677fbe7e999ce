"""Frozen values that cross module boundaries. Impossible ones cannot be built. Imports only `ouroscope.errors`."""

"""Experiment files: one specification, at several scales, along several axes; every problem told with its line.

`placed` remembers where each value was written, `changes` merges and sets, `cells` expands a sweep, `reading` does all
of it and lets the records and the plan judge what came out. Nothing here starts anything.
"""

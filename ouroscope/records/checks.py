"""Small checks for `__post_init__`: collect every problem, then raise once."""

from __future__ import annotations

from ouroscope.errors import FieldProblem, InvalidRequest


class Problems:
    """Collects what is wrong with one record; `raise_any` tells everything at once."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.found: list[FieldProblem] = []

    def check(self, good: bool, field: str, description: str) -> None:
        """Note `description` for `field` unless `good`."""
        if not good:
            self.found.append(FieldProblem(field, description))

    def raise_any(self) -> None:
        """Raise InvalidRequest with all problems, if there are any."""
        if self.found:
            told = "; ".join(f"{problem.field}: {problem.description}" for problem in self.found)
            raise InvalidRequest(f"{self._what} is not valid: {told}", self.found)

"""Which human text a run works with, and how much of it: one line for each domain."""

from __future__ import annotations

from services.coordinator.dataset.texts import Dealt
from services.coordinator.report.tables import Table
from services.coordinator.report.view import RunView

ALL = "all"


def text_table(view: RunView) -> Table | None:
    """Return what was dealt; None where it is not known."""
    if not view.dealt:
        return None
    shared = any(one.shared for one in view.dealt)
    head = ("Domain", "Source", "Commit", "Prompts", "Held out", *(("Also elsewhere",) if shared else ()))
    title = "Documents of each domain: prompted with and trained on, or held out; never both, whatever the domain"
    return Table(title=title, head=head, rows=tuple(_row(one, shared=shared) for one in view.dealt))


def _row(one: Dealt, *, shared: bool) -> tuple[str, ...]:
    counts = [one.prompts, one.heldout, *([one.shared] if shared else [])]
    return (one.domain or ALL, one.source, one.revision[:12] or "-", *(f"{count:,}" for count in counts))

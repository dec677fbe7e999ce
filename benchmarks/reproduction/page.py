"""The page docs/reproduction.md: every published finding beside what our own runs show. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.reproduction.claims import Outcome, Status, ends_told
from benchmarks.reproduction.findings import FINDINGS, Finding
from benchmarks.reproduction.results import Results

HEAD = """# Reproduction

GENERATED from `benchmarks/reproduction` by `make docs`: findings in `findings.py`, figures in `kept/`.

What the literature found, and what our own runs at the scale `tiny` show: a model of three million weights trained on
docstrings, text of some thousand words, ten generations or fewer. A finding that does not appear at this scale may well
hold at another; a finding that appears here is no proof for models a thousand times larger.

How to read it: differences are taken seed by seed and signed so that above 0 is towards collapse; in brackets the 95 %
t-interval over seeds. **Reproduced** means that every interval of the claim lies on the claimed side; *same direction*
that the means do and an interval holds 0.
"""
SHOWN = ("heldout_perplexity", "gini_top100", "next_token_entropy", "token_entropy", "types", "cooccurrence_nodes")


def reproduction_page(results: Sequence[Results]) -> str:
    """Return the page in Markdown."""
    by_name = {one.experiment: one for one in results}
    found = [(finding, _outcome(finding, by_name)) for finding in FINDINGS]
    parts = [HEAD, _counts([outcome for _, outcome in found]), "## Findings", _table(found), "## Runs"]
    parts += [_experiment(one) for one in results]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _outcome(finding: Finding, results: dict[str, Results]) -> Outcome:
    ours = results.get(finding.experiment)
    if ours is None and finding.experiment:
        return Outcome(status=Status.NOT_RUN, figures=f"`{finding.experiment}` was not run yet")
    return finding.claim(ours or _NOTHING)


_NOTHING = Results(experiment="", command="", machine="", settings="", arms=(), lanes=())


def _counts(outcomes: Iterable[Outcome]) -> str:
    statuses = [outcome.status for outcome in outcomes]
    told = [f"{statuses.count(status)} {status.value}" for status in Status if status in statuses]
    return f"Of {len(statuses)} findings: {', '.join(told)}."


def _table(found: Sequence[tuple[Finding, Outcome]]) -> str:
    rows = ["| finding | source | experiment | outcome | our figures |", "|---|---|---|---|---|"]
    for finding, outcome in found:
        status = f"**{outcome.status.value}**" if outcome.status is Status.REPRODUCED else outcome.status.value
        experiment = f"`{finding.experiment}`" if finding.experiment else ""
        rows.append(f"| {finding.told} | {finding.source} | {experiment} | {status} | {outcome.figures} |")
    return "\n".join(rows)


def _experiment(results: Results) -> str:
    several = len({arm.run for arm in results.arms}) > 1
    shown = [metric for metric in SHOWN if any(line.metric == metric for lane in results.lanes for line in lane.lines)]
    head = f"| arm | protocol | synthetic | control | verdict | {' | '.join(shown)} |"
    rows = [head, "|" + "---|" * (5 + len(shown))]
    for arm in results.arms:
        name = f"{arm.run}/{arm.arm}" if several else arm.arm
        figures = " | ".join(ends_told(results, name, metric) for metric in shown)
        control = arm.control or "generation 0"
        rows.append(
            f"| {name} | {arm.protocol} | {arm.synthetic_share:.0%} | {control} | {arm.verdict or 'none'} | {figures} |"
        )
    seeds = len({lane.seed for lane in results.lanes})
    return "\n".join(
        [
            f"### {results.experiment}",
            "",
            f"`{results.command}` on {results.machine}. {results.settings}. Means over {seeds} seeds, generation 0 to "
            "the last one.",
            "",
            *rows,
        ]
    )

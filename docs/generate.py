"""Write the generated pages of docs/: `make docs`. A test looks for drift.

`metrics.md` is the data sheets of the metrics: their docstrings, in the order of the catalogue. `settings.md` is what
the services declare as their settings, `protocols.md` the sheets of the protocols, and the tables of `scaling.md` what
the cost model says; its text is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol_sheets import protocols_page
from scaling_tables import scaling_page

from benchmarks.reproduction.page import reproduction_page
from benchmarks.reproduction.results import experiments, read_results
from ouroscope.records.analysis import Direction, Family, MetricInfo
from ouroscope.security.connection import PREFIX as CLIENT
from ouroscope.security.connection import Connection
from ouroscope.security.settings import PREFIX as SECURITY
from ouroscope.security.settings import SecuritySettings
from ouroscope.settings import Described, describe
from services.analyzer.catalogue import ANALYZER_VERSION, METRICS, RELATIVE, RELATIVE_SHEETS
from services.analyzer.jackknife import GROUPS
from services.analyzer.metric import Metric, sheet_text
from services.analyzer.network.edges import CONSTRUCTIONS, cooccurrences
from services.analyzer.network.syntactic import syntactic
from services.analyzer.relative import SINGLE
from services.analyzer.rungs import LOWER
from services.analyzer.sample import LADDER
from services.analyzer.settings import PREFIX as ANALYZER
from services.analyzer.settings import AnalyzerSettings
from services.coordinator.settings import PREFIX as COORDINATOR
from services.coordinator.settings import CoordinatorSettings
from services.generator.settings import PREFIX as GENERATOR
from services.generator.settings import GeneratorSettings
from services.trainer.settings import PREFIX as TRAINER
from services.trainer.settings import TrainerSettings

METRICS_HEAD = f"""# Metrics

GENERATED from the docstrings in `services/analyzer` by `make docs`; analyzer version {ANALYZER_VERSION}.

How to read a value:

- **Rung.** Diversity depends on size, so text is measured at fixed budgets of words, the rungs: {{rungs}}. The sample
  is divided into {GROUPS} groups of whole clusters (documents that share a source), and a rung is reached where every
  group fills its share. Words beyond the largest rung that is reached are not used. A text that reaches none is
  measured at lower ones: {{lower}}, and as far as its groups go. They are too few words for a verdict; the fixed ones
  let small corpora be put side by side. Prompts and scored texts have no rungs.
- **Value.** The mean over {GROUPS} replicates, each the sample without one group; a replicate has the budget of words
  (up to {GROUPS - 2} more, since groups are equal). So a count has decimals.
- **Interval.** 95 %, Student's t with {GROUPS - 1} degrees of freedom, from the spread of the replicates. It knows no
  range: near the end of one it may reach beyond it. There is none where there are no replicates: fewer than {GROUPS}
  clusters, or a group that is nearly empty.
- **Without an interval** are measures of a network as a whole, and distances between corpora that are one number for
  both as wholes: each is taken once, on the largest rung, since {GROUPS} replicates would cost too much or jump.
- **Votes** marks a headline of its family: its effect counts for the verdict.
- **Undefined** values say why; they are never 0 instead.

How metrics become effects and verdicts is in [ARCHITECTURE.md](../ARCHITECTURE.md).
"""
SETTINGS_HEAD = """# Settings

GENERATED from the settings of the services by `make docs`. Every service reads its variables when it starts, tells all
problems at once, and refuses a variable of its prefix that it does not know. An empty default means: not set.

Ports of `/metrics`: coordinator 9464, generator 9465, trainer 9466, analyzer 9467. A second service of one kind on the
same machine needs an address and a metrics port of its own.

## The command line

| variable | meaning | default |
|---|---|---|
| `OUROSCOPE_HOME` | data folder of every command: `store/` for artifacts, `state/` for databases | `ouroscope-data` |
| `OURO_LOG` | least level that is logged | `warning` |

`ouroscope serve SERVICE` reads the variables of that service; where no store is set, it is that of the data folder.
`ouroscope serve all` and `ouroscope run` read none of them: the four services share one process and the data folder.

Each service reads the variables `OURO_SECURITY_*` too, and the same names serve all of them; the coordinator reaches
its workers as `OURO_CLIENT_*` says, like the clients and the command line. [security.md](security.md) shows how they
are used.
"""


def definition(build: Callable[..., object]) -> str:
    """Return what a docstring says between its first line and its arguments, on one line."""
    return " ".join(inspect.cleandoc(build.__doc__ or "").split("\n\n")[1].split())


BUILDERS = (cooccurrences, syntactic)
INTRODUCTIONS = {
    Family.NETWORK: (
        "Two networks are built, and measured alike.\n",
        *(f"`{name}`: {definition(build)}\n" for name, build in zip(CONSTRUCTIONS, BUILDERS, strict=True)),
    )
}
UNDER_COLLAPSE = {Direction.RISING: "rises", Direction.FALLING: "falls", Direction.NONE: "moves either way"}
UNITS = {"1": "a pure number", "ratio": "a ratio", "steps^2": "squared steps"}
TABLE_HEAD = "| variable | meaning | default |\n|---|---|---|"


@dataclass(frozen=True, slots=True)
class Entry:
    """One metric, as its section tells it."""

    info: MetricInfo
    sheet: Callable[..., object]
    interval: str


def measured(family: Family) -> Iterator[Entry]:
    """Yield the metrics of a family that need no baseline."""
    for metric in METRICS:
        if metric.family is family:
            yield Entry(metric.info(), metric.sheet, interval_of(metric))


def interval_of(metric: Metric) -> str:
    """Return whether values of a metric have an interval."""
    if not metric.largest_rung_only:
        return "with an interval"
    return "without an interval" if metric.bounds is Metric.bounds else "with an interval where paths are sampled"


def relative() -> Iterator[Entry]:
    """Yield the metrics that need a baseline."""
    for info in RELATIVE:
        yield Entry(info, RELATIVE_SHEETS[info.id], f"with{'out' if info.id in SINGLE else ''} an interval")


def metrics_page() -> str:
    """Return `metrics.md`."""
    chapters = {family.value.capitalize(): alike(measured(family)) for family in Family}
    chapters["Relative to a baseline"] = alike(relative())
    introductions = {family.value.capitalize(): text for family, text in INTRODUCTIONS.items()}
    introductions["Relative to a baseline"] = ("Measured by `Compare`, from fingerprints of both sides.\n",)
    chapters = {title: sections for title, sections in chapters.items() if sections}
    rungs, lower = (", ".join(f"{budget:,}" for budget in budgets) for budgets in (LADDER, LOWER))
    parts = [METRICS_HEAD.format(rungs=rungs, lower=lower), contents(chapters)]
    for title, sections in chapters.items():
        parts += [f"## {title}\n", *introductions.get(title, ()), *map(section, sections)]
    return "\n".join(parts)


def contents(chapters: dict[str, list[list[Entry]]]) -> str:
    """Return the table of contents."""
    lines = []
    for title, sections in chapters.items():
        links = (f"[{short_name(entries)}](#{anchor(heading(entries))})" for entries in sections)
        lines.append(f"- [{title}](#{anchor(title)}): {', '.join(links)}")
    return "\n".join(lines) + "\n"


def short_name(entries: Sequence[Entry]) -> str:
    """Return what a section is called where there is little room."""
    first, last = entries[0].info, entries[-1].info
    if first.family is Family.NETWORK:
        return first.id.removeprefix(f"{CONSTRUCTIONS[0]}_")
    return first.id if first is last else f"{first.id} to {last.id.rpartition('_')[2]}"


def heading(entries: Iterable[Entry]) -> str:
    """Return the heading of a section."""
    return ", ".join(entry.info.id for entry in entries)


def anchor(title: str) -> str:
    """Return what a link to a heading says."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def alike(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Return metrics by data sheet: one sheet serves both networks, and several lengths."""
    groups: dict[object, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.sheet, []).append(entry)
    return list(groups.values())


def section(entries: Sequence[Entry]) -> str:
    """Return the section of metrics that share a data sheet."""
    first = entries[0]
    unit = UNITS.get(first.info.unit, f"in {first.info.unit}")
    facts = (unit, f"{UNDER_COLLAPSE[first.info.direction]} under collapse", votes(entries), first.interval)
    told = "; ".join(filter(None, facts))
    return f"### {heading(entries)}\n\n*{told}*\n\n```\n{sheet_text(first.sheet)}\n```\n"


def votes(entries: Sequence[Entry]) -> str:
    """Return which of these vote."""
    voters = [entry for entry in entries if entry.info.headline]
    if len(voters) == len(entries):
        return "votes"
    return f"{heading(voters)} votes" if voters else ""


def settings_page() -> str:
    """Return `settings.md`."""
    services: tuple[tuple[str, type[Any], str], ...] = (
        ("Generator", GeneratorSettings, GENERATOR),
        ("Trainer", TrainerSettings, TRAINER),
        ("Analyzer", AnalyzerSettings, ANALYZER),
        ("Coordinator", CoordinatorSettings, COORDINATOR),
        ("Security of every service", SecuritySettings, SECURITY),
        ("Clients", Connection, CLIENT),
    )
    parts = [SETTINGS_HEAD]
    for title, settings, prefix in services:
        rows = map(row, describe(settings, prefix))
        parts.append("\n".join((f"## {title}\n", TABLE_HEAD, *rows, "")))
    return "\n".join(parts)


def row(variable: Described) -> str:
    """Return the row of a variable."""
    default = "required" if variable.default is None else f"`{variable.default}`" if variable.default else ""
    return f"| `{variable.name}` | {variable.help.replace('|', '&#124;')} | {default} |"


def reproduced() -> str:
    """Return what the literature found beside what our own runs show."""
    return reproduction_page([results for name in experiments() if (results := read_results(name)) is not None])


PAGES = {
    "metrics.md": metrics_page,
    "settings.md": settings_page,
    "protocols.md": protocols_page,
    "reproduction.md": reproduced,
    "scaling.md": scaling_page,
}


def main() -> None:
    """Write the pages into the folder given, docs/ by default."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The page to begin with: all monitors, all live runs, what fires."""

from __future__ import annotations

from panels import COLLAPSE, SPREADS, STABLE, UNKNOWN, WARNING, Panel, dashboard, number, row, table, verdicts

COLOURS = {"COLLAPSE": COLLAPSE, "WARNING": WARNING, "INSUFFICIENT_DATA": UNKNOWN, "STABLE": STABLE}
BY_MONITOR = "sum by (monitor)"
BY_ARM = "sum by (run, arm)"


def overview() -> Panel:
    """Return the page to begin with: all monitors, all runs, what fires."""
    return dashboard(
        "ouroscope-overview",
        "Ouroscope: overview",
        "Every monitor and every run, with the verdict on its newest generation.",
        [
            *verdict_counts(),
            number("Paused", "sum(ouroscope_monitor_paused) or vector(0)", told="Monitors that take no generation."),
            number(
                "Alerts firing",
                'count(ALERTS{alertname=~"Ouroscope.+", alertstate="firing"}) or vector(0)',
                colour=WARNING,
                told="See docs/runbooks.",
            ),
            monitors_table(),
            verdicts(
                "Monitors over time",
                "monitor:ouroscope_monitor_collapse_verdict:level",
                "{{monitor}}",
                told="The verdict on what was the newest generation at that time.",
            ),
            row("Runs"),
            arms_table(),
            verdicts("Arms over time", "arm:ouroscope_collapse_verdict:level", "{{run}} {{arm}}"),
        ],
    )


def verdict_counts() -> list[Panel]:
    """Return how many monitors have which verdict."""
    return [
        number(
            level,
            f'sum(ouroscope_monitor_collapse_verdict{{verdict="{level}"}}) or vector(0)',
            colour=colour,
            told="Monitors with this verdict on their newest generation.",
        )
        for level, colour in COLOURS.items()
    ]


def monitors_table() -> Panel:
    """Return one line per monitor."""
    return table(
        "Monitors",
        {
            "verdict": f"{BY_MONITOR} (monitor:ouroscope_monitor_collapse_verdict:level)",
            "generation": f"{BY_MONITOR} (ouroscope_monitor_generation)",
            "warned in a row": f"{BY_MONITOR} (ouroscope_monitor_warned_generations)",
            "largest effect": "max by (monitor) (ouroscope_monitor_collapse_family_effect)",
            "its lower end": "max by (monitor) (ouroscope_monitor_collapse_family_effect_lower)",
            "silent for": f"{BY_MONITOR} (monitor:ouroscope_monitor_silence:seconds)",
            "paused": f"{BY_MONITOR} (ouroscope_monitor_paused)",
        },
        ["monitor"],
        told=f"Effects of families. {SPREADS}",
        levels=["verdict"],
        units={"silent for": "s"},
        links={"monitor": "/d/ouroscope-monitor?var-monitor=${__value.text}"},
    )


def arms_table() -> Panel:
    """Return one line per arm of a run."""
    return table(
        "Arms of live runs",
        {
            "verdict": f"{BY_ARM} (arm:ouroscope_collapse_verdict:level)",
            "generation": f"{BY_ARM} (ouroscope_generation)",
            "synthetic": f"{BY_ARM} (ouroscope_synthetic_ratio)",
            "warned in a row": f"{BY_ARM} (ouroscope_warned_generations)",
            "largest effect": "max by (run, arm) (ouroscope_collapse_family_effect)",
            "its lower end": "max by (run, arm) (ouroscope_collapse_family_effect_lower)",
        },
        ["run", "arm"],
        told=f"Runs are shown while they live, and five minutes longer. {SPREADS}",
        levels=["verdict"],
        units={"synthetic": "percentunit"},
        links={"run": "/d/ouroscope-run?var-run=${__value.text}"},
    )

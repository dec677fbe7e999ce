"""One run, and one monitor, in depth: verdicts, effects with their bounds, values."""

from __future__ import annotations

from panels import (
    COLLAPSE,
    LEVELS,
    SPREADS,
    UNKNOWN,
    WARNING,
    Panel,
    bars,
    choice,
    dashboard,
    lines,
    number,
    query,
    repeated,
    row,
    table,
    thin,
    verdicts,
    word,
)


def run() -> Panel:
    """Return one run in depth."""
    arms = 'run="$run", arm=~"$arm"'
    return dashboard(
        "ouroscope-run",
        "Ouroscope: one run",
        "Effects, values and stages of one run; an arm has one line, the mean over its seeds.",
        [
            number("Generation", f"max(ouroscope_generation{{{arms}}})", told="Newest examined generation of any arm."),
            number("Collapsed arms", f'sum(ouroscope_collapse_verdict{{{arms}, verdict="COLLAPSE"}})', colour=COLLAPSE),
            number("Warned arms", f'sum(ouroscope_collapse_verdict{{{arms}, verdict="WARNING"}})', colour=WARNING),
            number("Since the last generation", 'max(run:ouroscope_since_success:seconds{run="$run"})', unit="s"),
            word("State", 'ouroscope_run_state{run="$run"} == 1', "state", width=8),
            verdicts("Verdicts", f"arm:ouroscope_collapse_verdict:level{{{arms}}}", "{{arm}}", height=5),
            lines(
                "Generations",
                query(f"ouroscope_generation{{{arms}}}", "{{arm}}"),
                steps=True,
                least=0,
                width=12,
                told="The generation is a value: read the other charts beside this one.",
            ),
            lines(
                "Share of synthetic text in the training set",
                query(f"ouroscope_synthetic_ratio{{{arms}}}", "{{arm}}"),
                unit="percentunit",
                least=0,
                steps=True,
            ),
            row("Effects"),
            repeated(
                effect("ouroscope_collapse_family_effect", f'{arms}, family="$family"', "{{arm}}", "$family"), "family"
            ),
            effect("ouroscope_collapse_effect", f'{arms}, metric="$metric"', "{{arm}}", "$metric"),
            bars(
                "Metrics that moved most",
                f"topk(15, ouroscope_collapse_effect_lower{{{arms}}})",
                "{{arm}} {{metric}}",
                told=f"By the lower end of the effect. {SPREADS}",
            ),
            row("Values of the newest generation"),
            *values("ouroscope", arms, "{{arm}}"),
            row("Stages"),
            lines(
                "Mean time of a stage",
                query("stage:ouroscope_stage_duration_seconds:mean1h", "{{stage}}"),
                unit="s",
                least=0,
                width=24,
                told="Over all runs of this coordinator, in the last hour.",
            ),
        ],
        [
            choice("run", "Run", "label_values(ouroscope_run_info, run)"),
            choice("arm", "Arm", 'label_values(ouroscope_generation{run="$run"}, arm)', several=True),
            choice(
                "family", "Family", 'label_values(ouroscope_collapse_family_effect{run="$run"}, family)', several=True
            ),
            choice("metric", "Metric", 'label_values(ouroscope_collapse_effect{run="$run"}, metric)'),
        ],
    )


def monitor() -> Panel:
    """Return one monitor in depth."""
    mine = 'monitor="$monitor"'
    return dashboard(
        "ouroscope-monitor",
        "Ouroscope: one monitor",
        "A pipeline of your own: its verdicts, effects and values, generation by generation.",
        [
            number("Generation", f"ouroscope_monitor_generation{{{mine}}}", told="The largest number recorded."),
            number("Recorded", f"ouroscope_monitor_generations{{{mine}}}", told="Generations that were recorded."),
            number("Warned in a row", f"ouroscope_monitor_warned_generations{{{mine}}}", colour=WARNING),
            number("Silent for", f"monitor:ouroscope_monitor_silence:seconds{{{mine}}}", unit="s"),
            number("Alert if silent for", f"monitor:ouroscope_monitor_silence_allowed:seconds{{{mine}}}", unit="s"),
            number("Paused", f"ouroscope_monitor_paused{{{mine}}}", colour=UNKNOWN),
            verdicts("Verdict", f"monitor:ouroscope_monitor_collapse_verdict:level{{{mine}}}", "{{monitor}}", height=5),
            lines(
                "Generations",
                query(f"ouroscope_monitor_generation{{{mine}}}", "generation"),
                steps=True,
                least=0,
                told="The generation is a value: read the other charts beside this one.",
            ),
            lines(
                "Share of synthetic text",
                query(f"ouroscope_monitor_synthetic_ratio{{{mine}}}", "synthetic"),
                unit="percentunit",
                least=0,
                steps=True,
                told="Where the pipeline tells it.",
            ),
            row("Effects"),
            repeated(
                effect("ouroscope_monitor_collapse_family_effect", f'{mine}, family="$family"', "effect", "$family"),
                "family",
            ),
            effect("ouroscope_monitor_collapse_effect", f'{mine}, metric="$metric"', "effect", "$metric"),
            bars(
                "Metrics that moved most",
                f"topk(15, ouroscope_monitor_collapse_effect_lower{{{mine}}})",
                "{{metric}}",
                told=f"By the lower end of the effect. {SPREADS}",
            ),
            table(
                "Domains",
                {
                    level: f'sum by (domain) (ouroscope_monitor_domain_collapse_verdict{{{mine}, verdict="{level}"}})'
                    for level, _ in LEVELS.values()
                },
                ["domain"],
                told="1 for the verdict on the documents of that domain alone.",
            ),
            row("Values of the newest generation"),
            *values("ouroscope_monitor", mine, "value"),
        ],
        [
            choice("monitor", "Monitor", "label_values(ouroscope_monitor_info, monitor)"),
            choice(
                "family",
                "Family",
                f"label_values(ouroscope_monitor_collapse_family_effect{{{mine}}}, family)",
                several=True,
            ),
            choice("metric", "Metric", f"label_values(ouroscope_monitor_collapse_effect{{{mine}}}, metric)"),
        ],
    )


def effect(name: str, selector: str, legend: str, title: str) -> Panel:
    """Return an effect with its bounds."""
    made = lines(
        title,
        query(f"{name}{{{selector}}}", legend),
        query(f"{name}_lower{{{selector}}}", f"{legend} lower"),
        query(f"{name}_upper{{{selector}}}", f"{legend} upper"),
        told=f"With both ends of its interval. {SPREADS}",
        steps=True,
    )
    return thin(made, "/ (lower|upper)$/")


def values(stem: str, selector: str, legend: str) -> list[Panel]:
    """Return the headline metrics that say most, in their own units."""
    shown = {
        "Words in use": "corpus_types_words",
        "Entropy of words (nats)": "corpus_token_entropy_nats",
        "Distinct runs of three words": "corpus_distinct_3_ratio",
        "Concepts of the semantic network": "corpus_cooccurrence_nodes_concepts",
        "Entropy of its degrees (nats)": "corpus_cooccurrence_degree_entropy_nats",
        "Share of its hubs": "corpus_cooccurrence_hub_share_ratio",
        "Largest next-token probability": "model_top1_probability_ratio",
        "Entropy of the next token (nats)": "model_next_token_entropy_nats",
        "Held-out perplexity": "model_heldout_perplexity_tokens",
    }
    return [
        lines(title, query(f"{stem}_{name}{{{selector}}}", legend), width=8, steps=True)
        for title, name in shown.items()
    ]

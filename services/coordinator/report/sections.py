"""What each section of the page shows, ready for the template. Decides which charts there are; draws none itself."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from ouroscope.records.analysis import Family, MetricInfo, Policy, Verdict
from ouroscope.records.runs import ArmSpec, ArmVerdict
from services.coordinator.report import effects, histograms, network, words
from services.coordinator.report.arms import protocol_of
from services.coordinator.report.lines import arm_style, metric_chart
from services.coordinator.report.quality import quality_chart, quality_sentence
from services.coordinator.report.svg import mark
from services.coordinator.report.view import Point, RunView, Sample

SIGNS = {
    Verdict.STABLE: "\N{CHECK MARK}",
    Verdict.WARNING: "!",
    Verdict.COLLAPSE: "\N{MULTIPLICATION SIGN}",
    Verdict.INSUFFICIENT_DATA: "?",
}
LONGEST_SAMPLE = 1500
"""Characters of a text that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCard:
    """An arm in a legend and in the list of what was run."""

    name: str
    style: str
    mark: Markup
    protocol: str
    compared: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The verdict at one generation."""

    number: int
    sign: str
    word: str
    css: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The verdicts of one seed."""

    seed: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictCard:
    """The verdict of an arm."""

    arm: str
    mark: Markup
    word: str
    sign: str
    css: str
    protocol: str
    sentence: str
    timeline: tuple[Timeline, ...]
    gap: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A drawing with its name and what to know of it."""

    name: str
    note: str
    drawing: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The charts of a family."""

    name: str
    question: str
    charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One of several drawings of an arm."""

    number: int
    drawing: Markup
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRow:
    """Drawings, or texts, of one arm side by side."""

    arm: str
    panels: tuple[Panel, ...] = ()
    texts: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """What every arm made of one prompt."""

    name: str
    rows: tuple[ArmRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """How good the base model is."""

    sentence: str | None
    drawing: Markup | None


def arm_cards(view: RunView) -> list[ArmCard]:
    """Return the arms with their colours and marks."""
    found = []
    for arm in view.arms:
        style, shape = arm_style(view, arm.name)
        key = mark(shape, 13, 6, 4, class_=f"mark {style}")
        protocol, compared = protocol_of(arm), _compared(view, arm)
        found.append(ArmCard(name=arm.name, style=style, mark=key, protocol=protocol, compared=compared))
    return found


def _compared(view: RunView, arm: ArmSpec) -> str:
    control = view.run.spec.control_of(arm)
    return f"compared with “{control.name}” at the same generation" if control else "compared with its own generation 0"


def verdict_cards(view: RunView) -> list[VerdictCard]:
    """Return the verdicts, the gravest first."""
    arms = {arm.name: arm for arm in view.arms}
    found = []
    for verdict in sorted(view.run.verdicts, key=lambda one: words.SEVERITY.index(one.verdict)):
        style, shape = arm_style(view, verdict.arm)
        card = VerdictCard(
            arm=verdict.arm,
            mark=mark(shape, 6, 6, 4.6, class_=f"mark {style}"),
            word=words.VERDICTS[verdict.verdict],
            sign=SIGNS[verdict.verdict],
            css=verdict.verdict.value,
            protocol=protocol_of(arms[verdict.arm]),
            sentence=_without_name(verdict),
            timeline=_timelines(view, verdict.arm),
            gap=_gap(view, verdict.arm),
        )
        found.append(card)
    return found


def _without_name(verdict: ArmVerdict) -> str:
    """Return the sentence without the identifier that it begins with: the card says it in words."""
    rest = verdict.sentence.removeprefix(verdict.verdict.value).lstrip(", ")
    return rest[:1].upper() + rest[1:]


def _timelines(view: RunView, arm: str) -> tuple[Timeline, ...]:
    seeds = view.seeds(arm)
    lines = []
    for seed in seeds:
        steps = tuple(_step(point) for point in view.of(arm) if point.seed == seed)
        lines.append(Timeline(seed=f", seed {seed}" if len(seeds) > 1 else "", steps=steps))
    return tuple(lines)


def step(number: int, verdict: Verdict | None) -> Step:
    """Return the box of one generation in a timeline."""
    if verdict is None:
        return Step(number=number, sign="·", word="not compared", css="NONE")
    return Step(number=number, sign=SIGNS[verdict], word=words.VERDICTS[verdict], css=verdict.value)


def _step(point: Point) -> Step:
    comparison = point.generation.comparison
    return step(point.number, comparison.verdict if comparison else None)


def _gap(view: RunView, arm: str) -> str | None:
    """Return the second view of the last generation: beside the real continuation."""
    gaps = [gap for point in view.of(arm) if point.seed == 0 and (gap := point.generation.human_gap) is not None]
    return gaps[-1].sentence if gaps else None


def rule_of_verdicts(policy: Policy) -> str:
    """Say in one sentence what makes a verdict."""
    return (
        f"Collapse means that a whole family of metrics stays beyond a margin of {policy.margin:g} human spreads for "
        f"{policy.persistence} generations in a row, or is once beyond {policy.far_bound:g}."
    )


def quality(view: RunView) -> Quality:
    """Return how good the base model is."""
    return Quality(sentence=quality_sentence(view.run), drawing=quality_chart(view.run, "quality"))


def family_charts(view: RunView) -> list[Chart]:
    """Return one chart per family that voted."""
    found = []
    for family in effects.families(view):
        drawing = effects.family_chart(view, family, f"family-{family.value}")
        if drawing is not None:
            name = words.FAMILIES[family]
            found.append(Chart(name=name, note="up is towards collapse; in human spreads", drawing=drawing))
    return found


def movers(view: RunView) -> list[Chart]:
    """Return what moved in every arm that has a control."""
    found = []
    for arm in view.arms:
        control = view.run.spec.control_of(arm)
        drawing = effects.movers_chart(view, arm.name, f"movers-{arm.name}") if control else None
        if drawing is not None and control is not None:
            note = f"At the last generation, beside “{control.name}”, those with the most evidence first. "
            found.append(
                Chart(name=arm.name, note=note + "Right is towards collapse; in human spreads.", drawing=drawing)
            )
    return found


def metric_groups(view: RunView, *, headline: bool) -> list[Group]:
    """Return the charts of the headline metrics, or those of all others, by family."""
    groups = []
    for family in Family:
        infos = [info for info in view.metrics if info.family is family and info.headline is headline]
        charts = tuple(chart for info in infos if (chart := _chart(view, info)))
        if charts:
            name, question = words.FAMILIES[family], words.FAMILY_QUESTIONS[family]
            groups.append(Group(name=name, question=question, charts=charts))
    return groups


def _chart(view: RunView, info: MetricInfo) -> Chart | None:
    name = words.metric_name(info.id)
    drawing = metric_chart(view, info.id, name, f"metric-{info.id}")
    return Chart(name=name, note=words.metric_note(info), drawing=drawing) if drawing is not None else None


def lines_note(view: RunView) -> str:
    """Say what lines and bands mean."""
    several = view.run.spec.seeds > 1
    line = "A line is the mean over the seeds, a thin line one seed" if several else "A line is one arm"
    band = "the mean of the seeds\N{RIGHT SINGLE QUOTATION MARK} 95 % intervals" if several else "its 95 % interval"
    return (
        f"{line}; the band is {band}. Generation 0 is the base model, before it learnt from anything here; values are "
        "as measured, not relative to it. Text can stay as varied as it was while the predictions of the model narrow, "
        "so read both."
    )


def histogram_rows(view: RunView) -> list[ArmRow]:
    """Return the histograms of every arm that has them."""
    tallest = histograms.tallest_share(view)
    found = []
    for arm in view.arms:
        drawn = histograms.panels(view, arm.name, tallest, f"top1-{arm.name}")
        panels = tuple(Panel(number=panel.number, drawing=panel.drawing) for panel in drawn)
        found += [ArmRow(arm=arm.name, panels=panels)] if panels else []
    return found


def network_rows(view: RunView) -> list[ArmRow]:
    """Return the first and the last network of every arm that has them."""
    places = network.shared_places(view)
    found = []
    for arm in view.arms:
        drawn = network.panels(view, arm.name, places, f"network-{arm.name}")
        panels = tuple(
            Panel(number=p.number, drawing=p.drawing, note=_network_note(p, first=p is drawn[0])) for p in drawn
        )
        found += [ArmRow(arm=arm.name, panels=panels)] if panels else []
    return found


def _network_note(panel: network.Panel, *, first: bool) -> str:
    return f"{panel.concepts} concepts" + ("" if first else f", {panel.lost} of the first ones gone")


def sample_prompts(view: RunView) -> list[Prompt]:
    """Return the texts of the samples, by prompt and arm, in the order of the generations."""
    prompts = list(dict.fromkeys(sample.prompt for sample in view.samples))
    return [
        Prompt(name=_named(place, rows), rows=rows)
        for place, prompt in enumerate(prompts, start=1)
        if (rows := tuple(_texts(view, prompt)))
    ]


def _named(place: int, rows: tuple[ArmRow, ...]) -> str:
    beginning = " ".join(rows[0].texts[0].prefix.split())
    return f"Prompt {place}: {beginning if len(beginning) <= 60 else beginning[:59] + '…'}"


def _texts(view: RunView, prompt: str) -> list[ArmRow]:
    found = []
    for arm in view.arms:
        texts = [sample for sample in view.samples if sample.prompt == prompt and sample.arm == arm.name]
        texts.sort(key=lambda sample: sample.number)
        found += [ArmRow(arm=arm.name, texts=tuple(_shortened(text) for text in texts))] if texts else []
    return found


def _shortened(sample: Sample) -> Sample:
    return Sample(
        prompt=sample.prompt,
        arm=sample.arm,
        number=sample.number,
        prefix=_cut(sample.prefix),
        continuation=_cut(sample.continuation),
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SAMPLE else text[:LONGEST_SAMPLE] + " …"

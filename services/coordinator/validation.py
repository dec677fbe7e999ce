"""What is wrong with a specification, as far as can be told without a model or a text; every problem at once.

What one record can see is told by the records themselves, the text behind a data set is looked at when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ouroscope.errors import FieldProblem
from ouroscope.records.checks import Problems
from ouroscope.records.generation import SUMMARY, ChatFormat
from ouroscope.records.runs import ArmSpec, DomainSpec, HumanText, PromptSelection, RunSpec
from ouroscope.records.selection import SelectionRule
from ouroscope.records.training import Method
from services.coordinator.dataset.sources import EMBEDDED
from services.coordinator.mixture import FEEDERS, HUMAN, Part, example_set, feeders_of, parts_of, sides
from services.coordinator.protocols import PROTOCOLS, problem_with
from services.coordinator.windows import prompt_window

Found = Iterator[tuple[str, str]]
"""(Field, what is wrong with it)."""

RANKING = (
    SelectionRule.RANDOM,
    SelectionRule.SURPLEXITY,
    SelectionRule.TEXT_ENTROPY,
    SelectionRule.ENTROPY_RATE,
)
"""Rules that keep so many documents; the others leave out, or repeat, by themselves."""


def validate(spec: RunSpec) -> RunSpec:
    """Return `spec` if it can be run as far as can be told without a model.

    Raises:
        InvalidRequest: with every problem, by the path of its field.
    """
    problems = Problems("run specification")
    for position, arm in enumerate(spec.arms):
        problems.found += [_at(position, problem) for problem in _of_arm(spec, arm)]
    problems.found += [FieldProblem(*problem) for problem in (*_of_parts(spec), *_of_run(spec))]
    problems.raise_any()
    return spec


def _at(position: int, problem: tuple[str, str]) -> FieldProblem:
    return FieldProblem(f"arms[{position}].{problem[0]}", problem[1])


def _of_arm(spec: RunSpec, arm: ArmSpec) -> Found:
    yield from _of_control(spec, arm)
    yield from _of_domains(spec, arm)
    feeders = list(_of_feeders(spec, arm))
    yield from feeders
    if unknown := problem_with(arm.protocol):
        yield unknown.field, unknown.description
        return
    yield from _of_fields(arm)
    if spec.prompt_selection is PromptSelection.FIXED and _grows(spec, arm):
        yield "protocol", "writes more in each generation and needs new prompts for it; set prompt_selection: FRESH"
    if not feeders:
        yield from _of_sets(spec, arm)


def _grows(spec: RunSpec, arm: ArmSpec) -> bool:
    return PROTOCOLS[arm.protocol].written(spec.generations) > 1


def _of_control(spec: RunSpec, arm: ArmSpec) -> Found:
    """Follow the controls of an arm; those that end in a circle have no control at all."""
    seen = [arm.name]
    while (control := _control(spec, seen[-1])) is not None and control not in seen:
        seen.append(control)
    if control == arm.name:
        yield "control", f"is compared with itself in the end: {' -> '.join((*seen, control))}"


def _control(spec: RunSpec, name: str) -> str | None:
    return next((one.control for one in spec.arms if one.name == name), None)


def _of_domains(spec: RunSpec, arm: ArmSpec) -> Found:
    known = [domain.name for domain in spec.dataset.domains]
    if unknown := [name for name in arm.domains if name not in known]:
        told = f"known are {', '.join(known)}" if known else "the data set has none: list them as dataset.domains"
        yield "domains", f"no domain {', '.join(repr(name[:63]) for name in unknown)}; {told}"
    if len(set(arm.domains)) < len(arm.domains):
        yield "domains", "a domain is listed twice"


def _of_feeders(spec: RunSpec, arm: ArmSpec) -> Found:
    names = {one.name for one in spec.arms}
    if arm.name in arm.feeds_on:
        yield "feeds_on", "an arm always feeds on its own text; name others"
    if unknown := [name for name in arm.feeds_on if name not in names]:
        yield "feeds_on", f"{', '.join(repr(name[:63]) for name in unknown)}: no such arm in this run"
    if len(set(arm.feeds_on)) < len(arm.feeds_on):
        yield "feeds_on", "an arm is listed twice"
    for one in feeders_of(spec, arm):
        if spec.prefix_tokens(one) != spec.prefix_tokens(arm):
            yield (
                "feeds_on",
                f"{one.name!r} has another real_share: its documents have other real prefixes",
            )


def _of_fields(arm: ArmSpec) -> Found:
    """Tell what the protocol would pass over in silence."""
    reads = PROTOCOLS[arm.protocol].reads
    given = {name: getattr(arm, name) for name in ("human_fraction", "synthetic_fraction", "real_weight")}
    given["human_text"] = arm.human_text if arm.human_text is not HumanText.FRESH else None
    for name, value in given.items():
        if value is not None and name not in reads:
            able = [known for known, protocol in PROTOCOLS.items() if name in protocol.reads]
            yield name, f"protocol {arm.protocol!r} does not read it; those that do: {', '.join(able)}"
    human, synthetic = arm.human_fraction, arm.synthetic_fraction
    if arm.protocol == "cycle-incremental" and (human or 0.0) + (0.5 if synthetic is None else synthetic) > 1:
        yield "human_fraction", "must not be above 1 together with synthetic_fraction: nothing more can be replaced"


def _of_sets(spec: RunSpec, arm: ArmSpec) -> Found:
    """Tell what cannot be done with the training sets of an arm; the first two and the last show what any holds."""
    rounds = sorted({1, min(2, spec.generations), spec.generations})
    parts = [part for j in rounds for part in parts_of(spec, arm, j)]
    found = {side for j in rounds for portion in example_set(spec, arm, j) for side, _ in sides(portion)}
    if arm.feeds_on and parts and not any(side >= FEEDERS for side in found):
        yield "feeds_on", f"protocol {arm.protocol!r} takes nothing that was written"
    weighs = arm.real_weight is not None and "real_weight" in PROTOCOLS[arm.protocol].reads
    if weighs and not (HUMAN in found and len(found) > 1):
        yield "real_weight", "weighs human against synthetic documents, and the training set has only one kind"
    if arm.edit is not None and HUMAN not in found:
        yield "edit", f"edits human documents, and protocol {arm.protocol!r} trains on none"
    yield from _of_selection(spec, arm, parts)


def _of_selection(spec: RunSpec, arm: ArmSpec, parts: list[Part]) -> Found:
    selection = arm.selection
    if selection is None:
        return
    if not parts:
        yield "selection", f"protocol {arm.protocol!r} trains on nothing, so there is nothing to select"
        return
    if selection.human_free and not all(part.synthetic for part in parts):
        yield "selection.human_free", f"protocol {arm.protocol!r} draws from a pool with nothing but human documents"
    if selection.rule in RANKING and not any(_chooses(spec, part, selection.human_free) for part in parts):
        told = f"protocol {arm.protocol!r} has no more documents than are kept; take one that accumulates"
        yield "selection.rule", told
    if selection.rule is SelectionRule.VERIFIER and any(map(_elsewhere(spec, arm), feeders_of(spec, arm))):
        yield "selection.rule", "a verifier knows the real text behind this arm's prompts, and feeds_on brings others'"


def _chooses(spec: RunSpec, part: Part, human_free: bool) -> bool:
    pool = part.synthetic if human_free else part.synthetic + part.human
    # A portion that is taken whole leaves the number to the selection, which keeps n.
    taken_whole = part.chosen == part.synthetic + part.human
    return pool > (spec.documents if taken_whole else part.chosen)


def _elsewhere(spec: RunSpec, arm: ArmSpec) -> Callable[[ArmSpec], bool]:
    """Return whether another arm continues other prompts."""
    own = (prompt_window(spec, arm, 0, spec.generations), set(arm.domains))
    return lambda other: (prompt_window(spec, other, 0, spec.generations), set(other.domains)) != own


def _of_parts(spec: RunSpec) -> Found:
    counts = sorted({arm.parts for arm in spec.arms if arm.parts > 1})
    if len(counts) > 1:
        told = " and ".join(map(str, counts))
        yield "arms", f"parts must be the same number in all arms that read one: with {told} the parts overlap"


def _of_summaries(spec: RunSpec) -> Found:
    """Tell where a summary is wanted and there is none, and where one is brought that nobody would tell."""
    told = {f"{name}.chat.instruction": chat for name, chat in _chats(spec) if chat.tells_summaries}
    sources = list(spec.dataset.sources())
    if without := [source for source in sources if not source.summary_field]:
        of = ", ".join(f"the domain {source.name!r}" for source in without[:10] if source.name) or "the data set"
        for field in told:
            yield field, f"tells the {SUMMARY} of each document, and {of} has no summary_field; name it or leave it out"
    for position, source in enumerate(sources):
        where = f"dataset.domains[{position}]" if spec.dataset.domains else "dataset"
        for problem in _of_summary_field(source, bool(told)):
            yield f"{where}.summary_field", problem


def _of_summary_field(source: DomainSpec, told: bool) -> Iterator[str]:
    if source.summary_field and not told:
        yield f"nothing reads it: write {SUMMARY} into sampling.chat.instruction, or leave it out"
    if source.summary_field and source.source == EMBEDDED:
        yield f"the source {EMBEDDED!r} has no summaries; leave it out, or give a table that has them"
    if source.summary_field == source.text_field:
        yield "is the field of the text itself; name another one"


def _chats(spec: RunSpec) -> Iterator[tuple[str, ChatFormat]]:
    for name, chat in (("sampling", spec.sampling.chat), ("recipe", spec.recipe.chat)):
        if chat is not None:
            yield name, chat


def _of_run(spec: RunSpec) -> Found:
    yield from _of_summaries(spec)
    if not spec.model.strip():
        yield "model", "name an embedded model, a directory or a Hugging Face id"
    for position, domain in enumerate(spec.dataset.sources()):
        where = f"dataset.domains[{position}].source" if spec.dataset.domains else "dataset.source"
        if not domain.source.strip():
            yield where, "write `embedded` or a path"
    if spec.recipe.lora.keep_adapter and spec.recipe.method is not Method.LORA:
        yield "recipe.lora.keep_adapter", "needs recipe.method: LORA, or there is no adapter to keep"
    longest = spec.evaluation.prompt_length + 1
    if spec.evaluation.max_tokens < longest:
        yield "evaluation.max_tokens", f"must be at least prompt_length + 1 = {longest}"
    if any(j > spec.generations for j in spec.evaluation.across_generations):
        yield "evaluation.across_generations", f"must be at most {spec.generations}, the last generation"

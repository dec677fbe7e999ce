"""What an arm learns from, in words. Pure text; no markup."""

from __future__ import annotations

from ouroscope.records.runs import ArmSpec, HumanText
from ouroscope.records.selection import SelectionOrder, SelectionRule, SelectionSpec
from services.coordinator.protocols import PROTOCOLS
from services.coordinator.report.words import joined, percent

_MIXTURE = "{human} of a round's number of documents are {people}, {synthetic} are its own newest"
PROTOCOL_WORDS = {
    "replace": "learns only from what it wrote itself",
    "replace-growing": "learns only from what it wrote last, of which there is more in every round",
    "accumulate": "learns from everything so far, the human documents of the start and its own, so their share falls",
    "accumulate-fresh": "learns from everything so far, its own documents and human ones, new ones in every round",
    "accumulate-subsample": "learns from a draw of everything so far, as large as one round",
    "accumulate-synthetic": "learns from a draw of everything it ever wrote, without human documents",
    "half-history": "learns half from what it wrote last, half from everything before",
    "mixed": f"learns from a mixture: {_MIXTURE}, in every round",
    "weighted": f"learns from a mixture in which human documents weigh {{weight}} of the loss: {_MIXTURE}",
    "cycle-full": "learns from what it wrote last, with {human} fresh human documents",
    "cycle-balanced": "learns from equal parts of all rounds, the human start among them, with {human} fresh documents",
    "cycle-incremental": "learns from a set of which a round replaces {synthetic} by its own and {human} by fresh text",
    "cycle-expanding": "learns from a set to which a round adds {synthetic} of its own and {human} fresh human text",
    "human": "learns from fresh human documents in every round: the control",
    "human-replayed": "learns from the same human documents in every round, which overfits: a control of that effect",
    "untouched": "learns nothing: the base model writes in every generation, a control of prompts and sampling",
}
"""Each protocol; fractions are filled in."""

RANKED = {
    SelectionRule.SURPLEXITY: ("the most surprising", "the least surprising"),
    SelectionRule.TEXT_ENTROPY: ("those of the most varied words", "those of the least varied words"),
    SelectionRule.ENTROPY_RATE: ("those of the highest entropy rate", "those of the lowest entropy rate"),
}
"""Rules that take one end of a ranking: its upper end, its lower end."""
_SELECTED = {
    SelectionRule.RANDOM: "a random choice",
    SelectionRule.NEAR_DUPLICATES: "those that are no near copy of another",
    SelectionRule.DETECTOR: "those that a detector holds to be human",
    SelectionRule.VERIFIER: "those that pass a verifier",
}


def protocol_of(arm: ArmSpec) -> str:
    """Return what the model of an arm learns from."""
    told = [_rule(arm)]
    if arm.feeds_on:
        told.append(f"what {joined([f'“{name}”' for name in arm.feeds_on])} wrote counts as its own")
    if arm.selection:
        told.append(f"of the pool it takes {_selected(arm.selection)}")
    if arm.edit:
        told.append("human text is edited where the model is sure of a token")
    return "; ".join(told)


def _rule(arm: ArmSpec) -> str:
    protocol = PROTOCOLS.get(arm.protocol)
    if protocol is None:
        return f"follows the protocol {arm.protocol}"
    human, synthetic = protocol.fractions_of(arm)
    return PROTOCOL_WORDS[arm.protocol].format(
        human=percent(human),
        synthetic=percent(synthetic),
        people="human ones of the start" if arm.human_text is HumanText.REPLAYED else "fresh human ones",
        weight="the best share" if arm.real_weight is None else percent(arm.real_weight),
    )


def _selected(selection: SelectionSpec) -> str:
    ends = RANKED.get(selection.rule)
    if ends is None:
        return _SELECTED[selection.rule]
    return ends[selection.order is SelectionOrder.LOWEST]

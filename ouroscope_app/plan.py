"""What a specification would cost, before anything is computed."""

from __future__ import annotations

from ouroscope.canonical import to_plain
from ouroscope.records.runs import RunSpec
from ouroscope_app.output import answers, print_json


def show_plan(spec: RunSpec, json_: bool) -> None:
    """Print the amounts of work in a run."""
    amounts = amounts_of(spec)
    if json_:
        print_json({"spec": to_plain(spec), "plan": amounts})
        return
    answers.print(f"[bold]{spec.name}[/]: " + ", ".join(f"{arm.name} ({arm.protocol})" for arm in spec.arms))
    for label, amount in amounts.items():
        answers.print(f"  {label.replace('_', ' '):<28}{amount:>14,}")
    answers.print("nothing was computed; leave out --dry-run to start")


def amounts_of(spec: RunSpec) -> dict[str, int]:
    """Count what a run does at most; equal work of different arms is done once, so it may be less."""
    turns = len(spec.arms) * spec.seeds
    new_tokens = sum(spec.document_tokens - spec.prefix_tokens(arm) for arm in spec.arms) * spec.seeds
    step_tokens = spec.recipe.batch_size * spec.recipe.gradient_accumulation * spec.recipe.block_tokens
    return {
        "arms": len(spec.arms),
        "seeds": spec.seeds,
        "generations_to_examine": turns * (spec.generations + 1),
        "documents_to_write": turns * spec.documents * (spec.generations + 1),
        "tokens_to_generate": new_tokens * spec.documents * (spec.generations + 1),
        "fine_tunings": turns * spec.generations,
        "tokens_to_train": turns * spec.generations * spec.recipe.steps * step_tokens,
    }

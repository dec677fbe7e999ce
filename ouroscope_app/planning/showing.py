"""A plan for people: two tables, and what to do in sentences. `costs_table` and `sample_table` serve docs/ as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from ouroscope_app import columns
from ouroscope_app.estimating.showing import duration
from ouroscope_app.output import answers, counted, notes
from ouroscope_app.planning.costs import Cost
from ouroscope_app.planning.planned import Plan
from ouroscope_app.planning.sampling import LONG, Sampled
from services.analyzer.sample import LADDER

COST_HEADINGS = ("work", "words", "CPU", "GPU", "read", "moved", "memory", "time", "money")
SAMPLE_HEADINGS = ("metric", "one report", "enough", "budget", "samples", "documents", "value")
_NUMBERS = frozenset(COST_HEADINGS[1:] + SAMPLE_HEADINGS[1:-1])
CHANGES = 0.02
"""From this power of the budget on a value is said to change with it: 5 % from 10,000 to 100,000 words."""
_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def show_plan(plan: Plan) -> None:
    """Print a plan: the answer on stdout, what it rests on on stderr."""
    inputs = plan.inputs
    answers.print(f"[bold]{short(inputs.tokens)} words in {short(plan.documents)} documents[/]")
    answers.print("\n[bold]all of it[/]")
    _show(COST_HEADINGS, [cost_row(cost) for cost in plan.everything], 1)
    answers.print(f"\n[bold]enough for ± {inputs.interval:.3g} of each value[/]")
    _show(SAMPLE_HEADINGS, [sample_row(one) for one in plan.metrics], 3)
    answers.print(f"\n[bold]that much: {short(plan.sample_words)} words, {short(plan.prompts)} prompts[/]")
    _show(COST_HEADINGS, [cost_row(cost) for cost in plan.sample if cost.words], 1)
    answers.print()
    for line in advice(plan):
        answers.print(line, markup=False, soft_wrap=True)
    for line in footnotes(plan):
        notes.print(f"[dim]{line}[/]", soft_wrap=True)


def cost_row(cost: Cost) -> tuple[str, ...]:
    """Return one kind of work as the cells of its row."""
    gpu = duration(cost.gpu_seconds) if cost.gpu_seconds else ""
    sizes = (cost.bytes_read, cost.bytes_moved, cost.memory_bytes)
    cells = (short(cost.words), duration(cost.cpu_seconds), gpu, *(f"{short(size)}B" for size in sizes))
    return (cost.work, *cells, duration(cost.seconds), price(cost.money))


def price(money: float) -> str:
    """Write an amount of money.

    >>> price(0.0), price(0.004), price(1234.5)
    ('0.00', '< 0.01', '1,234.50')
    """
    return "< 0.01" if 0 < money < 0.01 else f"{money:,.2f}"


def sample_row(one: Sampled) -> tuple[str, ...]:
    """Return what one metric needs as the cells of its row."""
    reach = "" if one.one_report is None else f"± {one.one_report:.2%}"
    budget = f"{one.rung:,}" if one.rung else ""
    changes = "changes with the budget" if abs(one.growth) >= CHANGES else ""
    samples = f"{one.samples:,}" if one.rung else ""
    documents = short(one.documents) if one.rung else ""
    return one.metric, reach, f"{short(one.needed)} {one.unit}", budget, samples, documents, one.note or changes


def advice(plan: Plan) -> Iterator[str]:
    """Yield what to do, in sentences."""
    within = [one for one in plan.metrics if one.metric not in plan.out_of_reach]
    if plan.sample_words and plan.sample_words < plan.inputs.tokens and within:
        yield f"Read {plan.sample_documents:,} documents drawn at random; more do not change what the values mean."
    several = max((one.samples for one in plan.metrics), default=1)
    if several > 1:
        yield (
            f"Divide them into {several:,} parts, analyse each by itself, and average the values: one report measures "
            f"at most {LADDER[-1]:,} words."
        )
    if plan.out_of_reach:
        yield f"This corpus is too small for that interval of: {', '.join(plan.out_of_reach)}."
    if any(abs(one.growth) >= CHANGES for one in plan.metrics):
        yield "Compare values of one budget only: those marked so change with it, whatever their interval."
    if plan.ray:
        yield "To read all of it, use a Ray cluster (--executor ray, docs/ray.md): it is over an hour of one processor."


def footnotes(plan: Plan) -> Iterator[str]:
    """Yield what the figures rest on."""
    inputs, prices = plan.inputs, plan.inputs.prices
    yield (
        f"inputs: {counted(inputs.cores, 'core')}, {short(inputs.bandwidth)}B/s, prices {prices.cpu_hour} a CPU hour, "
        f"{prices.gpu_hour} a GPU hour, {prices.gigabyte} a GB (defaults are examples of {plan.prices_of}); "
        f"coefficients measured on {plan.measured_on}, see docs/scaling.md"
    )
    if inputs.gpu_score is None or inputs.gpu_write is None:
        yield "a model is asked on processors unless --gpu-score and --gpu-write say what a GPU does in a second"
    if inputs.document_words > LONG:
        yield f"documents are longer than {LONG:.0f} words, so widths are taken by their number"


def short(number: float) -> str:
    """Write an amount with three digits.

    >>> short(999), short(1_053_000), short(1e11), short(950_000_000_000_000)
    ('999', '1.05 M', '100 G', '950 T')
    """
    for size, unit in _UNITS:
        if number >= size:
            scaled = number / size
            return f"{scaled:,.0f} {unit}" if scaled >= 100 else f"{scaled:.3g} {unit}"
    return f"{number:,.0f}"


def _show(headings: tuple[str, ...], rows: Sequence[Sequence[str]], fewest: int) -> None:
    tables = columns.fitting(answers, lambda count: [_table(headings, rows, count)], len(headings), fewest)
    answers.print(tables[0])


def _table(headings: tuple[str, ...], rows: Sequence[Sequence[str]], count: int) -> Table:
    table = columns.table(headings[:count], _NUMBERS)
    for row in rows:
        table.add_row(*row[:count])
    return table

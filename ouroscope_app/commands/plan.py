"""`ouroscope plan`: what a corpus of any size costs, and how much of it is enough."""

from __future__ import annotations

import typer

from ouroscope.canonical import to_plain
from ouroscope_app.output import command, print_json
from ouroscope_app.planning.inputs import PRICES_OF, Prices

TOKENS_HELP = "Words of the corpus: 1e9, 250000."
INTERVAL_HELP = "Wanted half of the 95 % interval, as a share of the value: 0.01 asks for ± 1 %."
METRIC_HELP = "Only this headline metric has to be known so well; may be given several times. Default: all."
PRICE = f"An example of {PRICES_OF}, of no provider: give your own."


@command
def plan(
    tokens: float = typer.Option(help=TOKENS_HELP),
    interval: float = typer.Option(0.01, help=INTERVAL_HELP),
    metrics: list[str] = typer.Option([], "--metric", "-m", help=METRIC_HELP),
    document_words: float = typer.Option(200.0, help="Words of a document, on average."),
    cores: int = typer.Option(1, help="Processors that read and parse; reading is shared by a Ray cluster only."),
    bandwidth: float = typer.Option(100.0, help="Megabytes a second from the store, all processors together."),
    price_cpu_hour: float = typer.Option(Prices().cpu_hour, help=f"Price of a processor for an hour. {PRICE}"),
    price_gpu_hour: float = typer.Option(Prices().gpu_hour, help=f"Price of a GPU for an hour. {PRICE}"),
    price_gb: float = typer.Option(Prices().gigabyte, help=f"Price of 10^9 bytes over the network. {PRICE}"),
    parameters: float = typer.Option(None, help="Parameters of the model, for processors. Default: ouro-tiny."),
    gpus: int = typer.Option(1, help="GPUs, with --gpu-score or --gpu-write."),
    gpu_score: float = typer.Option(None, metavar="RATE", help="Tokens that a GPU scores in a second; measure yours."),
    gpu_write: float = typer.Option(None, metavar="RATE", help="Tokens that a GPU writes in a second; measure yours."),
    json_: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Say what it costs to examine a corpus of that many words, and how few of them are enough.

    Nothing is started or measured: coefficients that were measured on a small machine are carried to your size. The
    first table is for all words. The second says what each headline metric needs for the wanted interval: a budget, how
    many samples of it, how many documents. The third is what that costs. docs/scaling.md says what was measured and
    what is carried further.

    `ouroscope plan --tokens 1e11 --interval 0.01`

    `ouroscope plan --tokens 1e9 -m token_entropy --cores 64 --price-cpu-hour 0.04`

    `ouroscope plan --tokens 1e8 --gpu-write 5000 --gpu-score 40000 --price-gpu-hour 2.5`
    """
    from ouroscope_app.planning.coefficients import shipped
    from ouroscope_app.planning.inputs import Inputs
    from ouroscope_app.planning.planned import plan as planned
    from ouroscope_app.planning.showing import show_plan

    inputs = Inputs(
        tokens=tokens,
        interval=interval,
        metrics=tuple(metrics),
        document_words=document_words,
        cores=cores,
        bandwidth=bandwidth * 1e6,
        prices=Prices(cpu_hour=price_cpu_hour, gpu_hour=price_gpu_hour, gigabyte=price_gb),
        parameters=parameters,
        gpus=gpus,
        gpu_score=gpu_score,
        gpu_write=gpu_write,
    )
    found = planned(inputs, shipped())
    if json_:
        print_json(to_plain(found))
    else:
        show_plan(found)

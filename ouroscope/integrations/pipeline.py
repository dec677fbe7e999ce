"""One call per generation for any pipeline in Python, whatever trains its model.

>>> from ouroscope.integrations.pipeline import record_generation
>>> def after_training(number, prompts, answers):
...     generation = record_generation("news", number, answers, prompts=prompts, ensure=True)
...     return generation.verdict
"""

from __future__ import annotations

from collections.abc import Iterable

from ouroscope.client.long_work import Patience
from ouroscope.client.monitors import SyncMonitors
from ouroscope.errors import AlreadyExists, InvalidRequest, NotFound
from ouroscope.integrations.documents import Text, documents_of
from ouroscope.records.monitors import Monitor, MonitorGeneration
from ouroscope.records.predictions import NextToken, ScoredText

COORDINATOR = "127.0.0.1:50054"
_COLLECTION = "monitors/"


def record_generation(
    monitor: str,
    number: int,
    texts: Iterable[Text] = (),
    *,
    prompts: Iterable[str] | None = None,
    groups: Iterable[str] | None = None,
    predictions: Iterable[NextToken | ScoredText] = (),
    coordinator: str = COORDINATOR,
    ensure: bool = False,
    description: str = "",
    synthetic_share: float | None = None,
    request_id: str = "",
    patience: Patience | None = None,
) -> MonitorGeneration:
    """Report a generation to a monitor and return its comparison and verdict.

    Args:
        monitor: `monitors/news`, or `news`.
        number: The generation, 0 or more. The same content under the same number is recorded once.
        texts: What the model of this generation wrote: strings, rows or documents; read once, as they are measured.
        prompts: What each text was written after. It is not measured; it pairs the texts of two generations.
        groups: What each text shares with those that depend on it: its source, its user, its conversation.
        predictions: What the model expects after prompts, and how it scores texts.
        coordinator: `host:port`.
        ensure: Whether a monitor that does not exist is made; its first generation becomes its baseline.
        description: For example the version of the model, at most 256 characters.
        synthetic_share: Share of the tokens that are synthetic, in [0, 1]; None takes it from the documents.
        request_id: A UUID; a call that broke may be made again with the same one. Empty takes a fresh one.
        patience: How long to wait; by default an hour for the measurement.

    Raises:
        NotFound: there is no such monitor.
        AlreadyExists: other content was recorded under this number.
        PreconditionFailed: the monitor is paused.
        InvalidRequest: something in it is wrong.
        OuroscopeError: what became of the connection.
    """
    name = monitor_name(monitor)
    known = tuple(predictions)
    with SyncMonitors(coordinator, patience) as monitors:
        if ensure:
            ensured(monitors, name)
        return monitors.record_generation(
            name,
            number,
            documents_of(texts, prompts, groups),
            [one for one in known if isinstance(one, NextToken)],
            [one for one in known if not isinstance(one, NextToken)],
            description=description,
            synthetic_share=synthetic_share,
            request_id=request_id,
        )


def ensured(monitors: SyncMonitors, name: str) -> Monitor:
    """Return the monitor of that full name; make it if there is none."""
    try:
        return monitors.get_monitor(name)
    except NotFound:
        pass
    try:
        return monitors.create_monitor(name.removeprefix(_COLLECTION))
    except AlreadyExists:  # somebody was faster
        return monitors.get_monitor(name)


def monitor_name(monitor: str) -> str:
    """Return the full name of a monitor that may have been given without its collection.

    Raises:
        InvalidRequest: it is neither.

    >>> monitor_name("news"), monitor_name("monitors/news")
    ('monitors/news', 'monitors/news')
    """
    name = monitor if monitor.startswith(_COLLECTION) else f"{_COLLECTION}{monitor}"
    if not name.removeprefix(_COLLECTION) or name.count("/") != 1:
        raise InvalidRequest(f"monitor: expected a name such as monitors/news, got {monitor[:100]!r}")
    return name

"""What Ray says when it will not connect becomes an error that tells a person what to do."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from multiprocessing import Pipe
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import ray
from ray.exceptions import AuthenticationError

from ouroscope.cluster.actor import Actor, pickled_error, versions
from ouroscope.cluster.driver import LOST, Wanted, main, refusal_of
from ouroscope.errors import InvalidRequest, NotAuthenticated, NotFound, PreconditionFailed, Unavailable
from tests.unit import executor_work as work

MISMATCH = """Version mismatch: The cluster was started with:
    Ray: 2.9.3
    Python: 3.10.2
This process on node 127.0.0.1 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


@pytest.mark.parametrize(
    ("error", "refusal", "told"),
    [
        (RuntimeError(MISMATCH), PreconditionFailed, "(Ray 2.9.3, Python 3.10.2) than this process (Ray 2.60.0, Pyth"),
        (RuntimeError("Version mismatch"), PreconditionFailed, "use one image for both"),
        (AuthenticationError("the token /secret/token is wrong"), NotAuthenticated, "RAY_AUTH_TOKEN"),
        (ValueError("no such address"), InvalidRequest, "host:port"),
        (ConnectionError("GCS at /tmp/ray/session is gone"), Unavailable, "head"),
    ],
)
def test_a_refusal_says_what_to_do_and_nothing_of_what_ray_wrote(error, refusal, told):
    found = refusal_of(error)
    assert type(found) is refusal
    assert told in found.message
    assert "/" not in found.message


def test_an_actor_gives_what_the_work_gives_or_raises():
    with patch.dict(os.environ):
        actor = Actor()
    assert actor.about() == versions()
    assert [pickle.loads(part) if number else part for number, part in enumerate(actor.do(_order(5)))] == [True, 25]
    done, error = actor.do(pickle.dumps((work.refused, 3)))
    assert not done
    assert isinstance(pickle.loads(error), InvalidRequest)


def test_an_error_that_cannot_be_sent_is_sent_as_its_text():
    class Local(Exception):
        pass

    assert str(pickle.loads(pickled_error(Local("why")))) == "Local: why"
    sent = pickle.loads(pickled_error(NotFound("nothing there", artifact="x")))
    assert (sent.message, sent.metadata) == ("nothing there", {"artifact": "x"})


class ThroughAClient:
    """Stands for `ray`, connected by the Ray Client to a head that is lost when it is asked for the `lost` method."""

    exceptions = ray.exceptions

    def __init__(self, lost: str) -> None:
        self._lost = lost

    def remote(self, **_):
        return lambda kind: SimpleNamespace(remote=lambda: self._actor(kind()))

    def shutdown(self) -> None:
        """Nothing is left to leave."""

    def _actor(self, actor):
        methods = ("about", "do")
        return SimpleNamespace(**{name: SimpleNamespace(remote=self._method(actor, name)) for name in methods})

    def _method(self, actor, name):
        async def call(*arguments):
            if name == self._lost:
                raise ConnectionError("GRPC connection failed: 10.0.0.7 is gone")
            return getattr(actor, name)(*arguments)

        return lambda *arguments: asyncio.ensure_future(call(*arguments))


@pytest.mark.parametrize("lost", ["about", "do", ""])
def test_a_head_that_is_lost_behind_a_client_ends_the_work_and_not_in_silence(lost):
    ours, theirs = Pipe()
    wanted = Wanted(address="ray://127.0.0.1:1", workers=1, patience=600.0)
    connected = patch("ouroscope.cluster.driver._connected", return_value=ThroughAClient(lost))
    quiet = patch.multiple("ouroscope.cluster.driver", _silence=lambda: None, signal=SimpleNamespace(**SIGNALS))
    with patch.dict(os.environ), connected, quiet:
        driver = threading.Thread(target=main, args=(theirs, wanted), daemon=True)
        driver.start()
        assert ours.recv() == (-1, (True, b""))
        ours.send((7, _order(5)))
        ticket, (done, content) = ours.recv()
        ours.send((-1, None))
        driver.join(60.0)
    assert not driver.is_alive()
    answer = pickle.loads(content)
    assert (
        (ticket, done, answer) == (7, True, 25)
        if not lost
        else (ticket, done, answer.message) == (-1, False, LOST.message)
    )


SIGNALS = {"signal": lambda *_: None, "SIGINT": 2, "SIG_IGN": 1}
"""Instead of the module: only the first thread may say what a signal does."""


def _order(number: int) -> bytes:
    return pickle.dumps((work.squared, number))

"""What Ray says when it will not connect becomes an error that tells a person what to do."""

from __future__ import annotations

import os
import pickle
from unittest.mock import patch

import pytest
from ray.exceptions import AuthenticationError

from ouroscope.cluster.actor import Actor, pickled_error, versions
from ouroscope.cluster.driver import refusal_of
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


def _order(number: int) -> bytes:
    return pickle.dumps((work.squared, number))

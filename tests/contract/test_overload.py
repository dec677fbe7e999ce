"""An analyzer that is asked for more than it takes: a sample of benchmarks/load.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.load import under_load

CALLERS = 24
AT_A_TIME = 4

pytestmark = pytest.mark.timeout(600)


async def test_what_is_too_much_is_refused_with_the_time_to_come_back_and_health_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OURO_ANALYZER_MAX_STREAMS", str(AT_A_TIME))
    found = await under_load(tmp_path, 10.0, CALLERS)
    assert found["answered"] > 0
    assert found["refused"] > 0
    assert found["refused_without_retry_info"] == 0
    assert found["failed"] == {}
    assert (found["health_not_serving"], found["starts"]) == (0, 1)

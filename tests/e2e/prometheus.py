"""A real Prometheus that scrapes one coordinator every second and evaluates the rules that ship."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

import yaml

RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "rules"
EVERY = "1s"


class Prometheus:
    """One that answers."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def is_ready(self) -> bool:
        """Return whether it answers."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query; one that cannot be evaluated raises."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{asked}", timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return list(found["data"]["result"])

    def fired(self, alert: str) -> list[dict[str, str]]:
        """Return the labels under which an alert has fired since the start."""
        expression = f'count_over_time(ALERTS{{alertname="{alert}", alertstate="firing"}}[1h])'
        return [series["metric"] for series in self.query(expression)]


def wait_until(condition: Callable[[], object], what: str, timeout: float = 120.0) -> None:
    """Return once the condition holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.2)


@contextmanager
def prometheus(program: str, folder: Path, target: str) -> Iterator[Prometheus]:
    """Run one that scrapes `target` as the coordinator; it ends with the block."""
    folder.mkdir()
    _write_rules(folder)
    _write_configuration(folder, target)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            running = Prometheus(port)
            wait_until(lambda: running.is_ready() or process.poll() is not None, "Prometheus")
            assert process.poll() is None, "Prometheus did not start"
            yield running
        finally:
            process.terminate()
            process.wait(30)


def _write_rules(folder: Path) -> None:
    """Copy the rules as they ship, except that nothing has to last before it is told."""
    for path in RULES.glob("*.yml"):
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            for rule in group["rules"]:
                rule.pop("for", None)
        (folder / path.name).write_text(yaml.safe_dump(rules))


def _write_configuration(folder: Path, target: str) -> None:
    configuration = {
        "global": {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY},
        "rule_files": [f"{path.name}" for path in RULES.glob("*.yml")],
        "scrape_configs": [{"job_name": "ouroscope-coordinator", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

"""A real control plane of Kubernetes: etcd and the API server, and with them the controllers where these are there.

The programs lie in one folder, as those of envtest do (`etcd`, `kube-apiserver`, `kubectl`); `kube-controller-manager`
beside them is what makes pods of workloads. No node is there, so no pod ever runs.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.certificates import Authority

Object = dict[str, Any]

ASSETS = "KUBEBUILDER_ASSETS"
"""Variable with the folder of the programs, of the same name as for envtest."""
DEFINITIONS = "OURO_CRDS"
"""Variable with a folder of definitions (YAML) of kinds that are not Kubernetes' own."""
NEEDED = ("etcd", "kube-apiserver", "kubectl")
CONTROLLERS = "kube-controller-manager"
PATIENCE = 120.0
HOST = "127.0.0.1"
_USER = "tester"


def missing() -> str:
    """Return why there can be no control plane here, or nothing."""
    folder = os.environ.get(ASSETS)
    if not folder:
        return f"{ASSETS} is not set: it names a folder with {', '.join(NEEDED)} (`setup-envtest use -p path`)"
    lacks = [name for name in NEEDED if not Path(folder, name).exists()]
    return f"{ASSETS}={folder} has no {' and no '.join(lacks)}" if lacks else ""


class Refused(AssertionError):
    """The server did not do what it was told."""


class ControlPlane:
    """One cluster without nodes, on free ports of this machine; its data and keys lie in a folder of the caller."""

    def __init__(self, programs: Path, folder: Path) -> None:
        """Write certificates, a token for the one user, and how to reach the server."""
        self._programs = programs
        self._folder = folder
        self._store, self._peers, self._port = free_ports(3)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.config = folder / "kubeconfig"
        self._write_keys()

    def start(self) -> None:
        """Start it and return when it answers and has the namespaces of its own."""
        self._spawn("etcd", self._of_etcd())
        self._spawn("kube-apiserver", self._of_server())
        self.wait(lambda: self.kubectl("get", "--raw", "/readyz") == "ok", "the API server is ready")
        if self.has_controllers():
            self._spawn(CONTROLLERS, self._of_controllers())

    def stop(self) -> None:
        """End all of it. Killed, since nothing that it knows is wanted again."""
        for process in reversed(self._running.values()):
            process.kill()
            process.wait()

    def has_controllers(self) -> bool:
        """Return whether workloads become pods."""
        return (self._programs / CONTROLLERS).exists()

    def kubectl(self, *arguments: str, given: Iterable[Object] | None = None) -> str:
        """Run kubectl, with objects on its standard input where they are given, and return what it says.

        Raises:
            Refused: It failed, or it warned: what a server warns of, others may refuse.

        """
        whole = [*self._kubectl(), *arguments]
        text = "" if given is None else json.dumps({"apiVersion": "v1", "kind": "List", "items": list(given)})
        done = subprocess.run(whole, input=text, capture_output=True, text=True, check=False, timeout=PATIENCE)
        if done.returncode != 0 or "Warning:" in done.stderr:
            raise Refused(done.stderr[-8000:])
        return done.stdout

    def apply(self, namespace: str, objects: Iterable[Object]) -> None:
        """Let the server merge objects with what is there. A field that it does not know is an error."""
        strictly = ("--server-side", "--validate=strict", "--field-manager=helm", "--filename=-")
        self.kubectl("apply", f"--namespace={namespace}", *strictly, given=objects)

    def try_out(self, namespace: str, objects: Iterable[Object]) -> None:
        """Let the server look at new objects as at any, and keep none."""
        strictly = ("--dry-run=server", "--validate=strict", "--filename=-")
        self.kubectl("create", f"--namespace={namespace}", *strictly, given=objects)

    def list(self, kind: str, namespace: str) -> list[Object]:
        """Return the objects of a kind in a namespace."""
        found: list[Object] = json.loads(self.kubectl("get", kind, f"--namespace={namespace}", "-o=json"))["items"]
        return found

    def groups(self) -> set[str]:
        """Return the groups of kinds that the server knows; Kubernetes' own first one has no name."""
        told = json.loads(self.kubectl("get", "--raw", "/apis"))
        return {"", *(group["name"] for group in told["groups"])}

    def define(self, folder: Path) -> None:
        """Let the server know the kinds that a folder defines."""
        self.kubectl("apply", "--server-side", f"--filename={folder}")
        self.kubectl("wait", "--for=condition=established", "crd", "--all", f"--timeout={PATIENCE:.0f}s")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Return when a condition holds; a question that is refused meanwhile counts as no.

        Raises:
            AssertionError: It does not hold in time, or one of the programs has ended.

        """
        until = time.monotonic() + PATIENCE
        last = ""
        while time.monotonic() < until:
            self._look_alive()
            try:
                if condition():
                    return
            except Refused as refused:
                last = str(refused)
            time.sleep(0.2)
        raise AssertionError(f"not in {PATIENCE:.0f} seconds: {what}. {last}")

    def _kubectl(self) -> list[str]:
        cache = self._folder / "cache"
        return [str(self._programs / "kubectl"), f"--kubeconfig={self.config}", f"--cache-dir={cache}"]

    def _look_alive(self) -> None:
        for name, process in self._running.items():
            assert process.poll() is None, f"{name} ended: {self._log(name).read_text()[-4000:]}"

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _spawn(self, name: str, options: Iterable[str]) -> None:
        with self._log(name).open("wb") as log:
            command = [str(self._programs / name), *options]
            self._running[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _write_keys(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        authority = Authority("a cluster of tests")
        authority.issue("kube-apiserver", hosts=(HOST, "localhost", "kubernetes.default.svc")).write(self._folder)
        authority.issue("accounts").write(self._folder / "accounts")
        (self._folder / "ca.crt").write_bytes(authority.pem)
        token = secrets.token_hex(16)
        (self._folder / "tokens.csv").write_text(f'{token},{_USER},{_USER},"system:masters"\n')
        self.config.write_text(json.dumps(self._how_to_reach(token)))

    def _how_to_reach(self, token: str) -> Object:
        server = {"server": f"https://{HOST}:{self._port}", "certificate-authority": str(self._folder / "ca.crt")}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "here", "cluster": server}],
            "users": [{"name": _USER, "user": {"token": token}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": _USER}}],
            "current-context": "here",
        }

    def _of_etcd(self) -> list[str]:
        clients, peers = f"http://{HOST}:{self._store}", f"http://{HOST}:{self._peers}"
        return [
            f"--data-dir={self._folder / 'etcd'}",
            f"--listen-client-urls={clients}",
            f"--advertise-client-urls={clients}",
            f"--listen-peer-urls={peers}",
            f"--initial-advertise-peer-urls={peers}",
            f"--initial-cluster=default={peers}",
            # Nobody wants it back after a loss of power.
            "--unsafe-no-fsync",
        ]

    def _of_server(self) -> list[str]:
        return [
            f"--etcd-servers=http://{HOST}:{self._store}",
            f"--bind-address={HOST}",
            f"--secure-port={self._port}",
            f"--tls-cert-file={self._folder / 'tls.crt'}",
            f"--tls-private-key-file={self._folder / 'tls.key'}",
            f"--token-auth-file={self._folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._folder / 'accounts/tls.key'}",
            f"--service-account-key-file={self._folder / 'accounts/tls.crt'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            # No pod could reach an address of this machine's own.
            "--endpoint-reconciler-type=none",
        ]

    def _of_controllers(self) -> list[str]:
        return [
            f"--kubeconfig={self.config}",
            f"--service-account-private-key-file={self._folder / 'accounts/tls.key'}",
            f"--root-ca-file={self._folder / 'ca.crt'}",
            "--leader-elect=false",
            "--secure-port=0",
            # Nobody measures the load of pods; what is wanted is whether it finds them.
            "--horizontal-pod-autoscaler-sync-period=1s",
        ]


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]

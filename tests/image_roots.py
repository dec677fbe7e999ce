"""Builds the images of the Dockerfile without a container engine, and runs what is in them.

Every stage is a layer of an overlay over a Debian that debootstrap makes, which stands for the base image: the release
is the same, its Python is Debian's own. RUN is executed in a chroot, COPY copies; a container is a process of the
image's user on the layers without one to write to, with a network and process numbers of its own. All mounts live in
the namespaces of one command, so nothing is left mounted. Needs root, debootstrap and unshare.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.dockerfile import ROOT, Dockerfile, Instruction, Stage, read, substituted

PACKAGES = "ca-certificates,python3,python3-venv,python-is-python3"
"""What the base image has beside a bare Debian."""
TRUSTED = Path("/etc/ssl/certs/ca-certificates.crt")
NEEDED = ("debootstrap", "unshare", "nsenter", "chroot", "ip")


def missing() -> list[str]:
    """Return what this machine lacks to build images so."""
    programs = [name for name in NEEDED if shutil.which(name) is None]
    return programs + ([] if os.geteuid() == 0 else ["root"])


@dataclass(slots=True)
class Images:
    """The stages that were built, in a folder that may be large (several GB)."""

    folder: Path
    arguments: Mapping[str, str]
    """Build arguments that differ from their defaults."""
    dockerfile: Dockerfile = field(default_factory=read)
    _built: set[str] = field(default_factory=set)

    def build(self, name: str) -> None:
        """Build a stage, and first those that it is made of or copies from."""
        stage = self.dockerfile.stages[name]
        needs = [stage.base, *(found[1] for one in stage.of("COPY") if (found := _FROM.match(one.text)))]
        for other in needs:
            if other in self.dockerfile.stages:
                self.build(other)
        if name not in self._built:
            self._base()
            self._execute(stage)
            self._built.add(name)

    def size(self, name: str) -> int:
        """Return the bytes of the files of an image, without those of the Debian below it."""
        files = (path for stage in self.dockerfile.line_of(name) for path in self._upper(stage.name).rglob("*"))
        return sum(path.lstat().st_size for path in files if path.is_file() and not path.is_symlink())

    def digest(self, name: str, folder: str) -> str:
        """Return a digest of all files that a stage has put into a folder: names, rights, dates and content."""
        whole = hashlib.sha256()
        top = self._upper(name) / folder
        for path in sorted(top.rglob("*")):
            told = path.lstat()
            whole.update(f"{path.relative_to(top)} {told.st_mode} {int(told.st_mtime)}\n".encode())
            if path.is_symlink():
                whole.update(str(path.readlink()).encode())
            elif path.is_file():
                whole.update(hashlib.sha256(path.read_bytes()).digest())
        return whole.hexdigest()

    @contextmanager
    def container(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] = {}, log: Path
    ) -> Iterator[Container]:
        """Run a command as a container would: the user of the image, a read-only root, /tmp and /data to write to."""
        user = self.dockerfile.last(name, "USER").text
        mounts = [
            f"mount -t overlay -o lowerdir={self._layers(name)} image {self._view}",
            f"mount -t proc proc {self._view}/proc",
            *(f"mount -t tmpfs -o uid={user},gid={user},mode=0755 none {self._view}{at}" for at in _WRITABLE),
            "ip link set lo up",
        ]
        cleared = ["env", "--ignore-environment", *_words({**self.environment(name), **environment})]
        drop = [
            "setpriv",
            f"--reuid={user}",
            f"--regid={user}",
            "--clear-groups",
            "--bounding-set=-all",
            "--no-new-privs",
        ]
        enter = ["chroot", str(self._view)]
        script = "\n".join([*mounts, "exec " + shlex.join([*enter, *drop, *cleared, *command])])
        spaces = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]
        with log.open("wb") as told:
            process = subprocess.Popen([*spaces, "sh", "-euc", script], stdout=told, stderr=told)
            container = Container(process, [*enter, *drop, *cleared], log)
            try:
                yield container
            finally:
                container.stop()

    def environment(self, name: str) -> dict[str, str]:
        """Return the variables of ENV that hold in a stage."""
        values = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        for stage in self.dockerfile.line_of(name) if name else ():
            for one in stage.of("ENV"):
                values.update({key: substituted(value, values) for key, value in one.pairs.items()})
        return values

    def path(self, name: str, inside: str) -> Path:
        """Return where a file of an image lies on this machine, in the topmost layer that has it."""
        places = (self._upper(stage.name) / inside.lstrip("/") for stage in reversed(self.dockerfile.line_of(name)))
        return next(place for place in places if place.exists())

    @property
    def _view(self) -> Path:
        return self.folder / "view"

    def _upper(self, name: str) -> Path:
        return self.folder / "layers" / name

    def _layers(self, name: str) -> str:
        """Return the layers of a stage as overlay wants them: the topmost first."""
        line = [self._upper(stage.name) for stage in reversed(self.dockerfile.line_of(name))]
        return ":".join(map(str, [*(one for one in line if one.exists()), self.folder / "base"]))

    def _base(self) -> None:
        """Make the Debian that everything stands on, unless it is there."""
        self._view.mkdir(parents=True, exist_ok=True)
        base, half = self.folder / "base", self.folder / "half"
        if not base.exists():
            release = re.search(r"(bookworm|trixie)", self.dockerfile.arguments["BASE"])
            assert release, "the base image names no release of Debian"
            shutil.rmtree(half, ignore_errors=True)
            make = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", release[1], str(half)]
            subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
            half.rename(base)

    def _execute(self, stage: Stage) -> None:
        upper, work = self._upper(stage.name), self.folder / "work"
        for made in (upper, work):
            shutil.rmtree(made, ignore_errors=True)
            made.mkdir(parents=True)
        given = self._inherited(stage)
        folder = self._folder(stage)
        options = f"lowerdir={self._below(stage)},upperdir={upper},workdir={work}"
        view = [f"mount -t overlay -o {options} image {self._view}", f"mount -t proc proc {self._view}/proc"]
        for one in stage.instructions:
            if one.name == "ARG":
                given.update({key: self.arguments.get(key, value) for key, value in one.pairs.items()})
            elif one.name == "ENV":
                given.update({key: substituted(value, given) for key, value in one.pairs.items()})
            elif one.name == "WORKDIR":
                folder = one.text
                _run([*view, f"mkdir -p {self._view}{folder}"])
            elif one.name == "COPY":
                self._copy(one, view, folder)
            elif one.name == "RUN":
                inside = f"cd {shlex.quote(folder)}\n{one.text}"
                cleared = ["env", "--ignore-environment", *_words({**given, **_of_pip()})]
                _run([*view, *self._lent(), shlex.join(["chroot", str(self._view), *cleared, "sh", "-euc", inside])])

    def _inherited(self, stage: Stage) -> dict[str, str]:
        """Return the variables that a stage begins with: those of ENV and of ARG of the stages below it."""
        below = self.dockerfile.line_of(stage.name)[:-1]
        declared = {key: value for part in below for one in part.of("ARG") for key, value in one.pairs.items()}
        given = {key: self.arguments.get(key, value) for key, value in declared.items()}
        return {**given, **self.environment(stage.base if below else "")}

    def _below(self, stage: Stage) -> str:
        return self._layers(stage.base) if stage.base in self.dockerfile.stages else str(self.folder / "base")

    def _folder(self, stage: Stage) -> str:
        places = [one.text for part in self.dockerfile.line_of(stage.name)[:-1] for one in part.of("WORKDIR")]
        return places[-1] if places else "/"

    def _copy(self, one: Instruction, view: Sequence[str], folder: str) -> None:
        if found := _FROM.match(one.text):
            stage, source, target = found.groups()
            other = self.folder / "other"
            other.mkdir(exist_ok=True)
            mounts = [f"mount -t overlay -o lowerdir={self._layers(stage)} other {other}"]
            _run(
                [
                    *view,
                    *mounts,
                    f"mkdir -p {self._view}{Path(target).parent}",
                    f"cp -a {other}{source} {self._view}{target}",
                ]
            )
            return
        *sources, target = one.text.split()
        context = self.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        for name in context_files():
            if any(source == "." or name == source for source in sources):
                place = Path(name).name if target.endswith("/") and sources != ["."] else name
                copied = context / (target if target.endswith("/") else "") / place
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copied)
        _run([*view, f"mkdir -p {self._view}{folder}", f"cp -a {context}/. {self._view}{folder}/"])

    def _lent(self) -> list[str]:
        """Return mounts of what installing needs of this machine: its certificates, and folders that pip reads."""
        named = {Path(found) for found in re.findall(r"(?:file://)?(/[^\s']+)", " ".join(_of_pip().values()))}
        # An index in a folder refers to files beside it.
        places = {place.parent if place.name == "simple" else place for place in named if place.is_dir()}
        lent = [place for place in (TRUSTED, *sorted(places)) if place.exists()]
        lines = []
        for place in lent:
            inside = f"{self._view}{place}"
            lines.append(f"mkdir -p {inside if place.is_dir() else Path(inside).parent}")
            lines.append(f"mount --bind {place} {inside}")
        return lines


@dataclass(slots=True)
class Container:
    """A process in an image."""

    process: subprocess.Popen[bytes]
    _inside: list[str]
    log: Path

    def run(self, *command: str, network_only: bool = False) -> subprocess.CompletedProcess[str]:
        """Run a command beside it: in the same image, or as a program of this machine in the same network."""
        spaces = ["--net"] if network_only else ["--net", "--mount", "--pid"]
        words = command if network_only else [*self._inside, *command]
        target = self.first()
        return subprocess.run(
            ["nsenter", f"--target={target}", *spaces, *words], capture_output=True, text=True, check=False, cwd=ROOT
        )

    def ask(self, seconds: float, *command: str) -> bool:
        """Return whether a command of the image succeeds within some seconds; False at once if the container ended."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            if self._children() and self.run(*command).returncode == 0:
                return True
            time.sleep(0.2)
        return False

    def interpreter(self) -> int:
        """Return the bytes of Python and of its standard library."""
        return int(self.run("python", "-c", _INTERPRETER).stdout)

    def stop(self, signal: int = 15, seconds: float = 60.0) -> int:
        """Tell it to end and return its status; it is killed after some seconds."""
        if self.process.poll() is None and self._children():
            os.kill(self.first(), signal)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _children(self) -> str:
        pid = self.process.pid
        try:
            return Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        except FileNotFoundError:
            return ""

    def first(self) -> int:
        """Return the number of its first process, as this machine knows it."""
        return int(self._children().split()[0])


_FROM = re.compile(r"--from=(\S+) (\S+) (\S+)")
_INTERPRETER = """
import pathlib, sys, sysconfig
files = [pathlib.Path(sys.executable).resolve(), *pathlib.Path(sysconfig.get_path("stdlib")).rglob("*")]
print(sum(one.lstat().st_size for one in files if one.is_file() and not one.is_symlink()))
"""
_WRITABLE = ("/tmp", "/data/store", "/data/home")


def context_files() -> list[str]:
    """Return the files that the build sees: those of the checkout that .dockerignore lets through."""
    kept = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *kept]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted(name for name in set(names) if (ROOT / name).exists())


def _run(lines: Sequence[str]) -> None:
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    done = subprocess.run([*spaces, "sh", "-euc", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{lines[-1]}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"


def _words(variables: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in variables.items()]


def _of_pip() -> dict[str, str]:
    """Return how pip finds packages on this machine, as variables."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", told, re.MULTILINE))
    return {f"PIP_{name.replace('-', '_').upper()}": value.replace("\\n", " ") for name, value in found.items()}

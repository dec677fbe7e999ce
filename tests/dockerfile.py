"""Reads the Dockerfile: its stages and their instructions. Knows as much of the language as ours uses."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KNOWN = {"ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "LABEL", "HEALTHCHECK", "CMD"}
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its lines joined."""

    name: str
    text: str

    @property
    def pairs(self) -> dict[str, str]:
        """Return the names and values of ARG, ENV or LABEL; an ARG without a value has an empty one."""
        return {name: value for name, _, value in (word.partition("=") for word in shlex.split(self.text))}

    @property
    def command(self) -> list[str]:
        """Return the words of a command in JSON, of CMD or HEALTHCHECK."""
        found = json.loads(self.text[self.text.index("[") :])
        assert isinstance(found, list)
        return found


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage: what it begins with, and its instructions."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def of(self, name: str) -> list[Instruction]:
        """Return the instructions of one kind, in their order."""
        return [one for one in self.instructions if one.name == name]


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """What comes before the first stage, and the stages by name."""

    arguments: Mapping[str, str]
    stages: Mapping[str, Stage]

    def line_of(self, name: str) -> list[Stage]:
        """Return the stages that one is made of, the first one first."""
        stage = self.stages[name]
        return [*(self.line_of(stage.base) if stage.base in self.stages else ()), stage]

    def last(self, stage: str, instruction: str) -> Instruction:
        """Return the instruction of a kind that holds at the end of a stage."""
        return [one for part in self.line_of(stage) for one in part.of(instruction)][-1]


def read(path: Path = ROOT / "Dockerfile") -> Dockerfile:
    """Return what stands in a Dockerfile."""
    arguments: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    newest: Stage | None = None
    for one in _instructions(path.read_text()):
        if one.name == "FROM":
            base, _, name = one.text.split()
            newest = stages[name] = Stage(name, substituted(base, arguments))
        elif newest is None:
            assert one.name == "ARG", one
            arguments.update(one.pairs)
        else:
            assert one.name in KNOWN, one
            newest.instructions.append(one)
    return Dockerfile(arguments, stages)


def substituted(text: str, values: Mapping[str, str]) -> str:
    """Return a text with `$NAME` and `${NAME}` replaced."""
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], ""), text)


def _instructions(text: str) -> Iterator[Instruction]:
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, rest = line.partition(" ")
        yield Instruction(name, re.sub(r"\s+", " ", rest).strip())

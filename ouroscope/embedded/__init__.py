"""What ships with Ouroscope and needs no download: where it lies in a checkout and in an installed wheel.

Knows directories, not what a model is.
"""

from __future__ import annotations

from pathlib import Path

from ouroscope.errors import NotFound

_HERE = Path(__file__).resolve().parent
_ROOTS = (_HERE / "models", _HERE.parent.parent / "models")
"""In a wheel the models lie beside this file; in a checkout in the folder `models` of the repository."""
_EXPERIMENTS = (_HERE / "experiments", _HERE.parent.parent / "experiments")


def names() -> tuple[str, ...]:
    """Return the names of the language models that ship with this installation, in alphabetical order."""
    return tuple(sorted({config.parent.name for root in _ROOTS for config in root.glob("*/tokenizer.json")}))


def model_directory(name: str) -> Path:
    """Return the directory of the embedded language model `name`, in Hugging Face's layout.

    Raises:
        NotFound: no such model ships with this installation.
    """
    if name not in names():
        known = ", ".join(names()) or "none in this installation"
        raise NotFound(f"there is no embedded model {name[:80]!r}; embedded models: {known}", model=name[:80])
    return next(root / name for root in _ROOTS if (root / name / "tokenizer.json").is_file())


def experiment_path(name: str) -> Path | None:
    """Return the run specification that ships as `name`, for example `quickstart`, or None if there is none."""
    if not name.replace("-", "").isalnum():
        return None
    return next((path for root in _EXPERIMENTS if (path := root / f"{name}.yaml").is_file()), None)

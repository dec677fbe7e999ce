"""What ships with Ouroscope and needs no download: where it lies in a checkout and in an installed wheel.

Knows directories, not what a model is.
"""

from __future__ import annotations

from pathlib import Path

from ouroscope.errors import NotFound

_HERE = Path(__file__).resolve().parent
_CHECKOUT = _HERE.parent.parent


def names() -> tuple[str, ...]:
    """Return the names of the language models that ship with this installation, in alphabetical order."""
    return tuple(sorted({found.parent.name for root in _roots("models") for found in root.glob("*/tokenizer.json")}))


def model_directory(name: str) -> Path:
    """Return the directory of the embedded language model `name`, in Hugging Face's layout.

    Raises:
        NotFound: no such model ships with this installation.
    """
    if name not in names():
        known = ", ".join(names()) or "none in this installation"
        raise NotFound(f"there is no embedded model {name[:80]!r}; embedded models: {known}", model=name[:80])
    return next(root / name for root in _roots("models") if (root / name / "tokenizer.json").is_file())


def pipeline_directory(name: str) -> Path | None:
    """Return the folder of the spaCy pipeline that ships as `name`, or None if there is none."""
    if not name.replace("_", "").isalnum() or len(name) > 100:
        return None
    return next((root / name for root in _roots("models") if (root / name / "config.cfg").is_file()), None)


def experiment_path(name: str) -> Path | None:
    """Return the run specification that ships as `name`, for example `quickstart`, or None if there is none."""
    if not name.replace("-", "").isalnum():
        return None
    return next((path for root in _roots("experiments") if (path := root / f"{name}.yaml").is_file()), None)


def experiment_names() -> tuple[str, ...]:
    """Return the names of the run specifications that ship with this installation, in alphabetical order."""
    return tuple(sorted({path.stem for root in _roots("experiments") for path in root.glob("*.yaml")}))


def _roots(folder: str) -> tuple[Path, ...]:
    """Return where `folder` may lie: beside this file in a wheel, at the top of the repository in a checkout."""
    # Above an installed package there may be anybody's folder of that name.
    is_checkout = (_CHECKOUT / "pyproject.toml").is_file()
    return (_HERE / folder, _CHECKOUT / folder) if is_checkout else (_HERE / folder,)

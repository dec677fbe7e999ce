"""One specification for one run, out of an experiment file that may hold scales."""

from __future__ import annotations

from collections.abc import Sequence

from ouroscope.errors import InvalidRequest
from ouroscope.records.runs import RunSpec
from ouroscope_app.experiments.reading import Experiment, read_experiment


def load_spec(source: str, overrides: Sequence[str] = (), scale: str = "") -> RunSpec:
    """Read the specification at `source` (a path, or the name of a shipped experiment) and apply `key=value` overrides.

    Raises:
        NotFound: there is no such file and no such experiment.
        InvalidRequest: the file is not YAML, the specification is wrong (all problems are told), or it is a sweep.
    """
    return only_run(read_experiment(source, scale, overrides))


def only_run(experiment: Experiment) -> RunSpec:
    """Return the one run that an experiment means.

    Raises:
        InvalidRequest: it is a sweep.
    """
    if experiment.swept:
        number = len(experiment.specs)
        raise InvalidRequest(f"{experiment.name} is a sweep of {number} runs; start them by `ouroscope sweep`")
    return experiment.specs[0]

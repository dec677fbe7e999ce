"""The page of the protocols, for `generate.py`: what they have in common, and the docstring of each."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

from services.coordinator.protocols import PROTOCOLS, Protocol

HEAD = """# Protocols

GENERATED from the docstrings in `services/coordinator/protocols` by `make docs`.

A protocol says what the next model of an arm is trained on. It is a pure function from everything so far to portions:
of which corpora, how many documents, with what weight. An arm names it:

```yaml
arms:
  - name: human
    protocol: human
  - name: tenth
    protocol: mixed
    human_fraction: 0.1
    synthetic_fraction: 1.0
    human_text: REPLAYED
```

In all sheets *n* is `documents`, D_j what the model of generation *j* wrote, H_j fresh human documents of round *j*
(with `prompt_selection: FRESH` those whose beginnings D_j continues), T_j what the model of generation *j + 1* is
trained on. Generation 0 is the untouched base model. All arms train for the same number of steps, so a larger set is
seen less often.

"""
TAIL = """## What goes with any protocol

- **Prefix mixing.** `real_share` of every document is real text, in all arms; sweep it for the share of synthetic
  tokens. It is the one way in which `replace` still holds real text.
- **Several models.** `feeds_on` names other arms whose text of the same generation joins the pool. Arms that name each
  other share one pool, and draw sets of equal size from it. With `part` and `parts` each of them reads human text of
  its own; with neither they continue the same prompts, with noise of their own.
- **Domains.** `domains` keeps an arm to some of the domains of the data set: [datasets.md](datasets.md).
- **Selection.** `selection` chooses from the pool by a rule instead of uniformly: *n* documents where the protocol
  takes whole corpora. Its control is the rule `RANDOM` on the same pool, and its `order` reversed. A rule that ranks
  needs a pool that is larger than what is kept. All rules: [mitigations.md](mitigations.md).
- **Editing.** `edit` lets the current model edit human text before training.
- **Start.** `start` says whether a model goes on from the one before it, or from the base model; `prompt_selection`
  whether prompts are new in each generation. Both hold for all arms of a run.

A field that a protocol does not read is refused, not passed over. What goes wrong in such experiments, and where
Ouroscope looks for it, is in [pitfalls.md](pitfalls.md).

## Add a protocol

1. One pure function in a file of `services/coordinator/protocols`: it gets `Pools` (everything so far) and `Terms`
   (what the arm says) and returns portions; with none the model stays as it is. Its docstring is its sheet: the rule as
   `T_j = ...` in the first line, `Reason:`, `Source:`.
2. One line in `PROTOCOLS` in `__init__.py`: which fields of an arm it reads, with which defaults, and how much it
   writes if that grows.
3. One line in `PROTOCOL_WORDS` in `services/coordinator/report/arms.py`: what a reader of the report is told.
4. One test: what is in the set after generations 0, 1 and 2, one line in the table of
   `tests/unit/coordinator/test_protocols.py`. Laws, windows, the synthetic share and the checks of specifications need
   no line: they ask the function.

Where the literature knows how a small model ends (`tests/unit/coordinator/test_toys.py`), let the protocol drive it.
"""


def protocols_page() -> str:
    """Return `protocols.md`."""
    families: dict[str, list[str]] = {}
    for name, protocol in PROTOCOLS.items():
        families.setdefault(protocol.choose.__module__, []).append(name)
    rows = [
        f"| [{name}](#{name}) | {rule(protocol)} | {', '.join(given(protocol))} |"
        for name, protocol in PROTOCOLS.items()
    ]
    parts = [HEAD + "\n".join(("| protocol | rule | reads, with its default |", "|---|---|---|", *rows)) + "\n"]
    for module, names in families.items():
        title, _, more = inspect.cleandoc(sys.modules[module].__doc__ or "").partition("\n\n")
        parts.append(f"## {title.rstrip('.')}\n" + (f"\n{more}\n" if more else ""))
        parts += [f"### {name}\n\n```\n{inspect.getdoc(PROTOCOLS[name].choose)}\n```\n" for name in names]
    return "\n".join((*parts, TAIL))


def rule(protocol: Protocol) -> str:
    """Return the first sentence of a sheet."""
    return (inspect.getdoc(protocol.choose) or "").partition("\n")[0].rstrip(".")


def given(protocol: Protocol) -> Iterator[str]:
    """Yield the fields of an arm that a protocol reads."""
    for name in protocol.reads:
        default = getattr(protocol, name, None)
        yield f"`{name}`" if default is None else f"`{name}` {default:g}"

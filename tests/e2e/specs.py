"""A run small enough for a test: two arms, two generations, a minute of text of our own."""

from __future__ import annotations

import ast
import json
import sysconfig
from pathlib import Path

SMALL = """
name: small
model: ouro-tiny
dataset: {{source: {corpus}}}
generations: 2
documents: 24
document_tokens: 24
evaluation: {{prompts: 20, prompt_length: 8, heldout_documents: 20, max_tokens: 48, last_n: 8, samples: 2}}
recipe: {{steps: 4, batch_size: 2, block_tokens: 64, checkpoint_steps: 2}}
arms:
  - {{name: human, protocol: human, real_share: 0.25}}
  - {{name: replace, protocol: replace, real_share: 0.25}}
"""

MODULES = "argparse ast calendar codecs csv datetime decimal difflib doctest enum inspect logging/__init__ optparse"
MORE_MODULES = "pathlib pickle random statistics subprocess tarfile typing zipfile"


def write_small_spec(folder: Path) -> Path:
    """Write the specification and its corpus of real sentences into `folder`."""
    corpus = folder / "corpus.jsonl"
    library = Path(sysconfig.get_paths()["stdlib"])
    paths = [library / f"{name}.py" for name in f"{MODULES} {MORE_MODULES}".split()]
    lines = [json.dumps({"text": text}) for path in paths for text in docstrings(path)]
    corpus.write_text("\n".join(lines) + "\n")
    spec = folder / "small.yaml"
    spec.write_text(SMALL.format(corpus=json.dumps(str(corpus))))
    return spec


def docstrings(path: Path) -> list[str]:
    """Return the docstrings of a module that are long enough to be cut into windows."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = (ast.get_docstring(node) for node in nodes if isinstance(node, kinds))
    return [text for text in found if text and len(text.split()) >= 30]

"""Pages that can be generated are generated, and what they say of files is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_generated_pages_are_what_the_code_says(root: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, root / "docs/generate.py", tmp_path], check=True, cwd=root)
    assert (tmp_path / "metrics.md").read_text() == (root / "docs/metrics.md").read_text(), "run `make docs`"


def test_links_between_pages_lead_somewhere(root: Path) -> None:
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []

"""Pages that can be generated are generated, and what they say of files is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from ouroscope.settings import describe
from services.analyzer.catalogue import CATALOGUE
from services.analyzer.settings import PREFIX, AnalyzerSettings


def test_generated_pages_are_what_the_code_says(root: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, root / "docs/generate.py", tmp_path], check=True, cwd=root)
    pages = sorted(path.name for path in tmp_path.iterdir())
    assert pages == ["metrics.md", "protocols.md", "reproduction.md", "scaling.md", "settings.md"]
    assert [name for name in pages if (tmp_path / name).read_text() != (root / "docs" / name).read_text()] == [], (
        "run `make docs`"
    )


def test_every_metric_has_one_section_and_the_contents_lead_to_it(root: Path) -> None:
    page = (root / "docs/metrics.md").read_text()
    headings = re.findall(r"^##+ (.+)$", page, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = re.findall(r"\]\(#([^)]+)\)", page)
    assert sorted(links) == sorted(anchors)
    told = [id for heading in re.findall(r"^### (.+)$", page, re.MULTILINE) for id in heading.split(", ")]
    assert sorted(told) == sorted(info.id for info in CATALOGUE)


def test_the_page_of_the_analyzer_names_only_variables_that_exist(root: Path) -> None:
    told = re.findall(r"OURO_ANALYZER_[A-Z_]+", (root / "docs/api.md").read_text())
    assert told
    assert set(told) <= {one.name for one in describe(AnalyzerSettings, PREFIX)}


def test_the_ports_that_are_told_are_those_of_the_settings(root: Path) -> None:
    page = (root / "docs/settings.md").read_text()
    ports = re.findall(r"^\| `OURO_(\w+)_METRICS_(?:PORT|ADDRESS)` .*?(\d{4})`", page, re.MULTILINE)
    assert len(ports) == 4
    for text in (page, (root / "README.md").read_text()):
        assert [service for service, port in ports if f"{service.lower()} {port}" not in text] == []


def test_links_between_pages_lead_somewhere(root: Path) -> None:
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert links
    assert [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()] == []

"""What the documents refer to is there."""

import re
from pathlib import Path

import pytest

from lab.paths import PROJECT

DOCUMENTS = sorted([PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]*)?\)")
"""A link to another file, which no address is: these have a colon."""

FILE = re.compile(
    r"`((?:certs|components|docs|findings|hypervisors|lab|ops|plan|plugins|policy|preview|probe"
    r"|spec|tests)/[\w./-]*)`"
)
"""A path of the project, as documents name it: with its extension, or a folder."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_its_links_and_the_files_that_it_names_are_there(document: Path) -> None:
    assert not [path for path in named(document) if not path.exists()]


def test_links_and_files_are_recognised() -> None:
    there = {str(path.relative_to(PROJECT)) for document in DOCUMENTS for path in named(document)}
    assert {"docs/faults.md", "docs/cluster.svg", "tests/plan/test_faults.py"} <= there


def named(document: Path) -> list[Path]:
    """The files that a document links to or names."""
    text = document.read_text()
    links = [document.parent / link for link in LINK.findall(text)]
    return [(PROJECT / path).resolve() for path in (*links, *FILE.findall(text))]

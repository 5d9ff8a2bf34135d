"""The documents of this repository: what they point at is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_ROOM = re.compile(r"`([\w./*<>]+\.(?:py|yaml|md|css)|[\w/]+/)`")
_PACKAGES = ("merge", "orchestrator", "replicate", "experiments")


def anchors(document: Path) -> set[str]:
    """What the headings of `document` are called in links."""
    texts = _HEADING.findall(document.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in texts}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document):
    for link in _LINK.findall(document.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        there = document.parent / name if name else document
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_every_room_that_architecture_names_is_there():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Where to change what")[2].partition("## On disk")[0]
    lost = []
    for line in table.splitlines():
        folder = ROOT
        for name in _ROOM.findall(line):
            pattern = name.replace("<verb>", "*")
            is_whole = pattern.split("/")[0] in (*_PACKAGES, "docs")
            place = ROOT if is_whole else folder
            if not list(place.glob(pattern)):
                lost.append(f"{name}: {line}")
            if is_whole and not name.startswith("docs"):
                folder = (ROOT / pattern).parent
    assert lost == []


def test_every_module_of_the_control_plane_has_a_room_in_architecture():
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Where to change what")[2].partition("## On disk")[0]
    patterns = {Path(name).name for name in _ROOM.findall(table)}
    modules = [
        path
        for package in ("merge", "orchestrator", "replicate")
        for path in (ROOT / package).glob("*.py")
        if not path.name.startswith("__")
    ]
    assert [
        path.name for path in modules if not any(path.match(pattern) for pattern in patterns)
    ] == []

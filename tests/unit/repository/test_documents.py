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
_FILE = re.compile(
    r"(?<![\w./-])((?:merge|orchestrator|replicate|experiments|tests|benchmarks|examples|docs)"
    r"/[\w/.<>*-]*\.(?:py|yaml|md|css|jinja|sh))\b"
)
_MODULE = re.compile(r"python -m ((?:merge|orchestrator|replicate|experiments)[\w.]*)")
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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_and_module_that_a_document_names_is_there(document):
    text = document.read_text(encoding="utf-8")
    names = {re.sub(r"<\w+>|NAME", "*", name) for name in _FILE.findall(text)}
    assert [name for name in sorted(names) if not list(ROOT.glob(name))] == []
    modules = {name.replace(".", "/") for name in _MODULE.findall(text)}
    mains = [name for name in modules if not list(ROOT.glob(f"{name}.py"))]
    assert [name for name in mains if not (ROOT / name / "__main__.py").exists()] == []


def rooms() -> dict[str, list[Path]]:
    """Each name in ARCHITECTURE's table, with its row -> the files and folders that it names."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = text.partition("## Rooms")[2].partition("## On disk")[0]
    found = {}
    for line in table.splitlines():
        folder = ROOT
        for name in _ROOM.findall(line):
            pattern = name.replace("<verb>", "*")
            is_whole = pattern.split("/")[0] in (*_PACKAGES, "docs")
            found[f"{name}: {line}"] = list((ROOT if is_whole else folder).glob(pattern))
            if is_whole and not name.startswith("docs"):
                folder = (ROOT / pattern).parent
    return found


def test_every_room_that_architecture_names_is_there():
    assert [name for name, paths in rooms().items() if not paths] == []


def test_every_module_of_the_four_packages_has_a_room_in_architecture():
    named = {path for paths in rooms().values() for path in paths}
    modules = [
        path
        for package in _PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if not path.name.startswith("__")
    ]
    assert len(modules) > 200
    lost = [path for path in modules if named.isdisjoint({path, *path.parents})]
    assert [str(path.relative_to(ROOT)) for path in lost] == []

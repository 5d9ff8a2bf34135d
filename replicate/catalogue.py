"""The studies and published numbers that come with papergrid."""

from __future__ import annotations

from pathlib import Path

from merge.errors import UsageError

STUDIES = Path(__file__).parent / "studies"
PUBLISHED = Path(__file__).parent / "published"


def built_in_studies() -> list[str]:
    """Names of the built-in studies, sorted."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def find_study(reference: str | Path) -> Path:
    """The file of a study, by built-in name or path. UsageError says which names there are."""
    text = str(reference)
    if text in built_in_studies():
        return STUDIES / f"{text}.yaml"
    path = Path(reference)
    if path.is_file():
        return path
    what = "is a folder, not a study file" if path.is_dir() else "is neither a study nor a file"
    raise UsageError(f"{text!r} {what}; built-in studies: {', '.join(built_in_studies())}")

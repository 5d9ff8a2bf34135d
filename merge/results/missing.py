"""The error for an output folder or input that is not there; it names the one perhaps meant."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from merge.errors import UsageError
from merge.storage.paths import SweepPaths
from merge.wording import nearest

_MOST_LOOKED_AT = 200
"""A folder may hold anything, on a slow file server: a hint must not take long."""


def refuse_absent(path: Path, wanted: str) -> None:
    """UsageError where there is nothing at `path`; `wanted` says what can be named."""
    if not path.exists():
        raise UsageError(f"{path} does not exist{_hint(path)}: {wanted}")


def _hint(path: Path) -> str:
    sweeps = [*dict.fromkeys(_sweeps_beside(path))]
    by_name = {sweep.name: sweep for sweep in sweeps}
    near = nearest(path.name, by_name)
    if near:
        return f" (did you mean {by_name[near]}?)"
    return f" (there is a sweep in {sweeps[0]})" if len(sweeps) == 1 else ""


def _sweeps_beside(path: Path) -> Iterator[Path]:
    """Output folders beside `path`, and in the folder where a study's is made by default."""
    for folder in (path.parent, Path("outputs"), path.parent / "outputs"):
        try:
            names = sorted(os.listdir(folder))[:_MOST_LOOKED_AT]  # noqa: PTH208 - names only
        except OSError:
            continue
        for name in names:
            # Also where this user may not look into the folder: then it is no hint.
            if os.path.exists(SweepPaths(folder / name).sweep):  # noqa: PTH110
                yield folder / name

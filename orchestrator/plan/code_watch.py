"""The version of the code at any time of a sweep: a person may edit it while runs go on."""

from __future__ import annotations

from pathlib import Path

from merge.records.sweep import Sweep
from merge.storage.clock import SYSTEM_CLOCK, Clock
from orchestrator.plan.code_version import CodeVersion, code_version, sources_of
from orchestrator.studies.options import EXPERIMENTS

_LONGEST_S = 60.0
"""Commits and files that no search finds are looked at again after this time: asking git takes
three processes."""

_Stamps = frozenset[tuple[str, int, int, int]]


class CodeWatch:
    """Says which code a run that starts now is trained with.

    What is found is kept while no file of it, and no folder that holds one, has changed.
    """

    def __init__(self, sweep: Sweep, cwd: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        """`cwd` is where runs are started."""
        self._run = sweep.runs[0]
        self._named = sweep.code_files
        self._cwd = cwd
        self._clock = clock
        self._known: CodeVersion | None = None
        self._stamps: _Stamps = frozenset()
        self._places: tuple[str, ...] = ()
        self._read_at = 0.0

    def __call__(self) -> CodeVersion:
        """The version now. StudyError where the experiment is gone."""
        is_recent = self._clock.monotonic() - self._read_at < _LONGEST_S
        if self._known is None or not is_recent or _stamps(self._places) != self._stamps:
            self._known = self._read()
        return self._known

    def _read(self) -> CodeVersion:
        sources = sources_of(self._run, EXPERIMENTS, self._cwd, self._named)
        files = {str(path) for path in sources.values()}
        folders = {str(path.parent) for path in sources.values()}
        self._places = tuple(sorted(files | folders))
        # Before the digest: a file that changes while it is read is read again by the next run.
        self._stamps = _stamps(self._places)
        self._read_at = self._clock.monotonic()
        return code_version(self._run, cwd=self._cwd, named=self._named)


def _stamps(places: tuple[str, ...]) -> _Stamps:
    found = set()
    for place in places:
        try:
            stat = Path(place).stat()
            found.add((place, stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.add((place, 0, 0, 0))
    return frozenset(found)

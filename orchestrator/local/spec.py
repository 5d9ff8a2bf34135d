"""`run.json`: written once by the first attempt, checked by all later ones."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from merge.errors import RecordError, StorageError
from merge.storage.atomic import storage_errors
from merge.storage.json_files import canonical_json, read_json, write_json, write_json_exclusive
from merge.storage.paths import RunPaths


def ensure_spec(paths: RunPaths, spec: Mapping[str, Any], free_keys: Collection[str] = ()) -> None:
    """Write `run.json` once, with the folder of the attempts. RecordError where it differs.

    Values of `free_keys` in its configuration may differ: no number depends on them. The names are
    durable once the run is claimed.
    """
    # Exclusively: another host may start the same run at the same time.
    # The claim goes into the same folder, and its fsync is that of all three names: two fsyncs less
    # in a run. After a power cut before it, the next attempt makes them again.
    is_new = write_json_exclusive(paths.spec, dict(spec), fsyncs_folder=False)
    with storage_errors(paths.attempts):
        paths.disk.make_folder(paths.attempts)
    if is_new:
        return
    try:
        known = read_json(paths.spec)
    except StorageError:
        raise
    except RecordError as error:
        message = f"{error}: remove that file; it is rewritten from sweep.json"
        raise RecordError(message, path=paths.spec) from error
    if not _is_same(_with_axes_of(spec, known), spec, free_keys):
        keys = sorted(k for k in known.keys() | spec.keys() if known.get(k) != spec.get(k))
        raise RecordError(
            f"{paths.spec} is not what the plan says of this run ({', '.join(keys)} differ): it "
            f"was changed by hand or belongs to another sweep; use another output folder, or "
            f"remove that file if the run has no result yet",
            path=paths.spec,
        )


def _is_same(
    known: Mapping[str, Any], spec: Mapping[str, Any], free_keys: Collection[str] = ()
) -> bool:
    def decisive(document: Mapping[str, Any]) -> bytes:
        config = document.get("config")
        kept = config if isinstance(config, dict) else {}
        left = {key: value for key, value in kept.items() if key not in free_keys}
        # As bytes: 1 and 1.0 and true are equal in Python, but not in a configuration.
        return canonical_json({**document, "config": left})

    return decisive(known) == decisive(spec)


def _with_axes_of(spec: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    """`known` with the axes that the plan got later: their values stand in its configuration."""
    axes, config = known.get("axes"), known.get("config")
    if not isinstance(axes, dict) or not isinstance(config, dict):
        return known
    added = {name: config[name] for name in spec["axes"] if name not in axes and name in config}
    return {**known, "axes": {**axes, **added}}


def attempt_spec(paths: RunPaths, number: int, spec: Mapping[str, Any]) -> Path | None:
    """The spec of attempt `number` where it is not word for word that of the run; else None."""
    if _is_same(read_json(paths.spec), spec):
        return None
    path = paths.attempt(number).spec
    write_json(path, dict(spec))
    return path

"""The part of a result that a merged view keeps: enough to merge, flag and compare it again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merge.records.code import CODE_KEYS
from merge.records.elapsed import elapsed_s
from merge.records.manifest import Manifest
from merge.records.result import Result
from merge.storage.json_files import canonical_json, is_finite_number

PARTS = "parts"
"""Key of `measured`: metric -> how many of the parts that it is a mean over were counted."""
_MEASURED = ("seconds", "peak_memory_mb", "world_size", "device")
_OF_OTHER_FORM = ("by_test_seed", "bootstrap", PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One result of one run, as a merged view carries it."""

    run_id: str
    config_hash: str
    """Empty for a legacy result: its configuration is unknown."""
    metrics: Mapping[str, float]
    attempt: int
    token: str
    started: float
    finished: float
    traits: Mapping[str, Any] = field(default_factory=dict)
    """What decides whether runs may stand in one mean, such as `code.source`, `details.weights`."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """What statistics and frames use beside the metrics: baseline, test seeds, times, memory."""
    deviations: Mapping[str, Any] = field(default_factory=dict)
    earlier_code: Sequence[Mapping[str, Any]] = ()
    """As in `Result`: the code of earlier attempts, where it is other code."""
    trained_s: float | None = None
    """As in `Result`."""
    legacy_unit: str = ""
    """`percent` or `fraction` for a legacy result: how its numbers were written."""

    @property
    def is_legacy(self) -> bool:
        return bool(self.legacy_unit)

    @property
    def order(self) -> tuple[float, str, bytes]:
        """By finished time, ties by token, further ties by content: one order for any input."""
        return self.finished, self.token, canonical_json(self.to_json())

    @property
    def seconds(self) -> float | None:
        """How long the run was trained; None where no clock can be believed."""
        return elapsed_s(self.started, self.finished, self.trained_s)

    def to_json(self) -> dict[str, Any]:
        document = {
            "config_hash": self.config_hash,
            "metrics": self.metrics,
            "attempt": self.attempt,
            "token": self.token,
            "started": self.started,
            "finished": self.finished,
            "traits": self.traits,
            "measured": self.measured,
            "deviations": self.deviations,
        }
        if self.earlier_code:
            document["earlier_code"] = self.earlier_code
        return document if self.trained_s is None else {**document, "trained_s": self.trained_s}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A file that was left out of the merge, and why."""

    run_id: str
    """Empty where it is of no single run."""
    file: str
    """Relative to the output folder."""
    reason: str
    folder: str = ""
    """Name of the output folder."""
    entry: Entry | None = None
    """What a result that was kept aside says, where it can be read."""

    def to_json(self) -> dict[str, Any]:
        document: dict[str, Any] = {
            "run_id": self.run_id,
            "folder": self.folder,
            "file": self.file,
            "reason": self.reason,
        }
        return document if self.entry is None else {**document, "result": self.entry.to_json()}


def entry_of(result: Result, manifest: Manifest) -> Entry:
    """What a merged view keeps of `result`; the manifest names the details."""
    code, details = result.code, result.details
    traits = {f"code.{name}": code[name] for name in CODE_KEYS if code.get(name) is not None}
    for name in manifest.comparability.recorded:
        if details.get(name) is not None:
            traits[f"details.{name}"] = details[name]
    return Entry(
        run_id=result.run_id,
        config_hash=result.config_hash,
        # A trainer may write 1 for 1.0: JSON would show the same number in two ways.
        metrics={name: float(value) for name, value in result.metrics.items()},
        attempt=result.attempt,
        token=result.token,
        started=float(result.started),
        finished=float(result.finished),
        traits=traits,
        measured=_measured(details, manifest),
        deviations=result.deviations,
        earlier_code=result.earlier_code,
        trained_s=result.trained_s,
    )


def entry_from_json(run_id: str, document: Mapping[str, Any]) -> Entry:
    """The entry that `to_json` wrote. KeyError or TypeError where `document` is none."""
    return Entry(
        run_id=run_id,
        config_hash=document["config_hash"],
        metrics=document["metrics"],
        attempt=document["attempt"],
        token=document["token"],
        started=document["started"],
        finished=document["finished"],
        traits=document["traits"],
        measured=document["measured"],
        deviations=document["deviations"],
        earlier_code=document.get("earlier_code", ()),
        trained_s=document.get("trained_s"),
    )


def unique_entries(entries: Iterable[Entry]) -> list[Entry]:
    """The different ones among `entries`, in their own order."""
    found = list(entries)
    # Sorting by content encodes each entry as JSON; nearly every run has one.
    if len(found) < 2:
        return found
    by_content = {(entry.legacy_unit, entry.order): entry for entry in found}
    return [by_content[key] for key in sorted(by_content)]


def unique_problems(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The different ones among `problems`, in one order."""
    by_content = {canonical_json(problem.to_json()): problem for problem in problems}
    # By run and file for a reader; the content makes the order total.
    keys = sorted(by_content, key=lambda key: (by_content[key].run_id, by_content[key].file, key))
    return tuple(by_content[key] for key in keys)


def well_formed(measured: Mapping[str, Any]) -> dict[str, Any]:
    """`measured` without what has another shape than its readers expect: trainers are free."""
    # An experiment chooses the label of its baseline, so it is not known here: every mapping but a
    # few holds numbers.
    kept = {name: measured[name] for name in ("world_size", "device") if name in measured}
    for name, value in measured.items():
        if isinstance(value, dict) and name not in (*kept, *_OF_OTHER_FORM):
            kept[name] = _numbers(value)
    by_test_seed = measured.get("by_test_seed")
    if isinstance(by_test_seed, dict):
        kept["by_test_seed"] = {seed: _numbers(one) for seed, one in by_test_seed.items()}
    bootstrap = measured.get("bootstrap")
    if isinstance(bootstrap, dict) and isinstance(bootstrap.get("standard_error"), dict):
        kept["bootstrap"] = {**bootstrap, "standard_error": _numbers(bootstrap["standard_error"])}
    parts = measured.get(PARTS)
    if isinstance(parts, dict):
        kept[PARTS] = {name: one for name, one in parts.items() if _is_part(one)}
    return kept


def _is_part(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"counted", "of", "missing"}
        and type(value["counted"]) is type(value["of"]) is int
        and 0 <= value["counted"] < value["of"]
        and isinstance(value["missing"], list)
    )


def _measured(details: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    measured = {name: details[name] for name in _MEASURED if details.get(name) is not None}
    if manifest.baseline is not None:
        before = details.get(manifest.baseline.details)
        measured[manifest.baseline.label] = _without_epoch(before)
    # `reported` names the evaluation whose metrics are the result: `best` or `last`, for example.
    reported = details.get(str(details.get("reported")))
    if isinstance(reported, dict):
        measured.update(_of_reported(reported, details.get("test_seeds")))
        if parts := _parts(reported, manifest):
            measured[PARTS] = parts
    return well_formed(measured)


def _parts(reported: Mapping[str, Any], manifest: Manifest) -> dict[str, Any]:
    """The metrics of an evaluation that are means over a part of their parts, and of which."""
    each = reported.get("by_test_seed")
    lists = [one for one in each if isinstance(one, dict)] if isinstance(each, list) else []
    found = {}
    for metric in manifest.metrics:
        if metric.mean_over is None:
            continue
        key = metric.mean_over.values
        # Over several lists of test items, a part counts where each of them has it.
        tables = [v for one in (reported, *lists) if isinstance(v := one.get(key), dict)]
        names = list(dict.fromkeys(name for table in tables for name in table))
        missing = [n for n in names if any(table.get(n) is None for table in tables)]
        if missing:
            counted = len(names) - len(missing)
            found[metric.name] = {"counted": counted, "of": len(names), "missing": missing}
    return found


def _of_reported(reported: Mapping[str, Any], test_seeds: object) -> dict[str, Any]:
    """Metrics of each test seed, and the bootstrap error, of the evaluation that is reported."""
    kept: dict[str, Any] = {"bootstrap": reported.get("bootstrap")}
    # A list in the order of `test_seeds`; where the two do not fit, no seed can be given its
    # numbers.
    each = reported.get("by_test_seed")
    if isinstance(each, list) and isinstance(test_seeds, list) and len(each) == len(test_seeds):
        kept["by_test_seed"] = {
            str(seed): _without_epoch(one) for seed, one in zip(test_seeds, each, strict=True)
        }
    return kept


def _numbers(entry: object) -> dict[str, float]:
    if not isinstance(entry, dict):
        return {}
    return {name: float(value) for name, value in entry.items() if is_finite_number(value)}


def _without_epoch(metrics: object) -> object:
    if not isinstance(metrics, dict):
        return None
    # The epoch of an evaluation is recorded among its metrics but is not one.
    return {name: value for name, value in metrics.items() if name != "epoch"}

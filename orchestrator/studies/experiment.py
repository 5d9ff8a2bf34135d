"""Finds an experiment's folder and reads its manifest. The experiment is never imported.

A name without `/` is a folder of `experiments/`, never one of the current folder. A text with `/`
is a path, relative to the folder in which the command is started. So one cannot be mistaken for
the other.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from merge.errors import StudyError
from merge.records.manifest import Manifest, manifest_from_json
from merge.results.cells import summary_keys
from merge.results.entries import PARTS
from merge.wording import hint
from orchestrator.config.schema import fit
from orchestrator.config.yaml_document import Document, Place, Problem, as_lines, read_document
from orchestrator.studies.manifest_schema import DataEntry, ManifestShape
from orchestrator.studies.options import EXPERIMENTS, OPTIONS_FILE

MANIFEST_FILE = "manifest.yaml"
RUNTIME = "runtime"
"""The shared folder that every experiment runs in: always part of its code."""

_RESERVED = frozenset(("epoch", "step", "loss", "lr", "seconds", "event", "time"))
"""Keys of a training's events and history, beside which metrics stand."""
_MEASURED = (
    "seconds",
    "peak_memory_mb",
    "world_size",
    "device",
    "bootstrap",
    "by_test_seed",
    PARTS,
)
"""Keys of a merged result, beside which the baseline stands."""
_NEEDED_FILES = (MANIFEST_FILE, OPTIONS_FILE)
_EXAMPLES = {
    "goal": "max or goal: min",
    "label": "the heading of its column",
    "details": "the key of a result's details that holds its metrics",
    "parts": "what the metric is a mean over, such as classes",
    "values": "the key of an evaluation's details that holds the value of each part",
    "value": "the number that is suspect, such as 0",
    "means": "what that number says of the model",
    "title": "the heading of its table",
}
_INNER = (("mean_over", ("parts", "values")), ("suspect", ("value", "means")))
"""Keys of a metric that are mappings, with the keys that each needs."""
_MODULE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """An experiment's folder and what its manifest says."""

    name: str
    """As a study names it: a folder's name in `experiments/`, or a path such as `./blobs`."""
    folder: Path
    shared: Path
    """The folder `experiments/` whose runtime starts it."""
    manifest: Manifest
    code: tuple[str, ...]
    """Shared folders that compute its numbers, `runtime` always among them."""
    result_code: tuple[str, ...]
    """Files that turn counts into its metric, relative to the parent of `shared`."""
    data: DataEntry

    @property
    def is_built_in(self) -> bool:
        """Whether its modules can be started as `experiments.<name>.<module>`."""
        return not is_folder(self.name)


def is_folder(reference: str) -> bool:
    """Whether a study's `experiment:` names a folder, not an experiment of `experiments/`."""
    return "/" in reference


def spelled(reference: str) -> str:
    """One spelling for one folder: `./blobs` for `./blobs/` and `blobs/`; a name as it is."""
    if not is_folder(reference):
        return reference
    # The spelling is part of the configuration's hash: one folder must not have two.
    plain = os.path.normpath(reference)
    # Without a slash it would be the name of an experiment of `experiments/`.
    return plain if plain.startswith(("/", "../")) else f"./{plain}"


def experiment_names(experiments: Path = EXPERIMENTS) -> list[str]:
    """The experiments that the folder `experiments` offers, sorted."""
    return sorted(path.parent.name for path in experiments.glob(f"*/{MANIFEST_FILE}"))


def experiment_folder(
    reference: str, experiments: Path = EXPERIMENTS, cwd: Path | None = None
) -> Path:
    """The folder of the experiment `reference`. StudyError where it is no experiment."""
    folder = (cwd or Path.cwd()) / reference if is_folder(reference) else experiments / reference
    missing = [name for name in _NEEDED_FILES if not (folder / name).is_file()]
    if missing:
        raise StudyError(reference, (_what_is_wrong(reference, folder, experiments, missing),))
    # Trainers import the folder as a package.
    if is_folder(reference) and not folder.resolve().name.isidentifier():
        problem = f"{folder}: the folder is imported: name it with letters, digits and _ only"
        raise StudyError(reference, (problem,))
    return folder


def check_module_name(experiment: Experiment) -> None:
    """StudyError where a trainer would import another module by the name of the folder.

    Asked of the folder that a study names: a copy of it finds the original by its name.
    """
    folder = experiment.folder.resolve()
    if is_folder(experiment.name) and _is_taken(folder):
        problem = f"{folder}: Python has another module {folder.name!r}: rename the folder"
        raise StudyError(experiment.name, (problem,))


def _is_taken(folder: Path) -> bool:
    """Whether a trainer would import another module by the name of `folder`."""
    if folder.name in sys.stdlib_module_names:
        return True
    # Modules of other environments are not seen here: there the trainer itself refuses.
    spec = importlib.util.find_spec(folder.name)
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    return spec is not None and {Path(place).resolve() for place in places} != {folder}


def read_experiment(
    reference: str, experiments: Path = EXPERIMENTS, cwd: Path | None = None
) -> Experiment:
    """The experiment `reference` with its manifest. StudyError with all problems of the file."""
    folder = experiment_folder(reference, experiments, cwd)
    path = folder / MANIFEST_FILE
    # In the key of the cache: a notebook may edit the manifest and plan again.
    stat = path.stat()
    return _read(reference, folder, experiments, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=64)
def _read(
    reference: str, folder: Path, experiments: Path, _changed_ns: int, _num_bytes: int
) -> Experiment:
    # A sweep's runs share one manifest: the last two arguments only say whether it has changed.
    document = read_document(folder / MANIFEST_FILE)
    shape, problems = fit(document, ManifestShape, document.data)
    problems += document.problems
    problems += _problems(document, shape, experiments)
    if problems:
        raise StudyError(str(document.path), as_lines(problems))
    try:
        manifest = manifest_from_json(shape.model_dump())
    except (KeyError, TypeError, ValueError) as error:
        problem = document.problem(("comparability",), str(error))
        raise StudyError(str(document.path), as_lines([problem])) from error
    return Experiment(
        name=reference,
        folder=folder,
        shared=experiments,
        manifest=manifest,
        code=tuple(dict.fromkeys((RUNTIME, *shape.code))),
        result_code=tuple(shape.result_code),
        data=shape.data,
    )


def _what_is_wrong(reference: str, folder: Path, experiments: Path, missing: Sequence[str]) -> str:
    if folder.is_dir() and missing == [OPTIONS_FILE]:
        return (
            f"the experiment folder {folder} lacks {OPTIONS_FILE}: write it with "
            f"`python -m experiments.runtime.write_options {shlex.quote(reference)}`"
        )
    if folder.is_dir() and missing == [MANIFEST_FILE]:
        return (
            f"the experiment folder {folder} lacks {MANIFEST_FILE}: it declares the metrics "
            "(docs/experiments.md has an example)"
        )
    if is_folder(reference):
        what = f"has neither {' nor '.join(missing)}" if folder.is_dir() else "is not a folder"
        return (
            f"{folder} {what}: name a folder with {' and '.join(_NEEDED_FILES)}, relative to the "
            f"folder in which the command is started"
        )
    text = f"there is no experiment {reference!r}{hint(reference, experiment_names(experiments))}"
    if (Path.cwd() / reference / MANIFEST_FILE).is_file():
        text += f"; the folder of that name here is written ./{reference}"
    return text


def _problems(document: Document, shape: ManifestShape, experiments: Path) -> Iterator[Problem]:
    if not document.data.get("metrics"):
        yield document.problem(("metrics",), "missing: declare at least one metric of the results")
    yield from _missing_keys(document)
    for name in _RESERVED & set(shape.metrics):
        yield document.problem(
            ("metrics", name), f"{name!r} is a name of the training itself: rename the metric"
        )
    for index, name in enumerate(shape.code):
        if not _MODULE_NAME.fullmatch(name) or not (experiments / name).is_dir():
            yield document.problem(
                ("code", index), f"{name!r} is not a shared folder of {experiments}"
            )
    for index, name in enumerate(shape.result_code):
        path = experiments.parent / name
        # Names below papergrid's own tree, so that the digest is the same on every host.
        if Path(name).is_absolute() or ".." in Path(name).parts or not path.is_file():
            yield document.problem(
                ("result_code", index), f"{name!r} is not a file below {experiments.parent}"
            )
    if shape.baseline and shape.baseline.label in (*summary_keys(None), *_MEASURED):
        yield document.problem(
            ("baseline", "label"), f"{shape.baseline.label!r} is a key of the merged results"
        )
    yield from _module_problems(document, shape)


def _missing_keys(document: Document) -> Iterator[Problem]:
    """Keys without which a number would be shown the wrong way round, or not at all."""
    metrics, baseline = document.data.get("metrics"), document.data.get("baseline")
    places: list[tuple[Place, object, tuple[str, ...]]] = [
        (("baseline",), baseline, ("label", "details"))
    ]
    if isinstance(report := document.data.get("report"), dict):
        keys_of_series = ("details", "label", "title")
        places.append((("report", "series"), report.get("series"), keys_of_series))
    if isinstance(metrics, dict):
        for name, entry in metrics.items():
            places.append((("metrics", name), entry, ("goal",)))
            inner = entry if isinstance(entry, dict) else {}
            places += [(("metrics", name, key), inner.get(key), keys) for key, keys in _INNER]
    for place, entry, needed in places:
        if isinstance(entry, dict):
            for key in needed:
                if key not in entry:
                    text = f"{key} is missing: write {key}: {_EXAMPLES[key]}"
                    yield document.problem(place, text)


def _module_problems(document: Document, shape: ManifestShape) -> Iterator[Problem]:
    entry = shape.data.prepare
    if entry is None:
        return
    module, folder = entry.module, document.path.parent
    # What starts processes must name code of this folder, and nothing else.
    is_there = _MODULE_NAME.fullmatch(module) and (
        (folder / f"{module}.py").is_file() or (folder / module / "__main__.py").is_file()
    )
    if not is_there:
        place = ("data", "prepare", "module")
        yield document.problem(place, f"{module!r} is not a module of {folder.name}/")

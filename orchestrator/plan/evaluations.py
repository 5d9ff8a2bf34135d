"""The plan of an evaluation: finished trainings of an output folder, tested again as runs.

It lies in an output folder of its own below that of the trainings, so everything that serves a
sweep (executors, claims, status, sync, doctor, merge, report) serves an evaluation too.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

from merge.errors import IncompleteError, UnreadableError, UsageError
from merge.records.checkpoints import Checkpoint, Which
from merge.records.config_hash import hash_of_run
from merge.records.options import Options, UnknownKeyError
from merge.records.sweep import Run, Sweep
from merge.records.values import ConfigValue
from merge.storage.control_paths import evaluation_folder, trainings_folder
from merge.storage.paths import SweepPaths
from merge.wording import listed
from orchestrator.config.values import text_of
from orchestrator.studies.experiment import experiment_folder
from orchestrator.studies.options import EXPERIMENTS, read_options
from orchestrator.studies.rules import parse_settings

OWN_SETTINGS = "own-settings"
"""Name of an evaluation that changes none."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,99}")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.=+-]+")
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a person asks to evaluate."""

    settings: Mapping[str, ConfigValue]
    """Test settings that differ from the trainings' own; a text is as it is typed in a shell."""
    which: Which = "best"
    file: Path | None = None
    """The checkpoint where `which` is `file`."""
    name: str | None = None
    """Of the evaluation; None makes one of what it changes."""


def read_request(
    settings: Mapping[str, ConfigValue], checkpoint: str | Path, name: str | None
) -> Request:
    """What flags ask for; `checkpoint` is best, last or a file. UsageError for a wrong name."""
    if name is not None and not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: write letters, digits and _.=+-, with a letter or digit first"
        )
    if checkpoint in ("best", "last"):
        which: Which = "best" if checkpoint == "best" else "last"
        return Request(settings=settings, which=which, name=name)
    file = Path(checkpoint)
    if not file.is_file():
        raise UsageError(f"--checkpoint {file} is not there: name best, last or a checkpoint file")
    return Request(settings=settings, which="file", file=file.absolute(), name=name)


def evaluation_plan(
    output: Path, trained: Sweep, request: Request, finished: Collection[str], chosen: Iterable[Run]
) -> tuple[Sweep, Path]:
    """The plan that tests `chosen` runs of `trained` again, and its folder.

    It has all runs of `trained`, so that no mean over a part of them passes for a whole one; of
    those that are not chosen, or not `finished`, the checkpoint's hash is not known yet.
    UsageError: a setting decides the training, a file is named for several runs. StudyError: the
    experiment is gone. IncompleteError: a checkpoint is missing.
    """
    settings = _settings(trained, request)
    ready = {run.run_id for run in chosen if run.run_id in finished}
    if request.file and len(ready) > 1:
        raise UsageError(
            f"--checkpoint {request.file} is the model of one run, and {len(ready)} are selected: "
            "name its run with filters or with --run"
        )
    digest = _sha256_of(request.file) if request.file else None

    def checkpoint(run: Run) -> Checkpoint:
        if request.file is None:
            return _own_checkpoint(output, run, request.which, is_ready=run.run_id in ready)
        return Checkpoint(
            which="file", file=str(request.file), config_hash=run.config_hash, sha256=digest
        )

    # What decides no number is in no name: it may change while an evaluation goes on.
    named = {key: value for key, value in settings.items() if key not in trained.free_keys}
    name = request.name or _name(named, request.which, digest)
    folder = evaluation_folder(output, name)
    runs = tuple(_tested(run, trained, settings, checkpoint(run)) for run in trained.runs)
    shown = {key: _shown(value) for key, value in settings.items()}
    return replace(trained, runs=runs, settings=shown, growth=()), folder


def refuse_evaluation(output: Path, trained: Sweep) -> None:
    """UsageError where `output` is itself an evaluation, or of a `command:`."""
    if any(run.checkpoint is not None for run in trained.runs):
        raise UsageError(
            f"{output} is an evaluation already: name the folder of the trainings "
            f"({trainings_folder(output)})"
        )
    if any(run.experiment is None for run in trained.runs):
        raise UsageError(
            f"{output} holds runs of a `command:`: papergrid does not know how such a program "
            "tests a model; sweep a command that tests in a study of its own"
        )


def _settings(trained: Sweep, request: Request) -> dict[str, ConfigValue]:
    (experiment,) = {str(run.experiment) for run in trained.runs}
    folder = experiment_folder(experiment, EXPERIMENTS)
    rules = _TestRules(read_options(folder.parent, folder.name))
    return parse_settings(request.settings, trained.axes, rules.options.by_name, rules)


class _TestRules:
    """The rules of what may be changed after a training."""

    def __init__(self, options: Options) -> None:
        self.options = options

    def check_key(self, key: str) -> None:
        self.options.check_key(key)
        known = [*self.options.test_settings, *self.options.free_keys]
        if key not in known:
            raise UnknownKeyError(
                f"{key} decides the training, which is over: train with it (`replicate run --set`)."
                f" Test settings of this experiment: {listed(self.options.test_settings) or 'none'}"
            )

    def fitted(self, key: str, value: object) -> ConfigValue:
        self.check_key(key)
        return self.options.fitted(key, value)

    def parsed(self, key: str, text: str) -> ConfigValue:
        self.check_key(key)
        return self.options.parsed(key, text)


def _tested(
    run: Run, trained: Sweep, settings: Mapping[str, ConfigValue], checkpoint: Checkpoint
) -> Run:
    config: dict[str, Any] = {**run.config, **settings}
    # The study's hours are those of a training.
    resources = replace(run.resources, hours=None)
    tested = replace(run, config=config, checkpoint=checkpoint, resources=resources)
    return replace(tested, config_hash=hash_of_run(tested, trained.free_keys_of(config)))


def _own_checkpoint(output: Path, run: Run, which: Which, *, is_ready: bool) -> Checkpoint:
    paths = SweepPaths(output).run(run.path)
    file = paths.best_checkpoint if which == "best" else paths.last_checkpoint
    if is_ready and not file.is_file():
        raise IncompleteError(
            f"{run.run_id} has a result, but {file} is not there: fetch it with `replicate sync "
            "pull`, or evaluate another checkpoint (--checkpoint last, or a file)"
        )
    return Checkpoint(
        which=which,
        # From the evaluation's folder, so that the output folder may be moved or copied.
        file=f"../../{file.relative_to(output).as_posix()}",
        config_hash=run.config_hash,
        sha256=_sha256_of(file) if is_ready else None,
    )


def _sha256_of(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(f"{file} cannot be read ({error.strerror})", path=file) from error


def _shown(value: ConfigValue) -> str:
    """A value as `--set` takes it."""
    return ",".join(map(text_of, value)) if isinstance(value, list) else text_of(value)


def _name(settings: Mapping[str, ConfigValue], which: Which, digest: str | None) -> str:
    """A name that says what the evaluation changes; the same for the same request."""
    parts = [f"{key}={_shown(value).replace(',', '+')}" for key, value in settings.items()]
    parts += [] if which == "best" else [which if digest is None else f"file-{digest[:8]}"]
    name = _NOT_IN_A_NAME.sub("-", "-".join(parts)).lstrip("-.=+_") or OWN_SETTINGS
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:8]}"

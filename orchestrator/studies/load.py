"""Reading a study file: YAML in, a `Study` out, or one error with every problem and its place.

docs/studies.md describes the file. Nothing is started or written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from merge.records.sweep import Axis, Resources
from merge.results.cells import summary_keys
from merge.wording import hint, listed
from orchestrator.config.schema import fit
from orchestrator.config.templates import (
    LAUNCH_PLACEHOLDERS,
    TemplateError,
    command_placeholders,
    placeholders,
)
from orchestrator.config.values import ConfigValue
from orchestrator.config.yaml_document import Notes, read_document
from orchestrator.studies.check_code import check_code
from orchestrator.studies.check_layout import check_command, check_runs, check_templates
from orchestrator.studies.check_values import (
    check_axes,
    check_excludes,
    check_overrides,
    check_retries,
    check_values,
)
from orchestrator.studies.experiment import spelled
from orchestrator.studies.options import EXPERIMENTS, Options
from orchestrator.studies.profiles import Profile, on_hardware
from orchestrator.studies.published import Shown, resolve_published
from orchestrator.studies.rules import FreeRules, Rules, WrittenRules, parse_settings
from orchestrator.studies.schema import ResourcesShape, StudyShape
from orchestrator.studies.study import Study
from orchestrator.studies.trainer import Trainer, trainer_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_LAYOUT = ("axes", "average_over", "cell", "run_path", "command", "exclude", "overrides")
"""Keys without which runs cannot be laid out: a problem there hides those that would follow."""


def load_study(  # noqa: PLR0913 (all but one by keyword)
    path: Path,
    *,
    settings: Mapping[str, ConfigValue] | None = None,
    published_folders: Sequence[Path] = (),
    debug: bool = False,
    profile: Profile | None = None,
    experiments: Path = EXPERIMENTS,
    cwd: Path | None = None,
) -> Study:
    """Read and check the study file `path`.

    `settings` (`--set key=value`, a text as it is typed in a shell) override everything but axes;
    `debug` takes the file's `debug:` values in. `profile` sets resources, and options that neither
    `settings` nor an axis names. `experiments` is the folder of papergrid's own
    experiments; a folder elsewhere, named with a `/`, lies relative to `cwd` (default: the current
    folder).
    StudyError carries all problems of the file; UsageError those of `settings`.
    """
    document = read_document(path)
    notes = Notes(document)
    shape, problems = fit(document, StudyShape, document.data)
    notes.extend([*document.problems, *problems])
    trainer = trainer_of(shape, experiments, cwd, notes)
    rules = trainer.rules
    settings = {**_of_profile(profile, shape, rules), **(settings or {})}
    study = _study(path, shape, trainer, tuple(settings), notes, debug=debug)
    study = replace(study, code_files=check_code(shape, path, cwd or Path.cwd(), notes))
    if profile is not None:
        study = on_hardware(study, profile)
    # Only for a correct file: else a key that the file's mistake hides would be called unknown.
    if settings and notes.is_empty:
        settable = [*_known_keys(shape, rules), *_template_keys(shape)]
        written = WrittenRules(_written(study, shape)) if isinstance(rules, FreeRules) else rules
        parsed = parse_settings(settings, study.axes, settable, written)
        study = replace(study, settings=parsed)
    # Runs of a wrong layout would repeat its problem once for each run.
    runs = () if notes.touches(*_LAYOUT) else check_runs(study, notes)
    cells = list(dict.fromkeys(run.cell for run in runs))
    shown = Shown(metric=study.manifest.metric(study.metric), average_over=study.average_over)
    published = resolve_published(shape.published, published_folders, cells, shown, notes)
    notes.raise_if_any()
    return replace(study, published=published)


def _of_profile(profile: Profile | None, shape: StudyShape, rules: Rules) -> dict[str, ConfigValue]:
    """The options of a profile that the study's experiment has; of a command they are its own."""
    if profile is None or not isinstance(rules, Options):
        return {}
    names = rules.by_name.keys() - shape.axes.keys()
    return {key: value for key, value in profile.options.items() if key in names}


def _study(
    path: Path,
    shape: StudyShape,
    trainer: Trainer,
    settings: Sequence[str],
    notes: Notes,
    *,
    debug: bool,
) -> Study:
    rules, manifest = trainer.rules, trainer.manifest
    baseline = manifest.baseline.label if manifest.baseline else None
    axes = check_axes(shape, rules, summary_keys(baseline), notes)
    _check_head(shape, axes, notes)
    known = _known_keys(shape, rules)
    nameable = [*known, *settings, *_unfit_axes(axes, notes)]
    fixed = check_values(shape.fixed, ("fixed",), axes, rules, notes)
    debug_values = check_values(shape.debug, ("debug",), axes, rules, notes)
    templates = check_templates(shape, axes, nameable, notes)
    return Study(
        name=shape.name,
        title=shape.title or shape.name,
        source=path,
        axes=axes,
        average_over=shape.average_over,
        metric=shape.metric.name,
        goal=manifest.metric(shape.metric.name).goal,
        manifest=manifest,
        experiment=None if shape.experiment is None else spelled(shape.experiment),
        command=check_command(shape, axes, nameable, notes),
        cell=templates.cell,
        run_path=templates.run_path,
        defaults=_defaults(rules, axes),
        free_keys=_free_keys(rules, axes),
        fixed=fixed,
        overrides=check_overrides(shape, axes, known, rules, notes),
        exclude=check_excludes(shape, axes, rules, notes),
        debug=debug_values if debug else {},
        resources=_resources(shape.resources, is_command=shape.command is not None),
        retries=check_retries(shape.retries, notes),
    )


def _check_head(shape: StudyShape, axes: Sequence[Axis], notes: Notes) -> None:
    names = [*(axis.name for axis in axes), *_unfit_axes(axes, notes)]
    if not notes.touches("name") and not _NAME.fullmatch(shape.name):
        notes.add(
            ("name",),
            f"{'missing' if not shape.name else repr(shape.name)}: a study needs a name of "
            f"letters, digits, _ and -, such as `name: abcb`",
        )
    if not shape.metric.name and not notes.touches("metric"):
        notes.add(
            ("metric",), "missing: name the metric of the results, such as `metric: accuracy`"
        )
    if (shape.experiment is None) == (shape.command is None) and not notes.touches("command"):
        both = "both are given" if shape.command is not None else "missing"
        place = ("command",) if shape.command is not None else ("experiment",)
        notes.add(place, f"{both}: a study has either `experiment:` or `command:`")
    # Without axes the missing axes are the problem, not the name of one.
    is_judged = names or not shape.average_over
    if is_judged and shape.average_over not in names and not notes.touches("average_over"):
        what = repr(shape.average_over) if shape.average_over else "missing"
        near = hint(shape.average_over, names) if shape.average_over else f"; axes: {listed(names)}"
        notes.add(("average_over",), f"{what}: name the axis that a cell averages over{near}")


def _unfit_axes(axes: Sequence[Axis], notes: Notes) -> list[str]:
    """Axes of the file that have a problem: to name them elsewhere is not a second problem."""
    written = notes.document.data.get("axes")
    names = {axis.name for axis in axes}
    return [name for name in written if name not in names] if isinstance(written, dict) else []


def _known_keys(shape: StudyShape, rules: Rules) -> list[str]:
    if isinstance(rules, Options):
        return [name for name in rules.by_name if name not in shape.axes]
    keys: list[str] = [*shape.fixed, *shape.debug]
    for override in shape.overrides:
        keys += override.set
    return list(dict.fromkeys(keys))


def _written(study: Study, shape: StudyShape) -> Iterable[tuple[str, ConfigValue]]:
    """Every value that the study gives a key: they say of which type the key is."""
    for values in (study.fixed, shape.debug, *(override.set for override in study.overrides)):
        yield from values.items()


def _template_keys(shape: StudyShape) -> Iterable[str]:
    """Keys that only templates name: `--set` may give them their value."""
    if shape.experiment is not None:
        return ()
    names = list(command_placeholders(str(word) for word in shape.command or ()))
    for template in (shape.cell, shape.run_path):
        try:
            names += placeholders(template or "")
        except TemplateError:
            # Noted where the template is checked.
            continue
    return [name for name in names if name not in (*shape.axes, "cell", *LAUNCH_PLACEHOLDERS)]


def _defaults(rules: Rules, axes: Sequence[Axis]) -> dict[str, ConfigValue]:
    if not isinstance(rules, Options):
        return {}
    names = {axis.name for axis in axes}
    return {key: value for key, value in rules.defaults.items() if key not in names}


def _free_keys(rules: Rules, axes: Sequence[Axis]) -> tuple[str, ...]:
    if not isinstance(rules, Options):
        return ()
    names = {axis.name for axis in axes}
    return tuple(key for key in rules.free_keys if key not in names)


def _resources(shape: ResourcesShape, *, is_command: bool) -> Resources:
    fields: dict[str, Any] = shape.model_dump(exclude_none=True)
    # A command is any program; only one that asks for ranks is started by torchrun.
    launcher = {"launcher": "none"} if is_command else {}
    return Resources(**{**launcher, **fields})

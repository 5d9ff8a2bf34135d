"""Studies and plans: which runs there are, and which of them are selected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from merge.records.sweep import Run, Sweep, Value, read_sweep
from merge.records.values import ConfigValue
from merge.storage.paths import SweepPaths

if TYPE_CHECKING:
    from orchestrator.plan.plan import Plan
    from orchestrator.studies.profiles import Profile
    from orchestrator.studies.study import Study

Where = Mapping[str, Value | Sequence[Value]]
"""Axis -> its selected values, or the only one; as in the study, or as text."""


Set = Mapping[str, Value | Sequence[Value] | None]
"""What `--set` gives: key -> its value, or its text as it is typed in a shell (`"8,16"`)."""


def load_study(
    study: str | Path,
    *,
    set: Set | None = None,
    settings: Set | None = None,
    debug: bool = False,
    profile: str | Path | Profile | None = None,
) -> Study:
    """The study of a built-in name or a file. StudyError lists all problems at once.

    `set` is what `--set` gives; `settings` is another name of it. `profile` is what `--profile`
    gives: a built-in name or a file, or what `read_profile` made of one.
    """
    from orchestrator.studies.load import load_study as load
    from orchestrator.studies.profiles import read_profile
    from replicate.catalogue import PUBLISHED, find_profile, find_study

    if isinstance(profile, str | Path):
        profile = read_profile(find_profile(profile))
    return load(
        find_study(study),
        settings=_settings(set, settings),
        published_folders=(PUBLISHED,),
        debug=debug,
        profile=profile,
    )


def plan(  # noqa: PLR0913 (all by keyword)
    study: str | Path | Study,
    *,
    where: Where | None = None,
    set: Set | None = None,
    settings: Set | None = None,
    debug: bool = False,
    profile: str | Path | Profile | None = None,
    shard_by: str | Sequence[str] = (),
    shard: str | None = None,
    num_shards: int | None = None,
    output: str | Path | None = None,
) -> Plan:
    """Expand a study into runs and select some of them; starts and writes nothing.

    `where` selects values of axes; an axis that it does not name has the values of its table. `set`
    is what `--set` gives (`settings` is another name of it), `debug` what `--debug` does, `profile`
    what `--profile` does. `shard_by` names axes, or is `"run"` or `"balanced"`; `shard` is `I/N`.
    Durations come from the finished runs in `output`, if it is given. SelectionError lists the
    choices.
    """
    from merge.errors import UsageError
    from orchestrator.plan.code_version import code_version
    from orchestrator.plan.division import parse_division
    from orchestrator.plan.durations import estimate_from
    from orchestrator.plan.freeze import make_sweep, named_as_in, request_to_plan
    from orchestrator.plan.plan import Plan
    from orchestrator.plan.selection import select

    if isinstance(study, Mapping):
        raise UsageError("a study is a name, a file or what load_study returns, not a mapping")
    if isinstance(study, str | Path):
        study = load_study(study, set=set, settings=settings, debug=debug, profile=profile)
    # All runs, not only the selected ones: a later filter must not change the frozen plan (decision
    # 6).
    sweep = make_sweep(study, code_version(study))
    if output:
        sweep = named_as_in(Path(output), sweep)
    runs = select(sweep.runs, sweep.axes, _texts(where))
    # A string is a sequence of letters, too.
    by = [shard_by] if isinstance(shard_by, str) else shard_by
    division = parse_division(by, shard, num_shards)
    estimates = estimate_from(Path(output) if output else None, runs)
    all_shards = division.divide(runs, estimates, Path(output) if output else None)
    shards = division.pick(all_shards)
    return Plan(
        sweep=sweep,
        runs=tuple(run for shard in shards for run in shard.runs),
        shards=shards,
        division=division,
        all_shards=all_shards,
        estimates=estimates,
        asked=request_to_plan(study, sweep.settings, _texts(where), sweep.code),
    )


def with_resources(
    plan: Plan, *, devices_per_run: int | None = None, num_workers: int | None = None
) -> Plan:
    """`plan` with other ranks and loaders for its runs: what `--devices-per-run` and
    `--num-workers` give. UsageError where they do not fit.
    """
    from merge.errors import UsageError

    ranks, workers = devices_per_run, num_workers
    if (ranks is not None and ranks < 1) or (workers is not None and workers < 0):
        raise UsageError("--devices-per-run takes 1 or more, --num-workers 0 or more")
    return replace(plan, runs=tuple(_with_resources(run, ranks, workers) for run in plan.runs))


def _with_resources(run: Run, ranks: int | None, workers: int | None) -> Run:
    from merge.errors import UsageError

    resources = replace(
        run.resources,
        devices_per_run=run.resources.devices_per_run if ranks is None else ranks,
        num_workers=run.resources.num_workers if workers is None else workers,
    )
    # A command divides its batch itself: its key of that name is its own. An evaluation has none.
    divides = run.experiment is not None and run.checkpoint is None
    batch = run.config.get("global_batch") if divides else None
    if isinstance(batch, int) and batch % resources.devices_per_run:
        raise UsageError(
            f"--devices-per-run {resources.devices_per_run} does not divide the global batch "
            f"{batch} of {run.run_id}: choose a divisor"
        )
    return replace(run, resources=resources)


def freeze_plan(
    plan: Plan, output: str | Path, on_note: Callable[[str], None] | None = None
) -> Sweep:
    """Write the plan into `output`, for `work`, or add its runs to the plan that is there.

    `on_note` gets a line for runs that are added, and for planned ones that the study does not
    name: they stay. ConfigChangedError, with the runs, where it changes a planned one.
    """
    from orchestrator.plan.freeze import as_planned_in, freeze, ignore_note

    plan = as_planned_in(Path(output), plan)
    return freeze(Path(output), plan.sweep, plan.asked, on_note or ignore_note)


def check_plan(
    plan: Plan, output: str | Path, on_note: Callable[[str], None] | None = None
) -> None:
    """As `freeze_plan`, but writes nothing: for a dry run."""
    from orchestrator.plan.freeze import as_planned_in, existing_plan, ignore_note

    plan = as_planned_in(Path(output), plan)
    existing_plan(Path(output), plan.sweep, plan.asked, on_note or ignore_note)


def frozen_plan(output: str | Path, run_ids: Sequence[str] | None = None) -> Plan:
    """The plan in `output`, read without the study file: the runs `run_ids`, else the table's.

    IncompleteError where there is no plan, SelectionError for an id that it does not have.
    """
    from merge.results.collect import refuse_missing_sweep
    from orchestrator.plan.division import Division
    from orchestrator.plan.durations import estimate_from
    from orchestrator.plan.plan import Plan
    from orchestrator.plan.selection import choose

    folder = Path(output)
    refuse_missing_sweep(folder)
    sweep = read_sweep(SweepPaths(folder).sweep)
    runs = choose(sweep.runs, run_ids)
    estimates = estimate_from(folder, runs)
    shards = Division().divide(runs, estimates, None)
    return Plan(
        sweep=sweep,
        runs=runs,
        shards=shards,
        division=Division(),
        all_shards=shards,
        estimates=estimates,
    )


def runs_of(
    output: str | Path,
    where: Where | None = None,
    run_ids: Sequence[str] | None = None,
) -> tuple[Run, ...]:
    """The runs planned in `output`: those of `run_ids`, else those that `where` selects, else all.

    IncompleteError where there is no plan, SelectionError lists the choices.
    """
    from merge.errors import UsageError
    from merge.results.collect import refuse_missing_sweep
    from orchestrator.config.values import text_of
    from orchestrator.plan.selection import choose, select

    refuse_missing_sweep(Path(output))
    sweep = read_sweep(SweepPaths(Path(output)).sweep)
    if run_ids and where:
        raise UsageError("name runs with --run or by filters, not by both")
    if run_ids:
        return choose(sweep.runs, run_ids)
    # `cancel` and `retry` must see every planned run, also those of `also` values; `select` alone
    # would take only the table's.
    everything = {axis.name: [text_of(value) for value in axis.choices] for axis in sweep.axes}
    return select(sweep.runs, sweep.axes, {**everything, **_texts(where)})


def _settings(given: Set | None, alias: Set | None) -> dict[str, ConfigValue]:
    from merge.errors import UsageError

    if given is not None and alias is not None:
        raise UsageError("set and settings are one: give one of them")
    values = given if given is not None else alias or {}
    _refuse_text("set", values, "{'lr': 1e-3}")
    return {key: _setting(key, value) for key, value in values.items()}


def _refuse_text(name: str, given: object, example: str) -> None:
    """UsageError where a notebook gives what is typed in a shell, such as `"lr=1e-3"`."""
    from merge.errors import UsageError

    if not isinstance(given, Mapping):
        raise UsageError(f"{name} is a mapping such as {example}, not {given!r}")


def _setting(key: str, value: object) -> ConfigValue:
    """A value with its Python type; a text is read as a shell's."""
    if value is None or isinstance(value, str):
        return value
    if _is_many(value):
        return [_single(key, item) for item in value]
    return _single(key, value)


def _texts(where: Where | None) -> dict[str, list[str]]:
    _refuse_text("where", where or {}, "{'seed': [0, 1]}")
    # A text is iterable too, but it is one value here.
    return {
        axis: [_text(axis, value) for value in (given if _is_many(given) else [given])]
        for axis, given in (where or {}).items()
    }


def _is_many(given: object) -> TypeGuard[Iterable[object]]:
    return isinstance(given, Iterable) and not isinstance(given, str)


def _text(name: str, value: object) -> str:
    from orchestrator.config.values import text_of

    return text_of(_single(name, value))


def _single(name: str, value: object) -> Value:
    from merge.errors import UsageError
    from orchestrator.config.values import is_scalar

    if is_scalar(value):
        return value
    # Whole numbers of numpy and pandas are not instances of `int`.
    if isinstance(value, Integral):
        return int(value)
    raise UsageError(f"{name}: {value!r} is not a single value")

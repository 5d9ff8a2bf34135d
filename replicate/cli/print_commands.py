"""`run --print-commands`: other ways to start each selected run, to paste or to adapt.

A Python call and an sbatch file train a run as this command would: with a claim, retries and a
committed result. The torchrun line starts the trainer by itself, by the run contract
(docs/run-contract.md): its checkpoints are the run's, and `replicate run` commits its result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from merge.storage.paths import SweepPaths
from orchestrator.config.shell import quote
from orchestrator.config.values import text_of
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli.profile import profile_of
from replicate.cli.this_machine import print_note

if TYPE_CHECKING:
    from merge.records.sweep import DeviceKind, Run
    from orchestrator.machine.launch import Launch
    from orchestrator.plan.plan import Plan

_OF_AN_EXECUTOR = ("PAPERGRID_TOKEN", "PAPERGRID_EXECUTOR")
_PORT_OF_ONE_PROCESS = 29500
"""Named for programs that read it; a single process listens on none."""


def print_commands(planned: Plan, output: Path, arguments: argparse.Namespace) -> None:
    """Print the commands of all runs of `planned`; write its plan, which they read."""
    from orchestrator.local.spec import ensure_spec

    sweep = api.freeze_plan(planned, output, print_note)
    by_id = {run.run_id: run for run in sweep.runs}
    for run in planned.runs:
        ensure_spec(
            SweepPaths(output).run(run.path), by_id[run.run_id].to_spec(sweep), sweep.free_keys
        )
        print(commands_text(run, output, arguments))


def commands_text(run: Run, output: Path, arguments: argparse.Namespace) -> str:
    """The commands of one run."""
    parts = {
        "Python": python_text(run, output, arguments),
        _title_of_line(run): torchrun_text(run, output, arguments),
        "a file for sbatch": sbatch_text(run, output, arguments),
    }
    return "\n".join(f"# --- {run.run_id}: {title}\n{text}" for title, text in parts.items())


def _title_of_line(run: Run) -> str:
    has_ranks = run.resources.launcher == "torchrun" and run.resources.devices_per_run > 1
    what = "torchrun" if has_ranks else "the trainer as one process"
    if run.command is not None:
        return f"{what}; its result lies in attempts/by-hand"
    return f"{what}; `replicate run` then commits its result from the checkpoint"


def python_text(run: Run, output: Path, arguments: argparse.Namespace) -> str:
    """A program that plans this run alone and trains it."""
    given = {
        "where": {name: text_of(value) for name, value in run.axes.items()},
        "settings": flags.settings(arguments) or None,
        "debug": arguments.debug or None,
        "profile": arguments.profile,
        "output": str(output),
    }
    machine = {
        "devices": arguments.devices,
        **{
            name: str(path.absolute())
            for name in ("data_root", "weights", "cache_dir")
            if (path := getattr(arguments, name))
        },
    }
    resources = {name: getattr(arguments, name) for name in ("devices_per_run", "num_workers")}
    has_resources = any(value is not None for value in resources.values())
    return (
        "from replicate import api\n\n"
        f"plan = api.plan({_listed([repr(arguments.study)], given)})\n"
        + f"plan = api.with_resources({_listed(['plan'], resources)})\n"
        * has_resources
        + f"settings = api.local_settings({_listed(['plan'], machine)})\n"
        f"report = api.run(plan, {str(output)!r}, settings)\n"
        "raise SystemExit(report.exit_code)\n"
    )


def torchrun_text(run: Run, output: Path, arguments: argparse.Namespace) -> str:
    """One line for a shell: the trainer alone, under torchrun where the run has several devices."""
    launch = _launch(run, output, arguments)
    own = {k: v for k, v in launch.environment.items() if k not in _OF_AN_EXECUTOR}
    if run.command is None:
        # Our own trainers read run.json; a command may read these.
        own = {k: v for k, v in own.items() if not k.startswith("PAPERGRID_CONFIG_")}
    words = [f"{name}={value}" for name, value in own.items()]
    folder = own["PAPERGRID_ATTEMPT_DIR"]
    steps = (["cd", str(launch.cwd)], ["mkdir", "-p", folder], ["env", *words, *launch.argv])
    return " && ".join(quote(step) for step in steps) + "\n"


def sbatch_text(run: Run, output: Path, arguments: argparse.Namespace) -> str:
    """A batch script whose job trains this run as `replicate run` does."""
    from orchestrator.machine.own_modules import module_words, source_root
    from orchestrator.slurm.arrays import with_defaults
    from orchestrator.slurm.request import combine_layers
    from orchestrator.slurm.script import BatchJob, batch_text

    profile = dict(profile_of(arguments).slurm) if arguments.profile else {}
    request = with_defaults(combine_layers([run.resources.slurm, profile]), run.resources)
    python = request.python or sys.executable
    return batch_text(
        BatchJob(
            name="run",
            job_name=f"papergrid-{run.run_id}",
            request=request,
            command=(
                *("srun", "--nodes=1", "--ntasks=1", "--overlap", "--unbuffered"),
                f"--cpus-per-task={request.cpus_per_task}",
                *module_words(python, source_root(), "replicate"),
                *_run_words(run, output, arguments),
                *("--grace", str(request.grace_s)),
            ),
            cwd=Path.cwd(),
            # SLURM starts no job whose log it cannot create, and makes no folder for it.
            logs=SweepPaths(output.absolute()).run(run.path).root,
        )
    )


def _run_words(run: Run, output: Path, arguments: argparse.Namespace) -> list[str]:
    """`replicate` and the flags that select this run, as they were given."""
    words = ["run", "--study", arguments.study, "--output-dir", str(output.absolute())]
    for name, value in run.axes.items():
        words += ["--where", f"{name}={text_of(value)}"]
    for setting in arguments.settings:
        words += ["--set", setting]
    words += ["--debug"] if arguments.debug else []
    for name in ("profile", "devices_per_run", "num_workers"):
        if (value := getattr(arguments, name)) is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    for name in ("data_root", "weights", "cache_dir"):
        if path := getattr(arguments, name):
            words += [f"--{name.replace('_', '-')}", str(path.absolute())]
    return words


def _launch(run: Run, output: Path, arguments: argparse.Namespace) -> Launch:
    from orchestrator.machine.launch import Assignment, build_launch

    kind, devices = _devices(run, arguments.devices)
    absolute = {
        name: path.absolute()
        for name in ("data_root", "weights")
        if (path := getattr(arguments, name))
    }
    given = Assignment(
        paths=SweepPaths(output.absolute()).run(run.path),
        number=None,
        token="",
        executor="",
        kind=kind,
        devices=devices,
        port=_PORT_OF_ONE_PROCESS,
        cwd=Path.cwd(),
        cache_dir=api.cache_folder(arguments.cache_dir),
        **absolute,
    )
    return build_launch(run, given, {})


def _devices(run: Run, wanted: str | None) -> tuple[DeviceKind, tuple[str, ...]]:
    """The devices of the line: those that are asked for; of a run for GPUs the first ones."""
    from orchestrator.machine.devices import device_kind, find_devices

    count = run.resources.devices_per_run
    if wanted is None and run.resources.device == "cuda":
        # The line may be for another machine than this one.
        return "cuda", tuple(map(str, range(count)))
    if wanted is None and run.resources.device == "cpu":
        return "cpu", tuple(f"cpu{number}" for number in range(count))
    found = find_devices(wanted, [run])
    return device_kind(run, found), found.slots[:count]


def _listed(first: list[str], named: dict[str, object]) -> str:
    return ", ".join([*first, *(f"{k}={v!r}" for k, v in named.items() if v is not None)])

"""The flags of evaluations, and how they become a plan that `run` and `submit` take."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from merge.errors import UsageError
from merge.storage.control_paths import EVALUATIONS
from merge.wording import listed
from orchestrator.plan.plan import Plan
from replicate.cli import arguments as flags
from replicate.cli.profile import profile_of

_MOST_NAMED = 4


def add_evaluation(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """`--checkpoint` and `--name`."""
    group = parser.add_argument_group("evaluation (docs/evaluate.md)")
    group.add_argument(
        "--checkpoint",
        metavar="best|last|FILE",
        help="what is evaluated: a training's best or last model, or a checkpoint file of the "
        "same form (default: best)",
    )
    group.add_argument(
        "--name",
        metavar="NAME",
        help="name of the evaluation's folder (default: made of the test settings)",
    )
    return group


def refuse_evaluation_flags(arguments: argparse.Namespace) -> None:
    """UsageError for a flag of evaluations where runs are trained."""
    for flag in ("checkpoint", "name"):
        if getattr(arguments, flag) is not None:
            raise UsageError(f"--{flag} is for evaluations: add --eval-only, or leave it out")


def with_evaluation(trainings: Path, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Plan the evaluation that the flags ask for, as what `run` or `submit` then does.

    Returns the selected trainings that have no result yet, and notes them on stderr.
    """
    from replicate import api

    if arguments.from_scratch:
        raise UsageError("--from-scratch is for trainings: an evaluation tests their checkpoints")
    if arguments.profile is not None:
        _take_resources(arguments)
    by = (arguments.shard_by or "").split(",")
    found = api.plan_evaluation(
        trainings,
        where=flags.selection(arguments),
        run_ids=getattr(arguments, "run", None),
        set=flags.settings(arguments),
        checkpoint=arguments.checkpoint or "best",
        name=arguments.name,
        shard_by=[axis.strip() for axis in by if axis.strip()],
        shard=arguments.shard,
    )
    arguments.evaluation, arguments.output_dir = found.plan, found.output
    for flag in ("sync", "claims"):
        place = getattr(arguments, flag)
        if place is not None:
            # The place of the trainings' folder: what lies below it here lies below it there.
            below = f"{place.rstrip('/')}/{EVALUATIONS}/{found.output.name}"
            setattr(arguments, flag, below)
    if found.unfinished:
        print(
            f"note     {len(found.unfinished)} of the selected trainings have no result yet and "
            f"are left out: {listed(found.unfinished, _MOST_NAMED)}; the same command later adds "
            "them",
            file=sys.stderr,
        )
    return found.unfinished


def _take_resources(arguments: argparse.Namespace) -> None:
    """The ranks and loaders of `--profile`, where no flag gives them.

    What a training computed with is part of its configuration, so an evaluation keeps it.
    """
    profile = profile_of(arguments)
    for name, value in profile.resources.items():
        setattr(arguments, name, value)
    kept = f"; an evaluation keeps its training's {' and '.join(profile.options)}"
    used = replace(profile, options={})
    print(f"note     {used.text()}{kept * bool(profile.options)}", file=sys.stderr)


def planned_evaluation(arguments: argparse.Namespace) -> Plan | None:
    """What `with_evaluation` planned; None for a training."""
    return getattr(arguments, "evaluation", None)

"""Flags for the devices of this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from orchestrator.local.limits import GPUS_IN_USE


def add_devices(group: argparse._ArgumentGroup) -> None:
    """`--devices`, `--device`, and how many of them a run gets."""
    group.add_argument(
        "--devices",
        action=_OneChoice,
        metavar="LIST",
        help="GPUs such as 0,1,2,3, or cuda for all, or cpu, or cpu:8 for eight slots "
        "(default: all GPUs, else a CPU slot a core)",
    )
    group.add_argument(
        "--device",
        dest="devices",
        action=_OneChoice,
        choices=("cuda", "cpu"),
        help="the same as --devices cuda and --devices cpu",
    )
    group.add_argument(
        "--gpus-in-use",
        choices=GPUS_IN_USE,
        help="GPUs that other processes use: wait for them, skip them, or use them all the same "
        "(default: wait; in a SLURM job: use)",
    )
    group.add_argument(
        "--devices-per-run", type=int, metavar="N", help="DDP ranks of a run (default: the study's)"
    )
    group.add_argument(
        "--num-workers",
        type=int,
        metavar="N",
        help="loader processes of a rank (default: the study's)",
    )


class _OneChoice(argparse.Action):
    """Takes the value of one of two flags; an error where they disagree."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        known = getattr(namespace, self.dest, None)
        if known is not None and known != values:
            parser.error(
                f"{option_string} {values}: devices were named already ({known}): --device and "
                "--devices mean the same, give one of them"
            )
        setattr(namespace, self.dest, values)

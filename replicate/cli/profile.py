"""The flag `--profile`: what the machine or the cluster carries (docs/profiles.md)."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from replicate.catalogue import find_profile

if TYPE_CHECKING:
    from orchestrator.studies.profiles import Profile


def add_profile(parser: argparse.ArgumentParser) -> None:
    """`--profile`."""
    parser.add_argument(
        "--profile",
        metavar="NAME|FILE",
        help="hardware: local, t4x2, g5, p3 or a YAML file; sets devices per run, precision, items "
        "per device at a time and loaders, and keeps the global batch (docs/profiles.md)",
    )


def profile_of(arguments: argparse.Namespace) -> Profile:
    """The profile that `--profile` names, without the resources that flags give."""
    from orchestrator.studies.profiles import read_profile

    profile = read_profile(find_profile(arguments.profile))
    # What a flag replaces must not be refused: a batch that the profile's devices do not divide.
    left = {key: v for key, v in profile.resources.items() if getattr(arguments, key) is None}
    return replace(profile, resources=left)

"""Flags that several commands share: which study, which runs of it, which folder."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from merge.errors import UsageError
from merge.records.records import EXPIRY_S
from orchestrator.local.limits import GRACE_S
from replicate.catalogue import built_in_studies
from replicate.cli.device_arguments import add_devices
from replicate.cli.profile import add_profile
from replicate.cli.s3_arguments import add_sync

FILTERS = {"datasets": "dataset", "backbones": "backbone", "shots": "shot", "folds": "fold"}
"""Flag -> the axis that it filters."""

DEFAULT_STUDY = "abcb"


def add_study(parser: argparse.ArgumentParser) -> None:
    """Which study, with which changed values."""
    group = parser.add_argument_group("study")
    group.add_argument(
        "--study",
        default=DEFAULT_STUDY,
        metavar="NAME|FILE",
        help=f"{', '.join(built_in_studies())}, or a study file (default: %(default)s)",
    )
    add_settings(group)
    group.add_argument(
        "--debug",
        action="store_true",
        help="use the study's small settings, in a separate output folder",
    )


def add_settings(group: argparse._ArgumentGroup) -> None:
    """`--set`."""
    group.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of every run's configuration; may be repeated",
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """All that `run` takes, for the commands that show or check beforehand what it would do."""
    add_study(parser)
    add_profile(parser)
    add_selection(parser)
    add_output(parser)
    add_machine(parser).add_argument(
        "--from-scratch",
        action="store_true",
        help="random weights, no file needed: short for --set from_scratch=true",
    )
    add_snapshot(parser)
    group = parser.add_argument_group("data (`replicate prepare` has more flags)")
    group.add_argument(
        "--download", action="store_true", help="first download and unpack missing data"
    )
    group.add_argument(
        "--prepare-only", action="store_true", help="prepare the data and train nothing"
    )


def add_check(parser: argparse.ArgumentParser, *, default: bool = True) -> None:
    """`--check`, `--no-check`."""
    parser.add_argument(
        "--check",
        action=argparse.BooleanOptionalAction,
        default=default,
        help="look first for packages, weights, data and devices that the runs lack here",
    )


def add_selection(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Which runs of the study, and which shard of them."""
    group = _add_filters(parser)
    group.add_argument(
        "--shard-by",
        metavar="AXIS,AXIS",
        help="split the selection into one shard for each combination of these axes; `run`: each "
        "run is a shard; `balanced`: shards of equal expected duration",
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="only shard I of N, counted from 1: of the shards that --shard-by makes, "
        "or of N of equally many runs",
    )
    return group


def add_runs_of_output(parser: argparse.ArgumentParser, verb: str) -> None:
    """An output folder, and which of its runs: for commands that need no study."""
    parser.add_argument("output", type=Path, metavar="OUT", help="output folder with a plan")
    _add_filters(parser).add_argument(
        "--run", action="append", metavar="ID", help=f"{verb} only this run; may be repeated"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done and change nothing"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def _add_filters(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    group = parser.add_argument_group("selection (freely combined; unset means all)")
    for flag, axis in FILTERS.items():
        group.add_argument(f"--{flag}", nargs="+", metavar=axis.upper(), help=f"only these {flag}")
    group.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="AXIS=A,B",
        help="only these values of any axis; may be repeated",
    )
    return group


def add_output(parser: argparse.ArgumentParser) -> None:
    """The output folder, for commands that read a study."""
    parser.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="output folder (default: outputs/ and the name of the study or its file)",
    )


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """What a command that trains may use of this machine, how it claims, retries and syncs."""
    group = parser.add_argument_group("this machine (none of these flags changes a result)")
    add_data_root(group)
    add_cache_dir(group)
    add_weights(group)
    add_devices(group)
    group.add_argument(
        "--grace",
        type=float,
        default=GRACE_S,
        metavar="SECONDS",
        help="time for trainings to write a checkpoint after Ctrl-C (default: %(default)s)",
    )
    _add_claiming(group)
    _add_attempts(group)
    add_sync(parser)
    return group


def add_data_root(group: argparse._ActionsContainer, *, required: bool = False) -> None:
    """`--data-root`."""
    group.add_argument(
        "--data-root", type=Path, required=required, metavar="DIR", help="folder with the datasets"
    )


def add_cache_dir(group: argparse._ActionsContainer) -> None:
    """`--cache-dir`."""
    group.add_argument(
        "--cache-dir",
        type=Path,
        metavar="DIR",
        help="writable folder for derived data (default: $PAPERGRID_CACHE_DIR, "
        "else papergrid below $XDG_CACHE_HOME or ~/.cache)",
    )


def add_weights(group: argparse._ActionsContainer) -> None:
    """`--weights`."""
    group.add_argument(
        "--weights", type=Path, metavar="PATH", help="pretrained weights: a file or a folder"
    )


def _add_claiming(group: argparse._ArgumentGroup) -> None:
    """How this worker shares runs with other workers."""
    group.add_argument(
        "--stand-by",
        action="store_true",
        help="with nothing left to start, wait until the runs of other workers are done or failed, "
        "and take over the runs of workers that die",
    )
    group.add_argument(
        "--claim-expiry",
        type=float,
        default=EXPIRY_S,
        metavar="SECONDS",
        help="time without a heartbeat after which other hosts may take this worker's runs over; "
        "it writes six heartbeats in that time (default: %(default)s)",
    )


def _add_attempts(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--max-retries",
        type=int,
        metavar="N",
        help="try a failed run at most N more times, 0 for never (default: the study's `retries`)",
    )
    group.add_argument(
        "--retry-cancelled", action="store_true", help="also start cancelled runs again"
    )
    group.add_argument(
        "--restart-stalled",
        type=float,
        metavar="MINUTES",
        help="kill and retry a run that has written nothing for MINUTES (default: only show it)",
    )
    group.add_argument(
        "--runs-per-gpu",
        type=int,
        default=1,
        metavar="K",
        help="runs that share a GPU, if its free memory allows (default: %(default)s)",
    )


def add_snapshot(parser: argparse.ArgumentParser) -> None:
    """`--snapshot` as a switch: make a frozen copy and run from it."""
    parser.add_argument(
        "--snapshot",
        action="store_true",
        help="run from a frozen copy of the code, so that edits do not affect waiting runs",
    )


def output_folder(arguments: argparse.Namespace) -> Path:
    """The folder of `--output-dir`, else the study's below `outputs/`. UsageError for a file."""
    if arguments.output_dir is not None:
        named = Path(arguments.output_dir)
        # Also a parent that is a file; mkdir's own message would not name it.
        for part in (named, *named.parents):
            if part.is_file():
                raise UsageError(f"--output-dir {named}: {part} is a file, not a folder")
        return named
    # Built-in names and file names alike: `my/nets.yaml` goes to outputs/nets.
    name = Path(arguments.study).stem
    # Apart: --debug is another configuration, which the folder of the real sweep would refuse.
    return Path("outputs") / (f"{name}-debug" if arguments.debug else name)


def selection(arguments: argparse.Namespace) -> dict[str, list[str]]:
    """Axis -> the texts of its selected values. UsageError where an axis is filtered twice."""
    where: dict[str, list[str]] = {}
    for flag, axis in FILTERS.items():
        words = getattr(arguments, flag)
        if words is not None:
            where[axis] = split(words)
    for text in arguments.where:
        axis, value = _pair("--where", text, "AXIS=A,B")
        if axis in where:
            raise UsageError(f"axis {axis} is filtered twice: give all its values in one filter")
        where[axis] = split([value])
    return where


def settings(arguments: argparse.Namespace) -> dict[str, str]:
    """Key -> text of its value, as `--set` gave them. UsageError where a key is set twice."""
    pairs: dict[str, str] = {}
    for text in arguments.settings:
        key, value = _pair("--set", text, "KEY=VALUE")
        if key in pairs:
            raise UsageError(f"--set {key} is given twice: {pairs[key]!r} and {value!r}")
        pairs[key] = value
    return pairs


def _pair(flag: str, text: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")  # a value may hold more of them
    if not equals or not key:
        raise UsageError(f"{flag} {text!r} is not of the form {form}")
    return key.strip(), value


def split(words: Iterable[str]) -> list[str]:
    """The values of a flag, whether separated by spaces or by commas."""
    return [part.strip() for word in words for part in word.split(",") if part.strip()]

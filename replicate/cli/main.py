"""The `replicate` command: parses, calls one verb, prints controlled errors, returns an exit code.

Exit codes: 0 done, 1 some runs failed or something was left out, 2 usage or configuration,
3 incomplete, 75 try again later (disk full, read-only, no answer), 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn, Protocol, TextIO, cast

from merge.errors import PapergridError, StorageError, SystemLimitError, UsageError
from merge.foreign_text import guarded_output
from merge.wording import did_you_mean, hint
from replicate.views.terminal import print_any_name

VERBS = {
    "run": "train the selected runs on this machine, merge, show the table",
    "plan": "show runs, shards, hours and folders; start nothing",
    "submit": "send the selected runs to SLURM or to servers and return at once",
    "work": "train given runs of a planned output folder; SLURM tasks and servers start it",
    "evaluate": "test finished trainings again under other test settings",
    "status": "show what is done, what runs and what each cell lacks",
    "cancel": "stop runs wherever they run, and keep them from being started",
    "retry": "mark failed, lost or cancelled runs as to be run again",
    "merge": "rebuild the merged results of one or more output folders",
    "compare": "compare two values of an axis, such as two methods, run by run",
    "report": "write the table beside the paper's: Markdown, HTML, LaTeX, CSV",
    "sync": "push, pull or verify an output folder and its copy in an S3 bucket",
    "doctor": "check that this folder, its hosts and devices can run a sweep",
    "prepare": "download, unpack, check and index the data sets of a study",
    "data": "look into a data set: its test lists, whether a copy is complete",
}

_EPILOG = """\
Without a command the flags are those of `run`:
  replicate --datasets pascal5i --backbones resnet50     8 runs of the default study
  replicate --study demo                                 8 small runs, no download needed
  replicate plan --shots 1 --folds 0 1                   what would run
  replicate help run                                     the flags of a command
"""


class Verb(Protocol):
    """What a module in `replicate.cli.verbs` offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def execute(self, arguments: argparse.Namespace) -> int: ...


# Study files, logs, error texts, bucket keys and file names hold what others wrote.
@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    print_any_name()
    try:
        arguments = _parse(words)
        _set_up_logging(arguments.log_level)
        code = _verb(arguments.verb).execute(arguments)
        # Here, where an error can still be reported: at exit Python ignores it.
        sys.stdout.flush()
        return code
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    # No traceback: Ctrl-C is a request, and executors have cleaned up by now.
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has ended (`| head`). Python would complain at exit again.
        _silence()
        return 0
    except OSError as error:
        print(f"replicate: {_refusal(error)}", file=sys.stderr)
        return StorageError.exit_code
    except RuntimeError as error:
        # Python's own text where the system gives no thread, as for parallel transfers.
        if str(error) != "can't start new thread":
            raise
        print(f"replicate: {error}: a limit of processes is reached (ulimit -u)", file=sys.stderr)
        return SystemLimitError.exit_code


def _refusal(error: OSError) -> str:
    """A message where the user can do something about `error`; any other error is raised again."""
    # A file that a person named can be corrected; an OSError without one is a bug, or a full disk.
    if error.filename is not None:
        logging.getLogger(__name__).debug("refused by the system", exc_info=error)
        return (
            f"{error.filename}: {error.strerror}: name another place, or try again "
            f"(--log-level debug shows where this came up)"
        )
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        _silence()
        return "the disk is full: what is printed could not be written"
    raise error


def _silence() -> None:
    # Python flushes stdout once more at exit; into /dev/null that cannot fail again.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parse(words: list[str]) -> argparse.Namespace:
    if not words or words[0] in ("-h", "--help"):
        _print_help(sys.stdout if words else sys.stderr)
        # Without any word: help on stderr and 2, so that a script notices that its variable was
        # empty.
        raise SystemExit(0 if words else 2)
    if words[0] == "help":
        return _help(words[1:])
    if words[0] in ("--version", "version"):
        from importlib.metadata import version

        print(f"papergrid {version('papergrid')}")
        raise SystemExit(0)
    name = "run" if words[0].startswith("-") else words.pop(0)
    if name not in VERBS:
        raise UsageError(f"unknown command {name!r}{hint(name, VERBS)}")
    parser = _VerbParser(prog=f"replicate {name}", description=VERBS[name], allow_abbrev=False)
    parser.set_defaults(verb=name, begun=time.monotonic())
    parser.add_argument(
        "--log-level",
        default="warning",
        choices=("debug", "info", "warning", "error"),
        help="log level of messages on stderr (default: %(default)s)",
    )
    _verb(name).add_arguments(parser)
    # Not `parse_args`: its message names no flag that was perhaps meant.
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        parser.refuse(unknown)
    return arguments


def _help(words: list[str]) -> argparse.Namespace:
    """`replicate help [COMMAND]`, as `--help` prints it."""
    if len(words) > 1:
        raise UsageError("help takes one command: `replicate help run`")
    return _parse([*words, "--help"])


class _VerbParser(argparse.ArgumentParser):
    """Reports an error in one line instead of a screen of usage."""

    def error(self, message: str) -> NoReturn:
        # `retry --state failed OUT`: nargs="+" has taken OUT for one more state.
        if message.startswith("the following arguments are required: OUT"):
            message += "; name it first, before flags that take several values"
        raise UsageError(f"{message} (`{self.prog} --help` lists all flags)")

    def refuse(self, words: Sequence[str]) -> NoReturn:
        """UsageError for unknown arguments, with the flag that was perhaps meant."""
        word = words[0].partition("=")[0]
        flags = [flag for action in self._actions for flag in action.option_strings]
        what = "unknown flag" if word.startswith("-") else "unexpected word"
        self.error(f"{what} {word}{did_you_mean(word, flags)}")


def _print_help(stream: TextIO) -> None:
    parser = argparse.ArgumentParser(
        prog="replicate",
        description="Run the grid of trainings behind a paper's results table.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    # Listed here, taken by `_parse`: this parser only prints help.
    parser.add_argument("--version", action="store_true", help="print the version, and exit")
    verbs = parser.add_argument_group("commands (`replicate COMMAND --help` lists their flags)")
    # Positional, so that argparse lists them with their purposes; this parser only prints help.
    for name, purpose in VERBS.items():
        verbs.add_argument(name, nargs="?", help=purpose)
    parser.print_help(stream)


def _verb(name: str) -> Verb:
    return cast(Verb, importlib.import_module(f"replicate.cli.verbs.{name}"))


def _set_up_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )


if __name__ == "__main__":
    sys.exit(main())

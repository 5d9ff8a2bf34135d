"""The one error tree.

PapergridError
|-- UsageError              the command line or a file that a person wrote is wrong      (exit 2)
|   |-- StudyError          a study file, with every problem and its place in the file
|   |-- SelectionError      a filter that names a value the study does not have
|   |-- ConfigChangedError  a run is planned already with another configuration
|   |   `-- IncomparableError  a cell's runs differ in what must be equal, and --strict was given
|   |-- BucketError         an object store refuses: no such bucket, denied, wrong keys
|   |-- ServersError        servers that cannot be used, each with all its problems
|   |   `-- ServersAwayError  none has another problem than that it cannot be reached now  (exit 75)
|   |-- PreflightError      what runs need and this machine lacks, all of it at once
|   `-- DataError           a data root, split, image or weight file is missing or unusable
|-- FileError               concerns one file or folder, which it has in `path`            (exit 1)
|   |-- RecordError         a record on disk is unreadable or not ours                     (exit 1)
|   |   `-- UnreadableError  the file system does not give it now; also a StorageError     (exit 75)
|   `-- StorageError        the file system refused: full, read-only, not permitted        (exit 75)
|-- SystemLimitError        no process, thread or open file is to be had                   (exit 75)
|-- GpusInUseError          others use all GPUs that a run could have                      (exit 75)
|-- DownloadError           no server gave a file, for a reason that may pass              (exit 75)
|-- BucketUnavailableError  an object store that may answer later: away, throttled         (exit 75)
|-- SchedulerError          a scheduler refused, or gave no answer                         (exit 75)
|   |-- RequestRefusedError it refused what was asked, and will again                      (exit 2)
|   `-- NoAnswerError       the same, where it may have done what it was asked to
`-- IncompleteError         something asked for is not there yet                           (exit 3)

Each message says what happened, to which run or file, and what to do next. An error without an exit
code here has its parent's; docs/exit-codes.md says what the codes mean. All facts of an error
survive pickling: executors pass them between processes.
"""

from __future__ import annotations

from pathlib import Path


class PapergridError(Exception):
    """Base of all errors that a person is shown without a traceback."""

    exit_code = 1


class UsageError(PapergridError):
    """The command line, or a file that a person wrote, is wrong."""

    exit_code = 2


class StudyError(UsageError):
    """A study that cannot be used: carries all its problems at once."""

    # All arguments go to `super().__init__`: pickle calls the class again with `args`.
    def __init__(self, source: str, problems: tuple[str, ...]) -> None:
        super().__init__(source, problems)
        self.source = source
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        return "\n".join([f"{self.source}: {count} {noun}", *(f"  {p}" for p in self.problems)])


class SelectionError(UsageError):
    """A filter names an axis or a value that the study does not have."""


class ConfigChangedError(UsageError):
    """A run is planned with another configuration, in the output folder or in another input."""


class IncomparableError(ConfigChangedError):
    """Runs of one cell differ in what must be equal for their mean to mean something."""


class ServersError(UsageError):
    """Servers that cannot be used as they are: carries the problems of all of them at once."""

    def __init__(self, problems: tuple[str, ...], usable: tuple[str, ...] = ()) -> None:
        super().__init__(problems, usable)
        self.problems = problems
        self.usable = usable
        """Names of the servers without a problem."""

    def __str__(self) -> str:
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = [f"  {problem}" for problem in self.problems]
        if self.usable:
            lines.append(f"to start on the others alone, add --hosts {','.join(self.usable)}")
        return "\n".join([f"nothing was started: {count} {noun} on the servers", *lines])


class ServersAwayError(ServersError):
    """Servers that cannot be reached now; the others are as they should be."""

    exit_code = 75


class PreflightError(UsageError):
    """Runs that cannot train here: carries all that they need and lack."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        return "\n".join(
            [f"nothing was started: {count} {noun}", *(f"  {p}" for p in self.problems)]
        )


class DataError(UsageError):
    """A data root, a split, an image or a weight file is missing or unusable."""


class BucketError(UsageError):
    """An object store refuses, and will again: no such bucket, denied, wrong keys or region."""


class FileError(PapergridError):
    """Concerns a file or folder: `path`, or None where it is an object elsewhere."""

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class RecordError(FileError):
    """A record on disk is unreadable, truncated, or of a schema this version does not know."""


class StorageError(FileError):
    """The file system refused: full, read-only, not permitted, or an input/output error."""

    exit_code = 75


class UnreadableError(RecordError, StorageError):
    """A record that the file system does not give now: it may be in order."""


class SystemLimitError(PapergridError):
    """The system gives no process, thread, memory or open file now: a limit is reached."""

    exit_code = 75


class GpusInUseError(PapergridError):
    """Others use all GPUs that the runs could have."""

    exit_code = 75


class DownloadError(PapergridError):
    """No server gave a file that is to be downloaded, for a reason that may pass."""

    exit_code = 75


class SchedulerError(PapergridError):
    """A scheduler refused, or gave no answer."""

    exit_code = 75


class RequestRefusedError(SchedulerError):
    """A scheduler refused a request that must be corrected, such as an unknown partition."""

    exit_code = 2


class NoAnswerError(SchedulerError):
    """A scheduler gave no answer to a request that it may have followed all the same."""


class BucketUnavailableError(PapergridError):
    """An object store that may answer later: unreachable, throttled, expired credentials."""

    exit_code = 75

    def __init__(self, message: str, is_transient: bool = True) -> None:
        super().__init__(message, is_transient)
        self.is_transient = is_transient
        """Whether waiting alone may help; expired credentials need a person."""

    def __str__(self) -> str:
        return str(self.args[0])


class IncompleteError(PapergridError):
    """Something that was asked for is not there yet."""

    exit_code = 3


INTERRUPTED_EXIT_CODE = 130
"""Of a command that a signal or Ctrl-C has stopped, as shells count SIGINT."""

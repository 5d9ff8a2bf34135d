"""The outermost frame of every trainer process: stop requests, error records, exit codes."""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable
from typing import Literal, NoReturn

from experiments.runtime.events import EventLog
from experiments.runtime.loader_errors import HostMemoryError, LoaderTimeoutError, explained
from experiments.runtime.run_context import RunContext, read_context
from experiments.runtime.stop import StopRequest
from merge.errors import DataError, PapergridError, StorageError, UsageError
from merge.storage.json_files import write_json_exclusive

Train = Callable[[RunContext, StopRequest], None]
ErrorKind = Literal[
    "data", "config", "cuda_oom", "host_oom", "disk_full", "nan", "stalled", "other"
]
"""As in the run contract; the message describes an error of kind `other`."""


class NonFiniteError(PapergridError):
    """The loss or a metric is NaN or infinite."""


def run_trainer(train: Train) -> NoReturn:
    """Run `train` as the body of this process and end it: with 0, or with an error's exit code.

    A failing rank writes the attempt's error.json unless another rank was first, and leaves at
    once, without any collective clean-up that could wait for its peers: torchrun, and gloo's
    closed connections, then end the other ranks within seconds. Python's own tear-down is left
    out in either case: torch's threads abort it now and then after a training that went well.
    """
    stop = StopRequest()
    stop.install()
    context: RunContext | None = None
    try:
        context = read_context(os.environ)
        train(context, stop)
    except Exception as error:  # noqa: BLE001
        try:
            _print(error)
            if context is not None:
                record_failure(context, error)
        finally:
            _leave(_exit_code(error))
    _leave(0)


def classify(error: Exception) -> ErrorKind:
    """The kind of an error as error.json names it."""
    if isinstance(error, DataError):
        return "data"
    if isinstance(error, UsageError):
        return "config"
    if isinstance(error, NonFiniteError):
        return "nan"
    if isinstance(error, StorageError):
        return "disk_full"
    if isinstance(error, LoaderTimeoutError):
        return "stalled"
    return _out_of_memory(error) or "other"


def record_failure(context: RunContext, error: Exception) -> None:
    """Write the attempt's error.json, unless a rank has done so: the first error is the cause."""
    error = explained(error, context.num_workers)
    is_ours = isinstance(error, PapergridError)
    record = {
        "kind": classify(error),
        "message": str(error) if is_ours else f"{type(error).__name__}: {error}",
        "rank": int(os.environ.get("RANK", "0")),
        "exit_code": _exit_code(error),
    }
    if write_json_exclusive(context.attempt.error, record) and record["rank"] == 0:
        events = EventLog(context.attempt.events)
        events.emit("error", kind=classify(error), message=str(record["message"]))
        events.close()


def _exit_code(error: Exception) -> int:
    return error.exit_code if isinstance(error, PapergridError) else 1


def _leave(exit_code: int) -> NoReturn:
    for child in multiprocessing.active_children():
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)


def _print(error: Exception) -> None:
    if isinstance(error, PapergridError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)


def _out_of_memory(error: Exception) -> Literal["cuda_oom", "host_oom"] | None:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "cuda_oom"
    if isinstance(error, MemoryError | HostMemoryError) or "DefaultCPUAllocator" in str(error):
        return "host_oom"
    return None

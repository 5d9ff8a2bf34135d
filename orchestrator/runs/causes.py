"""Why an attempt ended: one cause out of all that is known about its end. Pure.

From strongest to weakest: what the executor did itself, the error that the trainer reports (its
error.json), signals, the kernel's count of out-of-memory kills, and the last lines of the logs.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from merge.records.records import Cause

_NUM_STDERR_LINES = 200
_NUM_STDOUT_LINES = 40

_KINDS = {
    "data": Cause.DATA,
    "config": Cause.CONFIG,
    "nan": Cause.NAN_LOSS,
    "nan_loss": Cause.NAN_LOSS,
    "cuda_oom": Cause.CUDA_OOM,
    "host_oom": Cause.HOST_OOM,
    "port_in_use": Cause.PORT_IN_USE,
    "collective_timeout": Cause.COLLECTIVE_TIMEOUT,
    "disk_full": Cause.DISK_FULL,
    "system_limit": Cause.SYSTEM_LIMIT,
    "stalled": Cause.STALLED,
}
"""What error.json may have as its `kind`; with any other kind the message decides."""

_PATTERNS = (
    (
        Cause.CUDA_OOM,
        # torch, its allocators and back ends, Triton.
        r"\b(?:CUDA|HIP|XPU|MPS|Triton Error \[\w+\]):?(?: driver| runtime| backend)?(?: error)?:?"
        r" out of memory|OutOfMemoryError: CUDA|cudaErrorMemoryAll|hipErrorOutOfMemory"
        # NVIDIA's libraries; cuDNN searches for an algorithm whose work space fits.
        r"|CU(?:BLAS|DNN|SOLVER|SPARSE)_STATUS_(?:ALLOC_FAILED|\w*DEVICE_ALLOCATION_FAILED)"
        r"|CUFFT_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY"
        r"|Unable to find a valid cuDNN algorithm to run convolution"
        r"|Cuda failure.{0,5}out of memory|Failed to CUDA (?:c|m)alloc"
        # TensorFlow, JAX, CuPy.
        r"|(?i:RESOURCE.EXHAUSTED): (?:Out of memory|OOM when)|OOM when allocating tensor"
        r"|cupy\.\S*OutOfMemoryError",
    ),
    (
        Cause.HOST_OOM,
        r"DefaultCPUAllocator|\b(?:_?Array)?MemoryError\b|std::bad_alloc|Cannot allocate memory"
        r"|Unable to allocate [\d.]+ (?:bytes|[KMGTPE]iB) for an array"
        r"|CUDNN_STATUS_\w*HOST_ALLOCATION_FAILED"
        r"|oom[-_]kill|Out of memory: Killed|Exceeded (?:job|step) memory limit"
        # /dev/shm: what is full there is memory, and no disk.
        r"|out of shared memory|insufficient shared memory|Error while creating shared memory seg"
        r"|(?:/dev/shm|[Ss]hared memory|\(shm\)|</torch_|posix_fallocate).*No space left on device"
        r"|No space left on device.*(?:/dev/shm|/psm_|/torch_)"
        r"|DataLoader worker \(pid.*\) is killed by signal: (?:Killed|Bus error)"
        r"|DataLoader worker \(pid.*\) exited unexpectedly(?! with exit code)",
    ),
    (
        Cause.DISK_FULL,
        r"No space left on device|Disk quota exceeded|Read-only file system|the disk is full",
    ),
    (
        Cause.SYSTEM_LIMIT,
        r"can't start new thread|pthread_create (?:failed|error)"
        r"|fork: (?:retry: )?(?:Resource temporarily unavailable|No child processes)"
        r"|BlockingIOError: \[Errno 11\]",
    ),
    (Cause.PORT_IN_USE, r"EADDRINUSE|[Aa]ddress already in use"),
    (
        Cause.COLLECTIVE_TIMEOUT,
        r"Timed out waiting \d+ ?ms|collective operation timeout|wait timeout after \d+ ?ms"
        r"|ran for \d+ milliseconds before timing out|Timed out after \d+ seconds waiting for cl"
        r"|Socket Timeout|RendezvousTimeoutError|monitoredBarrier.*timeout",
    ),
    (
        Cause.NAN_LOSS,
        r"(?i)\bloss\b\W{0,3}(?:(?:is|was|became|=|went|to)\W{0,3})*(?:nan|inf|infinite|infinity)\b",
    ),
    (
        Cause.RANK_FAILED,
        r"Connection closed by peer|Connection reset by peer|NCCL communicator was aborted"
        r"|ncclRemoteError",
    ),
)

_EXCEPTION = re.compile(r"(?:\[rank\d+\]:\s*|\d+: )?[A-Za-z_][\w.]*(?:Error|Exception)\b")
"""How the line begins that Python ends a traceback with; torch writes the rank before it."""

_OF_A_PARENT = re.compile(r"\b(?:ChildFailedError|CalledProcessError)\b")
"""What a process raises of one that it started: torchrun's agent, a script around a trainer."""

_NUM_LAST_LINES = 3

_SYMPTOMS = frozenset({Cause.RANK_FAILED, Cause.COLLECTIVE_TIMEOUT})
"""What the other ranks report when one of them has died: there may be a better reason."""

_RANK_SIGNAL = re.compile(r"Signal (\d+) \(SIG\w+\) received by PID")
"""How torchrun reports a rank that was killed."""

_NO_KILL = frozenset({signal.SIGINT, signal.SIGPIPE})
"""Signals that do not mean that the command was killed: Ctrl-C, and a closed pipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known about the end of an attempt."""

    exit_code: int
    """As the shell counts: 128 + N for death by signal N."""
    has_result: bool = False
    """Whether it left a result that can be used."""
    stop_cause: Cause | None = None
    """Why the executor itself stopped or killed the attempt; None where it did not."""
    stopped_by_itself: bool = False
    """Whether its last event is `stopped`: it wrote a checkpoint and stopped as asked."""
    error_kind: str | None = None
    """`kind` of its error.json; None where there is none."""
    error_message: str = ""
    stderr: str = ""
    stdout: str = ""
    num_oom_kills: int = 0
    """Processes that the kernel killed for memory while it ran, in the executor's cgroup."""


def find_cause(evidence: Evidence) -> Cause:
    """The one cause that `evidence` amounts to."""
    if evidence.exit_code == 0:
        return _of_success(evidence)
    if evidence.stop_cause is Cause.STALLED:
        # What a loader process could not send is awaited for ever: it needs more memory.
        return Cause.HOST_OOM if _of_logs(evidence) is Cause.HOST_OOM else Cause.STALLED
    reported = _of_report(evidence)
    if evidence.has_result and reported in (None, *_SYMPTOMS):
        return Cause.UNCLEAN_EXIT
    if evidence.stop_cause and reported in (None, *_SYMPTOMS):
        return evidence.stop_cause
    if reported and reported not in _SYMPTOMS:
        return reported
    return _of_signals(evidence) or reported or _of_exit_code(evidence) or _of_logs(evidence)


def killed_by(exit_code: int) -> signal.Signals | None:
    """The signal that an exit code stands for, as the shell counts."""
    known = exit_code > 128 and exit_code - 128 in set(signal.Signals)
    return signal.Signals(exit_code - 128) if known else None


def killed_rank(stderr: str) -> signal.Signals | None:
    """The signal that killed the rank which torchrun names in its report, if one did."""
    known = set(signal.Signals)
    numbers = [int(number) for number in _RANK_SIGNAL.findall(stderr) if int(number) in known]
    # torchrun ends the other ranks with SIGTERM itself: of them that is no cause.
    # The root cause stands last in its report.
    return next((signal.Signals(n) for n in reversed(numbers) if n != signal.SIGTERM), None)


def named_in(text: str) -> Cause | None:
    """The cause that `text` names, of several the first in `_PATTERNS`; None where none."""
    return next((cause for cause, pattern in _PATTERNS if re.search(pattern, text)), None)


def _of_success(evidence: Evidence) -> Cause:
    if evidence.has_result:
        return Cause.DONE
    if evidence.stop_cause:
        return evidence.stop_cause
    return Cause.INTERRUPTED if evidence.stopped_by_itself else Cause.NO_RESULT


def _of_report(evidence: Evidence) -> Cause | None:
    """The cause that the trainer reports; None where it left no error.json."""
    if evidence.error_kind is None:
        return None
    return _KINDS.get(evidence.error_kind) or named_in(evidence.error_message) or Cause.UNKNOWN


def _of_signals(evidence: Evidence) -> Cause | None:
    own = killed_by(evidence.exit_code)
    number = own if own and own not in _NO_KILL else killed_rank(evidence.stderr)
    if number is None:
        return None
    logged = _of_logs(evidence)
    if number is signal.SIGKILL:
        short_of_memory = evidence.num_oom_kills > 0 or logged is Cause.HOST_OOM
        return Cause.HOST_OOM if short_of_memory else Cause.KILLED
    # A library that aborts or faults has often logged the reason first.
    return Cause.KILLED if logged in (Cause.UNKNOWN, Cause.RANK_FAILED) else logged


def _of_exit_code(evidence: Evidence) -> Cause | None:
    return Cause.DISK_FULL if evidence.exit_code == 75 else None


def _of_logs(evidence: Evidence) -> Cause:
    for text, most in ((evidence.stderr, _NUM_STDERR_LINES), (evidence.stdout, _NUM_STDOUT_LINES)):
        lines = text.splitlines()[-most:]
        for cause, pattern in _PATTERNS:
            if any(re.search(pattern, line) for line in _telling(lines, cause)):
                return cause
    return Cause.UNKNOWN


def _telling(lines: Sequence[str], cause: Cause) -> Sequence[str]:
    """The lines of a log's end that may tell of `cause`."""
    if cause is Cause.NAN_LOSS:
        # Training may go on after a loss that is not finite.
        return lines[-_NUM_LAST_LINES:]
    if cause is Cause.PORT_IN_USE:
        # Programs that look for a free port log each one that is taken, and go on.
        return _errors(lines)[-1:] or lines[-_NUM_LAST_LINES:]
    return lines


def _errors(lines: Sequence[str]) -> list[str]:
    """The errors that ended processes, without those that follow from another one's end."""
    errors = [line for line in lines if _EXCEPTION.match(line) and not _OF_A_PARENT.search(line)]
    return [line for line in errors if named_in(line) not in _SYMPTOMS]

"""Workers on servers after their start: query, stop and kill them over ssh."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import RecordError, UsageError
from merge.records.records import Owner, worker_from_json
from merge.wording import hint
from orchestrator.config.shell import quote
from orchestrator.servers.ssh import ScriptResult, SshTarget, in_parallel, run_script
from orchestrator.servers.workers import Worker, WorkerState, read_workers, worker_state

_SCRIPT_TIMEOUT_S = 20.0
_MAY_RUN = (WorkerState.AT_WORK, WorkerState.SILENT, WorkerState.NOT_ASKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueriedWorker:
    """A worker, and what its server reports about its process."""

    worker: Worker
    """With its current record, where that lies on the server."""
    process: str
    """`running`, `stopped` (suspended), `gone`, or why the server could not be asked; empty where
    the worker has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopResult:
    """What happened when a worker was to be stopped."""

    server: str
    message: str
    """`asked to stop`, `killed`, `gone`, or why it could not be stopped."""
    is_ok: bool

    def to_json(self) -> dict[str, object]:
        """As `cancel --workers --json` prints it."""
        return {"server": self.server, "told": self.message, "is_well": self.is_ok}


def stop_workers(
    output: Path,
    names: Iterable[str] | None = None,
    *,
    kill: bool = False,
    is_dry: bool = False,
) -> list[StopResult]:
    """Stop the workers on servers `names` (None: on all) that have not ended, over ssh.

    SIGTERM asks them to stop, so that their runs write checkpoints; with `kill` SIGKILL ends their
    process groups, and their guards end the runs. `is_dry` sends no signal. UsageError for a name
    that is in no submission.
    """
    alive = [worker for worker in _named_workers(output, names) if _may_run(worker)]
    signal, what = ("KILL", "killed") if kill else ("TERM", "asked to stop")
    found = in_parallel(lambda worker: _stop(worker, "" if is_dry else signal, what), alive)
    return [result for result in found if result]


def _named_workers(output: Path, names: Iterable[str] | None) -> list[Worker]:
    workers = read_workers(output)
    known = list(dict.fromkeys(worker.name for worker in workers))
    selected = known if names is None else list(names)
    for name in selected:
        if name not in known:
            raise UsageError(f"no worker was submitted to {name!r}{hint(name, known)}")
    return [worker for worker in workers if worker.name in selected]


def query_workers(workers: Sequence[Worker]) -> list[QueriedWorker]:
    """Query over ssh the workers that have not ended, in parallel, each with a time-out."""
    return in_parallel(_query, [worker for worker in workers if _may_run(worker)])


def signal_script(owner: Owner, signal: str) -> str:
    """Bash that signals the process group of `owner`, if it is still the same process. Pure.

    It reports `gone`, `signalled`, or without a signal `running` or `stopped`.
    """
    boot = quote([owner.boot_id])
    group = owner.pid
    send = f"kill -{signal} -- -{group} && report signalled" if signal else _report_state()
    return "\n".join(
        [
            # Process ids are reused: boot, pid namespace and start time together name one process.
            'here="$(cat /proc/sys/kernel/random/boot_id)/$(readlink /proc/self/ns/pid)"',
            f'[ "$here" = {boot} ] || {{ report gone; exit 0; }}',
            f"stat=$(cat /proc/{owner.pid}/stat 2>/dev/null) || {{ report gone; exit 0; }}",
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            "set -- ${stat##*) }",
            "state=$1",
            f'[ "${{20}}" = {quote([owner.pid_started])} ] || {{ report gone; exit 0; }}',
            "case $state in Z|X|x) report gone; exit 0;; esac",
            send,
        ]
    )


def record_script(path: Path) -> str:
    """Bash that reports the server's time and the record in `path`, on one line; or `absent`. Pure.

    Heartbeats in it are by the same server's clock.
    """
    file = quote([str(path)])
    return "\n".join(
        [
            f"[ -e {file} ] || {{ report absent; exit 0; }}",
            # A result is one line: JSON stays the same without its line breaks.
            f"report \"record $(date +%s) $(tr -d '\\n' <{file})\"",
        ]
    )


def _stop(worker: Worker, signal: str, what: str) -> StopResult | None:
    """Send `signal`, or none if it is empty; None where the worker had already ended."""
    worker, problem = _with_record(worker)
    if problem:
        return StopResult(server=worker.name, message=problem, is_ok=False)
    if not _may_run(worker):
        return None
    if not signal:
        return StopResult(server=worker.name, message=f"would be {what}", is_ok=True)
    answer = send_signal(worker, signal)
    return StopResult(
        server=worker.name,
        message=what if answer == "signalled" else answer,
        is_ok=answer in ("signalled", "gone"),
    )


def _query(worker: Worker) -> QueriedWorker:
    worker, problem = _with_record(worker)
    if problem or not _may_run(worker):
        return QueriedWorker(worker=worker, process=problem)
    return QueriedWorker(worker=worker, process=send_signal(worker, ""))


def _with_record(worker: Worker) -> tuple[Worker, str]:
    """`worker` with its record, fetched where that lies on its server, and why that failed."""
    path = worker.remote_record
    if path is None:
        return worker, ""
    result = _run(worker, record_script(path))
    for line in result.lines:
        word, *rest = line.split(" ", 2)
        if word == "absent":
            return replace(worker, remote_record=None), ""
        try:
            now, text = rest
            record = worker_from_json(path, json.loads(text))
            # `date` says whole seconds, so a heartbeat of this second lies ahead of them.
            silence_s = max(0.0, float(now) - record.heartbeat)
        except (ValueError, RecordError) as error:
            return replace(worker, problem=f"{path} there is unreadable ({error})"), ""
        return replace(worker, remote_record=None, record=record, silence_s=silence_s), ""
    return worker, result.error or "gave no answer"


def _report_state() -> str:
    return "case $state in T|t) report stopped;; *) report running;; esac"


def send_signal(worker: Worker, signal: str) -> str:
    """Send `signal`, or none if it is empty, to the process of `worker`; the server's answer.

    `signalled`, `running`, `stopped` (suspended), `gone`, or why the server could not be asked.
    """
    if worker.record is None:
        return "wrote no record of its start; see its log"
    result = _run(worker, signal_script(worker.record.owner, signal))
    return result.lines[0] if result.lines else result.error or "gave no answer"


def _run(worker: Worker, script: str) -> ScriptResult:
    target = SshTarget(
        destination=worker.ssh,
        config=worker.ssh_config,
        connect_timeout_s=worker.connect_timeout_s,
    )
    return run_script(target, lambda _: script, worker.connect_timeout_s + _SCRIPT_TIMEOUT_S)


def _may_run(worker: Worker) -> bool:
    return worker_state(worker) in _MAY_RUN

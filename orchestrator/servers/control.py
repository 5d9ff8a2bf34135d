"""Workers on servers after they were started: asked how they are, stopped, killed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import RecordError, UsageError
from merge.records.records import Owner, worker_from_json
from merge.records.sweep import Run, read_sweep
from merge.storage.paths import SweepPaths
from orchestrator.config.shell import quote
from orchestrator.config.wording import hint
from orchestrator.plan.selection import choose
from orchestrator.runs.claims import last_claim
from orchestrator.servers.ssh import Reach, ask, in_parallel
from orchestrator.servers.workers import Condition, Worker, condition, read_workers

_ASK_TIMEOUT_S = 20.0
_MAY_LIVE = (Condition.AT_WORK, Condition.SILENT, Condition.NOT_ASKED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a server says of its worker when it is asked."""

    worker: Worker
    """With its record as it is now, where that lies on the server."""
    said: str
    """`running`, `stopped` (suspended), `gone`, or why the server could not be asked; empty where
    the worker has ended and nobody else needs to be asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """What became of stopping a worker."""

    server: str
    told: str
    """`asked to stop`, `killed`, `gone`, or why it could not be stopped."""
    is_well: bool


def stop_workers(
    output: Path,
    names: Iterable[str] | None = None,
    *,
    kill: bool = False,
    is_dry: bool = False,
) -> list[Stopped]:
    """Stop the workers on servers `names` (None: on all) that have not ended, over ssh.

    They are asked to stop, so that their runs write checkpoints; with `kill` their process groups
    are killed, and their guards kill the runs. `is_dry` only tells which it would be. UsageError
    for a name that no submission has.
    """
    workers = read_workers(output)
    known = list(dict.fromkeys(worker.name for worker in workers))
    wanted = known if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise UsageError(f"no worker was submitted to {name!r}{hint(name, known)}")
    alive = [worker for worker in workers if worker.name in wanted and _may_live(worker)]
    signal, what = ("KILL", "killed") if kill else ("TERM", "asked to stop")
    found = in_parallel(lambda worker: _stopped(worker, "" if is_dry else signal, what), alive)
    return [stopped for stopped in found if stopped]


def cancel_jobs(output: Path, run_ids: Sequence[str]) -> list[str]:
    """Kill the silent workers on servers that still have one of these runs; a line for each.

    Others need no ssh: a worker that lives sees in the run's folder that it was cancelled. What is
    done cannot be lost by it: the other runs of a killed worker go on from their checkpoints.
    """
    owners = {
        owner for run in _runs(output, run_ids) if (owner := _holder(output, run)) is not None
    }
    now = time.time()
    silent = [
        worker
        for worker in read_workers(output)
        if condition(worker, now) is Condition.SILENT
        and worker.record
        and worker.record.owner in owners
    ]
    said = in_parallel(lambda worker: _signalled(worker, "KILL"), silent)
    return [
        f"{worker.name}: its worker was silent and "
        + ("was killed" if word == "signalled" else f"could not be killed: {word}")
        for worker, word in zip(silent, said, strict=True)
    ]


def reach_workers(workers: Sequence[Worker]) -> list[Reached]:
    """Ask over ssh what became of the workers that have not ended, each with a time-out."""
    return in_parallel(_reached, [worker for worker in workers if _may_live(worker)])


def signal_script(owner: Owner, signal: str) -> str:
    """Bash that signals the process group of `owner`, if it is still that very process. Pure.

    It tells `gone`, `signalled`, or without a signal `running` or `stopped`.
    """
    boot = quote([owner.boot_id])
    group = owner.pid
    send = f"kill -{signal} -- -{group} && tell signalled" if signal else _tell_state()
    return "\n".join(
        [
            'here="$(cat /proc/sys/kernel/random/boot_id)/$(readlink /proc/self/ns/pid)"',
            f'[ "$here" = {boot} ] || {{ tell gone; exit 0; }}',
            f"stat=$(cat /proc/{owner.pid}/stat 2>/dev/null) || {{ tell gone; exit 0; }}",
            # The command's name, in parentheses, may itself hold spaces and parentheses.
            "set -- ${stat##*) }",
            "state=$1",
            f'[ "${{20}}" = {quote([owner.pid_started])} ] || {{ tell gone; exit 0; }}',
            "case $state in Z|X|x) tell gone; exit 0;; esac",
            send,
        ]
    )


def _runs(output: Path, run_ids: Sequence[str]) -> tuple[Run, ...]:
    return choose(read_sweep(SweepPaths(output).sweep).runs, run_ids)


def _holder(output: Path, run: Run) -> Owner | None:
    """Who has the run; None where nobody does."""
    last = last_claim(SweepPaths(output).run(run.path))
    return None if last is None or last.released else last.owner


def record_script(path: Path) -> str:
    """Bash that tells the record in `path` on a line, or `absent`. Pure."""
    file = quote([str(path)])
    return "\n".join(
        [
            f"[ -e {file} ] || {{ tell absent; exit 0; }}",
            f"tell \"record $(tr -d '\\n' <{file})\"",
        ]
    )


def _stopped(worker: Worker, signal: str, what: str) -> Stopped | None:
    """What became of sending `signal`, or of nothing without one; None: it had ended already."""
    worker, trouble = _with_record(worker)
    if trouble:
        return Stopped(server=worker.name, told=trouble, is_well=False)
    if not _may_live(worker):
        return None
    if not signal:
        return Stopped(server=worker.name, told=f"would be {what}", is_well=True)
    word = _signalled(worker, signal)
    return Stopped(
        server=worker.name,
        told=what if word == "signalled" else word,
        is_well=word in ("signalled", "gone"),
    )


def _reached(worker: Worker) -> Reached:
    worker, trouble = _with_record(worker)
    if trouble or not _may_live(worker):
        return Reached(worker=worker, said=trouble)
    return Reached(worker=worker, said=_signalled(worker, ""))


def _with_record(worker: Worker) -> tuple[Worker, str]:
    """`worker` with its record, asked for where that lies on its server; why it was not told."""
    if worker.there is None:
        return worker, ""
    script = record_script(worker.there)
    answer = ask(_reach(worker), lambda _: script, worker.connect_timeout_s + _ASK_TIMEOUT_S)
    for line in answer.told:
        word, _, text = line.partition(" ")
        if word == "absent":
            return replace(worker, there=None), ""
        try:
            record = worker_from_json(worker.there, json.loads(text))
        except (ValueError, RecordError) as error:
            return replace(worker, problem=f"{worker.there} there is unreadable ({error})"), ""
        return replace(worker, there=None, record=record), ""
    return worker, answer.trouble or "gave no answer"


def _tell_state() -> str:
    return "case $state in T|t) tell stopped;; *) tell running;; esac"


def _signalled(worker: Worker, signal: str) -> str:
    if worker.record is None:
        return "never told that it had started; see its log"
    script = signal_script(worker.record.owner, signal)
    answer = ask(_reach(worker), lambda _: script, worker.connect_timeout_s + _ASK_TIMEOUT_S)
    return answer.told[0] if answer.told else answer.trouble or "gave no answer"


def _reach(worker: Worker) -> Reach:
    return Reach(
        destination=worker.ssh,
        config=worker.ssh_config,
        connect_timeout_s=worker.connect_timeout_s,
    )


def _may_live(worker: Worker) -> bool:
    return condition(worker, time.time()) in _MAY_LIVE

"""Submitting to servers: check them, freeze the plan, start detached workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import UsageError
from merge.records.sweep import Sweep
from merge.storage.atomic import make_folder, write_bytes
from merge.storage.json_files import write_json_exclusive
from merge.storage.paths import SweepPaths
from orchestrator.bucket_claims.plan import publish_plan_to
from orchestrator.plan.freeze import freeze
from orchestrator.servers.checks import CheckedServer, check_servers
from orchestrator.servers.request import ServerAssignment, ServerRequest
from orchestrator.servers.scripts import start_script
from orchestrator.servers.ssh import ScriptResult, in_parallel, run_script
from orchestrator.sync.plan import check_before_training

_START_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartResult:
    """The start of a worker on one server."""

    server: str
    pid: int | None = None
    """Process id on the server; None where the worker is not known to run."""
    problem: str = ""


def submit(
    sweep: Sweep, request: ServerRequest, on_checked: Callable[[Sequence[CheckedServer]], None]
) -> list[StartResult]:
    """Check all servers of `request`, freeze the plan, start a worker on each; return at once.

    `on_checked` gets the results of the checks before anything starts. ServersError with all
    problems of all servers, ConfigChangedError where the output folder or the bucket holds another
    plan: then no worker starts.
    """
    refuse_other_plans(sweep, request)
    on_checked(check_servers(request))
    write_submission(sweep, request)
    return start_servers(request)


def refuse_other_plans(sweep: Sweep, request: ServerRequest) -> None:
    """ConfigChangedError where the output folder, or the bucket, holds another plan."""
    if SweepPaths(request.output).sweep.exists():
        freeze(request.output, sweep)
    if request.claims:
        check_before_training(request.claims, sweep)


def write_submission(sweep: Sweep, request: ServerRequest) -> None:
    """Freeze the plan; record the submission and the runs of each server.

    Without a shared folder the plan also goes into the bucket, where the servers fetch it.
    """
    freeze(request.output, sweep)
    if request.claims:
        publish_plan_to(request.claims, request.output, sweep)
    for each in request.assignments:
        name = each.server.name
        _write(request.paths.runs(name), "".join(f"{run.run_id}\n" for run in each.runs))
        _write(request.paths.log(name), "")
    make_folder(request.paths.workers)
    if not write_json_exclusive(request.paths.record, request.to_json()):
        raise UsageError(f"{request.paths.record} exists already: submit again")


def start_servers(request: ServerRequest) -> list[StartResult]:
    """Start a worker on every server of a recorded submission, all at once."""

    def start(each: ServerAssignment) -> StartResult:
        script = start_script(request, each)
        target = request.ssh_target(each.server)
        result = run_script(target, lambda _: script, _START_TIMEOUT_S)
        return _start_result(each.server.name, result)

    return in_parallel(start, request.assignments)


def _write(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def _start_result(name: str, result: ScriptResult) -> StartResult:
    for line in result.lines:
        word, _, rest = line.partition(" ")
        if word == "started" and rest.isdigit():
            return StartResult(server=name, pid=int(rest))
        if word == "problem":
            return StartResult(server=name, problem=rest)
    error = result.error or "it gave no answer"
    return StartResult(server=name, problem=f"{error}; whether a worker runs there is not known")

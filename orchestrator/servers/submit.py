"""Submitting to servers: check them, freeze the plan, start detached workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import UsageError
from merge.storage.atomic import make_folder, write_bytes
from merge.storage.json_files import write_json_exclusive
from orchestrator.bucket_claims.plan import publish_plan_to
from orchestrator.plan.freeze import OnNote, existing_plan, freeze, ignore_note
from orchestrator.plan.plan import Plan
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
    plan: Plan,
    request: ServerRequest,
    on_checked: Callable[[Sequence[CheckedServer]], None],
    on_note: OnNote = ignore_note,
) -> list[StartResult]:
    """Check all servers of `request`, freeze the plan, start a worker on each; return at once.

    `on_checked` gets the results of the checks before anything starts, `on_note` a line for runs
    that the plan gets, and for planned ones that the study does not name. ServersError with all
    problems of all servers, ConfigChangedError where the study changes a planned run of the output
    folder or the bucket: then no worker starts.
    """
    refuse_other_plans(plan, request)
    on_checked(check_servers(request))
    write_submission(plan, request, on_note)
    return start_servers(request)


def refuse_other_plans(plan: Plan, request: ServerRequest) -> None:
    """ConfigChangedError where the output folder, or the bucket, plans a run differently."""
    existing_plan(request.output, plan.sweep, plan.asked)
    if request.claims:
        check_before_training(request.claims, plan.sweep)


def write_submission(plan: Plan, request: ServerRequest, on_note: OnNote = ignore_note) -> None:
    """Freeze the plan; record the submission and the runs of each server.

    Without a shared folder the plan also goes into the bucket, where the servers fetch it.
    """
    sweep = freeze(request.output, plan.sweep, plan.asked, on_note)
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

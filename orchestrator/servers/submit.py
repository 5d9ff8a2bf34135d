"""Workers on servers: started there so that they outlive the connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import UsageError
from merge.records.sweep import Sweep
from merge.storage.atomic import write_atomic
from merge.storage.json_files import write_json_exclusive
from merge.storage.paths import SweepPaths
from orchestrator.bucket_claims.plan import agree_on_plan_at
from orchestrator.plan.freeze import freeze
from orchestrator.servers.checks import Checked, check_servers
from orchestrator.servers.request import Part, ServerRequest
from orchestrator.servers.scripts import start_script
from orchestrator.servers.ssh import Answer, ask, in_parallel
from orchestrator.sync.plan import refuse_wrong_place

_START_TIMEOUT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """What became of starting a worker."""

    server: str
    pid: int | None = None
    """Its process id on the server; None where it is not known to run."""
    problem: str = ""


def submit(
    sweep: Sweep, request: ServerRequest, on_checked: Callable[[Sequence[Checked]], None]
) -> list[Started]:
    """Check all servers of `request`, freeze the plan, start a worker on each; return at once.

    `on_checked` is told what was found before anything starts. ServersError with all problems of
    all servers, ConfigChangedError where the output folder or the bucket holds another plan:
    nothing is started then.
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
        refuse_wrong_place(request.claims, sweep)


def write_submission(sweep: Sweep, request: ServerRequest) -> None:
    """Freeze the plan; record what is about to be started, and what each server is given.

    Servers that share no folder fetch the plan from the bucket.
    """
    freeze(request.output, sweep)
    if request.claims:
        agree_on_plan_at(request.claims, request.output, sweep)
    for part in request.parts:
        name = part.server.name
        _write(request.paths.runs(name), "".join(f"{run.run_id}\n" for run in part.runs))
        _write(request.paths.log(name), "")
    request.paths.workers.mkdir(parents=True, exist_ok=True)
    if not write_json_exclusive(request.paths.record, request.to_json()):
        raise UsageError(f"{request.paths.record} is there already: submit once more")


def start_servers(request: ServerRequest) -> list[Started]:
    """Start a worker on every server of a recorded submission, all at once."""

    def start(part: Part) -> Started:
        script = start_script(request, part)
        answer = ask(request.reach(part.server), lambda _: script, _START_TIMEOUT_S)
        return _started(part.server.name, answer)

    return in_parallel(start, request.parts)


def _write(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode()))


def _started(name: str, answer: Answer) -> Started:
    for line in answer.told:
        word, _, rest = line.partition(" ")
        if word == "started" and rest.isdigit():
            return Started(server=name, pid=int(rest))
        if word == "problem":
            return Started(server=name, problem=rest)
    trouble = answer.trouble or "it gave no answer"
    return Started(server=name, problem=f"{trouble}; whether a worker runs there is not known")

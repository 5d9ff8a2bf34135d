"""Workers on servers: started there so that they outlive the connection."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from merge.errors import UsageError
from merge.files import write_atomic, write_json_exclusive
from merge.paths import SweepPaths
from merge.sweep import Sweep
from orchestrator.freeze import freeze
from orchestrator.server_checks import Checked, check_servers
from orchestrator.server_request import Part, ServerRequest, start_script
from orchestrator.ssh import Answer, ask, in_parallel

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
    all servers, ConfigChangedError where the output folder holds another plan: nothing is started
    then.
    """
    if SweepPaths(request.output).sweep.exists():
        freeze(request.output, sweep)
    on_checked(check_servers(request))
    freeze(request.output, sweep)
    write_submission(request)
    return start_servers(request)


def write_submission(request: ServerRequest) -> None:
    """Record what is about to be started, and what each server is given."""
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

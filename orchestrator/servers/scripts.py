"""The shell scripts that probe a server and start its worker. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merge.storage.paths import SweepPaths
from orchestrator.config.shell import quote
from orchestrator.machine.own_modules import module_words, source_root
from orchestrator.servers.hosts_file import Server
from orchestrator.servers.needs import needs_of
from orchestrator.servers.probe_protocol import ProbeRequest
from orchestrator.servers.request import ServerAssignment, ServerRequest
from orchestrator.servers.ssh import wrapped

_START_TIMEOUT_S = 60


def probe_request(
    request: ServerRequest, assignment: ServerAssignment, nonce: str
) -> Callable[[str], ProbeRequest]:
    """What a server is to check before anything starts, as a function of the mark of its result."""
    server = assignment.server
    resources: dict[str, dict[str, Any]] = {}
    for run in assignment.runs:
        resources.setdefault(str(run.resources), {"run_id": run.run_id, **asdict(run.resources)})
    command = assignment.runs[0].command
    needs = needs_of([run for run in assignment.runs if run.run_id in request.to_check])
    return lambda mark: ProbeRequest(
        mark=mark,
        output=str(request.output_on(server)),
        probe=SweepPaths(request.output).probe(request.name).name,
        claims=request.claims.to_json() if request.claims else None,
        nonce=nonce,
        server=server.name,
        command=list(command) if command else None,
        experiment=assignment.runs[0].experiment,
        code_files=None if request.code_files is None else list(request.code_files),
        needs=list(resources.values()),
        devices=server.devices,
        allow_busy=server.allow_busy,
        data_root=server.data_root,
        cache_dir=server.cache_dir,
        weights=server.weights,
        min_free_gb=request.fleet.min_free_gb,
        share_timeout_s=request.fleet.share_timeout_s,
        run_needs=needs,
    )


def probe_script(
    request: ServerRequest, assignment: ServerAssignment, nonce: str
) -> Callable[[str], str]:
    """The lines of bash that run the checks on a server, as a function of the mark."""
    to_check = probe_request(request, assignment, nonce)
    server = assignment.server

    def script(mark: str) -> str:
        module = _module(request, server, "orchestrator.servers.probe")
        words = [*module, to_check(mark).to_text()]
        return "\n".join(
            [*_preamble(request, server), *_shared_folder(request, server), quote(words)]
        )

    return script


def worker_words(request: ServerRequest, assignment: ServerAssignment) -> list[str]:
    """The command of the worker on a server."""
    server = assignment.server
    paths = request.paths_on(server)
    words = [*_module(request, server, "replicate"), "work", str(request.output_on(server))]
    words += ["--runs", str(paths.runs(server.name))]
    words += ["--worker-record", str(paths.worker(server.name))]
    options = {
        "--devices": server.devices,
        "--data-root": server.data_root,
        "--cache-dir": server.cache_dir,
        "--weights": server.weights,
        "--snapshot": request.snapshot,
        "--gpus-in-use": "use" if server.allow_busy else None,
    }
    for flag, value in options.items():
        words += [flag, value] if value is not None else []
    return [*words, *request.words]


def start_script(request: ServerRequest, assignment: ServerAssignment) -> str:
    """The lines of bash that start a worker which outlives the connection.

    They report `started PID` as soon as the worker has written its record, or `problem TEXT`.
    """
    paths = request.paths_on(assignment.server)
    log_path = paths.log(assignment.server.name)
    log = quote([str(log_path)])
    return "\n".join(
        [
            *_preamble(request, assignment.server),
            *_shared_folder(request, assignment.server),
            *_own_folder(request, assignment),
            # A session of its own, no open descriptor of the connection: sshd ends the call only
            # when the last process that holds its stdout or stderr has closed them.
            f"setsid nohup {quote(worker_words(request, assignment))} </dev/null >>{log} 2>&1 &",
            "worker=$!",
            *_wait_for_record(log_path, paths.worker(assignment.server.name)),
        ]
    )


def _wait_for_record(log_path: Path, record_path: Path) -> list[str]:
    """Lines that report the first record of `$worker`, or kill it and fail after a minute."""
    log, record = quote([str(log_path)]), quote([str(record_path)])
    return [
        f"for _ in $(seq {_START_TIMEOUT_S * 10}); do",
        f'  if [ -s {record} ]; then report "started $worker"; exit 0; fi',
        "  if ! kill -0 $worker 2>/dev/null; then",
        f"    report \"problem it ended at once: $(tail -n 3 {log} | tr '\\n' ' ')\"",
        "    exit 81",
        "  fi",
        "  sleep 0.1",
        "done",
        # A late start would be a worker that the submission does not know.
        "kill -KILL -- -$worker",
        _fail(f"it wrote no record within {_START_TIMEOUT_S} s: see {log_path}"),
    ]


def command_text(request: ServerRequest, assignment: ServerAssignment) -> str:
    """The command that starts a worker by hand, for a terminal here."""
    # The name is random: no line of the script equals this word and ends the text early.
    end = f"END-{request.name}"
    ssh = quote(request.ssh_target(assignment.server).command())
    script = wrapped(start_script(request, assignment), "papergrid:")
    return f"{ssh} <<'{end}'\n{script}{end}\n"


def _preamble(request: ServerRequest, server: Server) -> list[str]:
    output = str(request.output_on(server))
    # With a snapshot attempts start in the copy: the folder of this machine need not exist there.
    workdir = server.workdir or (output if request.snapshot else str(request.workdir))
    python = _python(server)
    lines = [
        'fail() { report "problem $1"; exit 81; }',
        f"cd -- {quote([workdir])} || "
        + _fail(f"no folder {workdir} to work in: name it with `workdir:`"),
        *(f"export {name}={quote([value])}" for name, value in server.environment.items()),
    ]
    if "/" in python:
        lines.append(f'export PATH={quote([str(Path(python).parent)])}:"$PATH"')
    # Not `set -e`: lines such as `source` and `module load` would change what it applies to.
    for line in server.setup:
        lines += [line, "[ $? = 0 ] || " + _fail(f"its setup line failed: {line}")]
    lines.append(
        f"command -v {quote([python])} >/dev/null || "
        + _fail(f"no program {python}: name the Python of its environment with `python:`")
    )
    return lines


def _shared_folder(request: ServerRequest, server: Server) -> list[str]:
    """Lines that fail where the shared output folder does not exist."""
    if request.claims:
        return []
    output = str(request.output_on(server))
    return [
        f"[ -d {quote([output])} ] || "
        + _fail(f"no output folder {output}: mount it, or name it with `output:`")
    ]


def _own_folder(request: ServerRequest, assignment: ServerAssignment) -> list[str]:
    """Lines that create the output folder and the list of runs, where servers share no folder."""
    if not request.claims:
        return []
    paths, name = request.paths_on(assignment.server), assignment.server.name
    folders = [str(paths.runs(name).parent), str(paths.workers), str(paths.logs)]
    cannot = _fail(
        f"no permission to write to {request.output_on(assignment.server)}: correct `output:`"
    )
    ids = quote(run.run_id for run in assignment.runs)
    return [
        f"mkdir -p {quote(folders)} || {cannot}",
        f"printf '%s\\n' {ids} >{quote([str(paths.runs(name))])} || {cannot}",
    ]


def _fail(text: str) -> str:
    return f"fail {quote([' '.join(text.split())])}"


def _module(request: ServerRequest, server: Server, module: str) -> tuple[str, ...]:
    """The command that runs one of papergrid's modules on a server."""
    if request.snapshot:
        paths = SweepPaths(request.output_on(server)).snapshot(request.snapshot)
        return module_words(_python(server), paths.papergrid, module)
    # Without `python:` the server uses the Python of this machine, under the same path on a shared
    # home folder, and so must also find the packages under the same path.
    is_ours = server.python is None and "PYTHONPATH" not in server.environment
    return module_words(_python(server), source_root() if is_ours else None, module)


def _python(server: Server) -> str:
    return server.python or sys.executable

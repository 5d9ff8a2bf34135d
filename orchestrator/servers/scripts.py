"""The shell scripts that probe a server and start its worker. Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from merge.storage.paths import SweepPaths
from orchestrator.config.shell import quote
from orchestrator.machine.own_modules import module_words, source_root
from orchestrator.servers.hosts_file import Server
from orchestrator.servers.probe import Question
from orchestrator.servers.request import Part, ServerRequest
from orchestrator.servers.ssh import wrapped

_START_PATIENCE_S = 60


def question(request: ServerRequest, part: Part, nonce: str) -> Callable[[str], Question]:
    """What a server is asked before anything starts, given the mark of its answer."""
    server = part.server
    needs: dict[str, dict[str, Any]] = {}
    for run in part.runs:
        needs.setdefault(str(run.resources), {"run_id": run.run_id, **asdict(run.resources)})
    return lambda mark: Question(
        mark=mark,
        output=str(request.output_on(server)),
        probe=SweepPaths(request.output).probe(request.name).name,
        claims=request.claims.to_json() if request.claims else None,
        nonce=nonce,
        server=server.name,
        command=list(part.runs[0].command) if part.runs[0].command else None,
        experiment=part.runs[0].experiment,
        needs=list(needs.values()),
        devices=server.devices,
        allow_busy=server.allow_busy,
        data_root=server.data_root,
        cache_dir=server.cache_dir,
        weights=server.weights,
        min_free_gb=request.fleet.min_free_gb,
        share_timeout_s=request.fleet.share_timeout_s,
    )


def probe_script(request: ServerRequest, part: Part, nonce: str) -> Callable[[str], str]:
    """The lines of bash that have a server answer its `question`."""
    ask = question(request, part, nonce)

    def script(mark: str) -> str:
        asked = json.dumps(asdict(ask(mark)))
        words = [*_module(request, part.server, "orchestrator.servers.probe"), asked]
        return "\n".join(
            [*_preamble(request, part.server), *_shared_folder(request, part.server), quote(words)]
        )

    return script


def worker_words(request: ServerRequest, part: Part) -> list[str]:
    """The command of the worker on a server."""
    server, paths = part.server, request.paths_on(part.server)
    words = [*_module(request, server, "replicate"), "work", str(request.output_on(server))]
    words += ["--runs", str(paths.runs(server.name))]
    words += ["--beacon", str(paths.worker(server.name))]
    options = {
        "--devices": server.devices,
        "--data-root": server.data_root,
        "--cache-dir": server.cache_dir,
        "--weights": server.weights,
        "--snapshot": request.snapshot,
    }
    for flag, value in options.items():
        words += [flag, value] if value is not None else []
    return [*words, *request.words]


def start_script(request: ServerRequest, part: Part) -> str:
    """The lines of bash that start a worker which outlives the connection.

    They tell `started PID` as soon as the worker has written its record, or `problem TEXT`.
    """
    paths = request.paths_on(part.server)
    log_path = paths.log(part.server.name)
    log, record = quote([str(log_path)]), quote([str(paths.worker(part.server.name))])
    return "\n".join(
        [
            *_preamble(request, part.server),
            *_shared_folder(request, part.server),
            *_own_folder(request, part),
            f"setsid nohup {quote(worker_words(request, part))} </dev/null >>{log} 2>&1 &",
            "worker=$!",
            f"for _ in $(seq {_START_PATIENCE_S * 10}); do",
            f'  if [ -s {record} ]; then tell "started $worker"; exit 0; fi',
            "  if ! kill -0 $worker 2>/dev/null; then",
            f"    tell \"problem it ended at once: $(tail -n 3 {log} | tr '\\n' ' ')\"",
            "    exit 81",
            "  fi",
            "  sleep 0.1",
            "done",
            "kill -KILL -- -$worker",
            _fail(f"it gave no sign of life in {_START_PATIENCE_S} s: see {log_path}"),
        ]
    )


def command_text(request: ServerRequest, part: Part) -> str:
    """The command that starts a worker by hand, for a terminal here."""
    # No line of the script can equal a word that nobody knew before.
    end = f"END-{request.name}"
    ssh = quote(request.reach(part.server).words())
    script = wrapped(start_script(request, part), "papergrid:")
    return f"{ssh} <<'{end}'\n{script}{end}\n"


def _preamble(request: ServerRequest, server: Server) -> list[str]:
    output = str(request.output_on(server))
    # Attempts on frozen code are started in the copy: the folder of here need not be there.
    workdir = server.workdir or (output if request.snapshot else str(request.workdir))
    python = _python(server)
    lines = [
        'fail() { tell "problem $1"; exit 81; }',
        f"cd -- {quote([workdir])} || "
        + _fail(f"no folder {workdir} to work in: name it by `workdir:`"),
        *(f"export {name}={quote([value])}" for name, value in server.environment.items()),
    ]
    if "/" in python:
        lines.append(f'export PATH={quote([str(Path(python).parent)])}:"$PATH"')
    for line in server.setup:
        lines += [line, "[ $? = 0 ] || " + _fail(f"its setup line failed: {line}")]
    lines.append(
        f"command -v {quote([python])} >/dev/null || "
        + _fail(f"no program {python}: name the Python of its environment by `python:`")
    )
    return lines


def _shared_folder(request: ServerRequest, server: Server) -> list[str]:
    """Lines that fail where the output folder, which is to be shared, is not there."""
    if request.claims:
        return []
    output = str(request.output_on(server))
    return [
        f"[ -d {quote([output])} ] || "
        + _fail(f"no output folder {output}: mount it, or name it by `output:`")
    ]


def _own_folder(request: ServerRequest, part: Part) -> list[str]:
    """Lines that make the output folder, where it is the server's own, with what it was given."""
    if not request.claims:
        return []
    paths, name = request.paths_on(part.server), part.server.name
    folders = [str(paths.runs(name).parent), str(paths.workers), str(paths.logs)]
    cannot = _fail(f"{request.output_on(part.server)} cannot be written to: correct `output:`")
    ids = quote(run.run_id for run in part.runs)
    return [
        f"mkdir -p {quote(folders)} || {cannot}",
        f"printf '%s\\n' {ids} >{quote([str(paths.runs(name))])} || {cannot}",
    ]


def _fail(text: str) -> str:
    return f"fail {quote([' '.join(text.split())])}"


def _module(request: ServerRequest, server: Server, module: str) -> tuple[str, ...]:
    """The command that runs one of our modules on a server."""
    if request.snapshot:
        paths = SweepPaths(request.output_on(server)).snapshot(request.snapshot)
        return module_words(_python(server), paths.papergrid, module)
    # The Python of here finds our packages as here: under the same path on a shared folder.
    is_ours = server.python is None and "PYTHONPATH" not in server.environment
    return module_words(_python(server), source_root() if is_ours else None, module)


def _python(server: Server) -> str:
    return server.python or sys.executable

"""`replicate submit --servers`: a detached worker on each server of a hosts file."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from merge.errors import UsageError
from merge.records.submissions import new_submission_id
from orchestrator.plan.plan import Plan
from replicate import api
from replicate.cli import arguments as flags
from replicate.cli.next_steps import status_command
from replicate.cli.preflight import refuse_changed_runs, unfinished
from replicate.cli.s3_arguments import sync_target, sync_words
from replicate.cli.this_machine import frozen_code, on_this_machine, print_note
from replicate.cli.verbs import plan as plan_verb
from replicate.views.columns import align

if TYPE_CHECKING:
    from merge.records.sweep import Run
    from orchestrator.servers.checks import CheckedServer
    from orchestrator.servers.hosts_file import Fleet, Server
    from orchestrator.servers.request import ServerAssignment, ServerRequest
    from orchestrator.servers.submit import StartResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that only `--servers` has."""
    group = parser.add_argument_group("servers (with --servers; docs/servers.md)")
    group.add_argument(
        "--hosts", metavar="NAME,NAME", help="only these servers of the file (default: all)"
    )
    group.add_argument(
        "--print-commands",
        action="store_true",
        help="write the plan and print the commands that start the workers, for starting by hand",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Start a worker on each server: 0 all are started, 1 some are not."""
    from orchestrator.servers.submit import submit

    planned, request = _plan_and_request(arguments)
    if arguments.dry_run:
        api.check_plan(planned, request.output, print_note)
        print(_commands(request), end="")
        return 0
    if arguments.print_commands:
        return _print_commands(planned, request)
    started = submit(planned, request, _print_notes, print_note)
    if arguments.json:
        print(json.dumps(_document(request, started), indent=1, ensure_ascii=False))
    else:
        output = flags.output_folder(arguments)
        status = status_command(output, arguments)
        print("\n".join(_lines(request, started, output, status)))
    for each in started:
        if each.problem:
            print(f"replicate: {each.server}: not started: {each.problem}", file=sys.stderr)
    return 1 if any(each.problem for each in started) else 0


def _plan_and_request(arguments: argparse.Namespace) -> tuple[Plan, ServerRequest]:
    from orchestrator.servers.hosts_file import read_hosts
    from orchestrator.servers.request import ServerRequest

    _check_snapshot(arguments)
    fleet = _chosen(read_hosts(arguments.servers), arguments)
    planned = on_this_machine(plan_verb.plan_of(arguments), arguments)
    # The same path is used on the servers, where a relative one would start at another folder.
    output = flags.output_folder(arguments).absolute()
    refuse_changed_runs(planned, output)
    request = ServerRequest(
        name=new_submission_id(time.time()),
        output=output,
        workdir=Path.cwd(),
        fleet=fleet,
        assignments=_assignments(planned, fleet, arguments),
        words=_words(arguments),
        snapshot=frozen_code(planned, output, arguments),
        claims=sync_target(arguments) if arguments.claims else None,
        code_files=planned.sweep.code_files,
        to_check=frozenset(run.run_id for run in _checked(planned, output, arguments)),
    )
    return planned, request


def _checked(planned: Plan, output: Path, arguments: argparse.Namespace) -> list[Run]:
    """The runs for which servers look for packages, weights and data."""
    from orchestrator.studies.experiment import is_folder

    if not arguments.check:
        return []
    return [
        run
        for run in unfinished(planned, output)
        # A command has no check of its own. Of an experiment elsewhere the probe would look into
        # the checkout, where `--snapshot` needs none.
        if run.experiment and not (arguments.snapshot and is_folder(run.experiment))
    ]


def _check_snapshot(arguments: argparse.Namespace) -> None:
    if arguments.claims and arguments.snapshot:
        raise UsageError(
            "--snapshot copies the code into the output folder, which servers with --claims do not "
            "share: leave it out; servers are checked to have the same code as this machine"
        )


def _assignments(
    planned: Plan, fleet: Fleet, arguments: argparse.Namespace
) -> tuple[ServerAssignment, ...]:
    """Which runs each server gets; with the resources that the flags give them."""
    from orchestrator.servers.request import assign_runs

    by_id = {run.run_id: run for run in planned.runs}
    shards = [
        replace(shard, runs=tuple(by_id[run.run_id] for run in shard.runs))
        for shard in planned.shards
    ]
    # One shard of many is a selection: all servers share it by claims.
    by_shard = bool(arguments.shard_by) and not arguments.shard
    return tuple(assign_runs(fleet.servers, shards, by_shard=by_shard))


def _chosen(fleet: Fleet, arguments: argparse.Namespace) -> Fleet:
    """The selected servers, with the values of flags where the file gives none."""
    from merge.wording import hint

    names = [server.name for server in fleet.servers]
    wanted = [name.strip() for name in arguments.hosts.split(",")] if arguments.hosts else names
    for name in wanted:
        if name not in names:
            raise UsageError(
                f"--hosts: {arguments.servers} has no host {name!r}{hint(name, names)}"
            )
    servers = tuple(
        _with_flags(server, arguments) for server in fleet.servers if server.name in wanted
    )
    return replace(fleet, servers=servers)


def _with_flags(server: Server, arguments: argparse.Namespace) -> Server:
    def absolute(path: Path | None) -> str | None:
        return None if path is None else str(path.absolute())

    return replace(
        server,
        # The hosts file knows its host; flags are for hosts that it says nothing about.
        devices=server.devices or arguments.devices,
        data_root=server.data_root or absolute(arguments.data_root),
        cache_dir=server.cache_dir or absolute(arguments.cache_dir),
        weights=server.weights or absolute(arguments.weights),
    )


def _words(arguments: argparse.Namespace) -> tuple[str, ...]:
    options = {
        "--devices-per-run": arguments.devices_per_run,
        "--num-workers": arguments.num_workers,
        "--grace": arguments.grace,
        "--claim-expiry": arguments.claim_expiry,
        "--max-retries": arguments.max_retries,
        "--restart-stalled": arguments.restart_stalled,
        "--runs-per-gpu": arguments.runs_per_gpu,
        "--gpus-in-use": arguments.gpus_in_use,
    }
    given = [(flag, str(value)) for flag, value in options.items() if value is not None]
    # Without --stand-by a worker would end while other workers still train, and none would be left
    # to take over the runs of one that dies later.
    words = ["--stand-by", *(["--retry-cancelled"] if arguments.retry_cancelled else [])]
    return (*words, *(word for pair in given for word in pair), *sync_words(arguments))


def _print_notes(checked: Sequence[CheckedServer]) -> None:
    for each in checked:
        for note in each.notes:
            print(f"note     {each.assignment.server.name}: {note}", file=sys.stderr)


def _print_commands(planned: Plan, request: ServerRequest) -> int:
    from orchestrator.servers.submit import refuse_other_plans, write_submission

    refuse_other_plans(planned, request)
    write_submission(planned, request, print_note)
    print(_commands(request), end="")
    return 0


def _commands(request: ServerRequest) -> str:
    from orchestrator.servers.scripts import command_text

    blocks = []
    for assignment in request.assignments:
        shards = (
            f": shards {' '.join(assignment.shards)}" if assignment.shards else ", shared by claims"
        )
        head = f"# {assignment.server.name}: {len(assignment.runs)} runs{shards}"
        blocks.append(f"{head}\n{command_text(request, assignment)}")
    return "\n".join(blocks)


def _lines(
    request: ServerRequest, started: Sequence[StartResult], output: Path, next_step: str
) -> list[str]:
    rows = [["server", "runs", "process", "log"]]
    for assignment, each in zip(request.assignments, started, strict=True):
        pid = "not started" if each.pid is None else str(each.pid)
        rows.append(
            [each.server, str(len(assignment.runs)), pid, _log(request, assignment, output)]
        )
    num_runs = len({run.run_id for assignment in request.assignments for run in assignment.runs})
    sharing = "each its shards" if request.assignments[0].shards else "sharing them by claims"
    place = f" in {request.claims.url}" if request.claims else ""
    return [
        f"{num_runs} runs on {len(request.assignments)} servers, {sharing}{place}: "
        f"submission {request.name}",
        "",
        *align(rows, left=4),
        "",
        f"next            {next_step}",
    ]


def _log(request: ServerRequest, assignment: ServerAssignment, output: Path) -> str:
    """The path of the worker's log, as seen from this machine."""
    name = assignment.server.name
    if request.claims:
        return f"{name}:{request.paths_on(assignment.server).log(name)}"
    return str(output / request.paths.log(name).relative_to(request.output))


def _document(request: ServerRequest, started: Sequence[StartResult]) -> dict[str, object]:
    document = request.to_json()
    for server, assignment, each in zip(
        document["servers"], request.assignments, started, strict=True
    ):
        log = _log(request, assignment, request.output)
        server |= {"pid": each.pid, "problem": each.problem or None, "log": log}
    return document

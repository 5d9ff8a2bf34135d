"""Checks of servers before anything starts: all in parallel, all problems in one error."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from merge.errors import PapergridError, ServersAwayError, ServersError
from merge.storage.atomic import write_bytes
from merge.storage.clock import SYSTEM_CLOCK, Clock
from merge.storage.disk import discard_tree
from merge.storage.paths import SweepPaths
from orchestrator.plan.code_version import code_version
from orchestrator.s3.bucket import Bucket
from orchestrator.servers.probe import wait_for_content
from orchestrator.servers.probe_protocol import ProbeResult, result_from_text
from orchestrator.servers.request import ServerAssignment, ServerRequest
from orchestrator.servers.scripts import probe_script
from orchestrator.servers.ssh import SSH_FAILED, ScriptResult, in_parallel, run_script
from orchestrator.servers.versions import control_digest, package_versions

MAX_CLOCK_SKEW_S = 10.0
"""A note is printed where the clock of a server differs by more from the one here."""

_PROBE_TIMEOUT_S = 120.0
_WRONG_ACCESS = re.compile(
    r"(?i)permission denied|host key verification|could not resolve|bad configuration|bad owner"
)
"""In errors of ssh that do not pass by themselves."""
_OTHER_VERSION = (
    "it has another version of papergrid, which does not understand this check: install"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedServer:
    """A server that may be used."""

    assignment: ServerAssignment
    result: ProbeResult
    notes: tuple[str, ...]
    """Messages for the terminal that prevent nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _ProbeReply:
    assignment: ServerAssignment
    script: ScriptResult
    sent: float
    received: float
    """Both in Unix seconds by the clock here."""


def check_servers(request: ServerRequest) -> list[CheckedServer]:
    """Check on every server whether it can run its assignment.

    ServersError with every problem of every server; StorageError where the output folder cannot
    be written to, BucketError and BucketUnavailableError where the shared bucket cannot be written
    to from here. Leaves nothing behind.
    """
    nonce = secrets.token_hex(16)
    with _published_nonce(request, nonce) as folder:
        replies = in_parallel(lambda each: _probe(request, each, nonce), request.assignments)
        found = [_evaluate(request, reply, folder) for reply in replies]
    problems = [problem for _, lines in found for problem in lines]
    usable = [each for each, lines in found if each and not lines]
    shared = list(_shared_devices([each for each, _ in found if each]))
    if problems or shared:
        are_away = not shared and all(
            _is_away(reply.script)
            for reply, (_, lines) in zip(replies, found, strict=True)
            if lines
        )
        kind = ServersAwayError if are_away else ServersError
        names = () if shared else tuple(each.assignment.server.name for each in usable)
        raise kind((*problems, *shared), names)
    return _with_twins(usable)


def _is_away(script: ScriptResult) -> bool:
    """Whether there was no connection, for a reason that may pass."""
    is_unreachable = script.exit_code == SSH_FAILED and not script.lines
    return is_unreachable and not _WRONG_ACCESS.search(script.error)


def _with_twins(checked: Sequence[CheckedServer]) -> list[CheckedServer]:
    """`checked`, with a note on each server that is the same machine as one before it."""
    first: dict[tuple[str, str], str] = {}
    found = []
    for each in checked:
        name = each.assignment.server.name
        other = first.setdefault((each.result.host, each.result.boot_id), name)
        note = f"is the same machine as {other} ({each.result.host}): their runs share it"
        found.append(replace(each, notes=(*each.notes, note)) if other != name else each)
    return found


@contextmanager
def _published_nonce(request: ServerRequest, nonce: str) -> Iterator[Path]:
    """`nonce` where all servers must see it: in the yielded folder, or in their bucket."""
    folder = SweepPaths(request.output).probe(request.name)
    if request.claims is None:
        write_bytes(folder / "here", nonce.encode())
        try:
            yield folder
        finally:
            discard_tree(folder)
        return
    bucket = Bucket(request.claims)
    bucket.put(folder.name, nonce.encode())
    try:
        yield folder
    finally:
        # This is the only object that papergrid deletes: credentials may lack the right to do so.
        with suppress(PapergridError):
            bucket.delete(folder.name)


def _probe(
    request: ServerRequest,
    assignment: ServerAssignment,
    nonce: str,
    clock: Clock = SYSTEM_CLOCK,
) -> _ProbeReply:
    sent = clock.now()
    timeout_s = _PROBE_TIMEOUT_S + request.fleet.connect_timeout_s + request.fleet.share_timeout_s
    script = run_script(
        request.ssh_target(assignment.server), probe_script(request, assignment, nonce), timeout_s
    )
    return _ProbeReply(assignment=assignment, script=script, sent=sent, received=clock.now())


def _evaluate(
    request: ServerRequest, reply: _ProbeReply, folder: Path
) -> tuple[CheckedServer | None, list[str]]:
    server = reply.assignment.server
    result = _result(reply.script)
    if result is None:
        return None, [f"{server.name}: {_why_no_result(reply)}"]
    problems = [*result.problems, *_code_problems(request, reply.assignment, result)]
    if result.nonce:
        seen = wait_for_content(folder / server.name, request.fleet.share_timeout_s)
        if seen is None or seen.decode("utf-8", "replace") != result.nonce:
            problems.append(
                f"a file that it writes into {request.output_on(server)} does not appear "
                f"in {request.output} here: the folders are not the same"
            )
    notes = (*result.notes, *_clock_notes(reply, result), *_package_notes(result))
    checked = CheckedServer(assignment=reply.assignment, result=result, notes=notes)
    return checked, [f"{server.name}: {problem}" for problem in problems]


def _result(script: ScriptResult) -> ProbeResult | None:
    results = (result_from_text(line) for line in script.lines if line.startswith("{"))
    return next(results, None)


def _why_no_result(reply: _ProbeReply) -> str:
    for line in reply.script.lines:
        if line.startswith("problem "):
            return line.removeprefix("problem ")
        if line.startswith("{"):
            return f"{_OTHER_VERSION} the version of here"
    error = reply.script.error
    if "No module named" in error:
        return (
            f"this papergrid cannot be imported there ({error}): install the same version for "
            f"its `python:`, or name a checkout by `environment: {{PYTHONPATH: ...}}`"
        )
    if "unexpected keyword argument" in error or "required keyword-only argument" in error:
        return f"{_OTHER_VERSION} the version of here ({error})"
    if error.startswith("cannot be reached"):
        return f"{error}; try `ssh {reply.assignment.server.ssh} true` by hand (without a password)"
    return error or "it gave no answer"


def _clock_notes(reply: _ProbeReply, result: ProbeResult) -> Iterator[str]:
    # The server read its clock at some moment between the two readings here: only what lies
    # outside of this interval is certainly a difference.
    ahead_s = max(result.now - reply.received, 0) or min(result.now - reply.sent, 0)
    if abs(ahead_s) > MAX_CLOCK_SKEW_S:
        direction = "ahead of" if ahead_s > 0 else "behind"
        yield (
            f"its clock is {abs(ahead_s):.0f} s {direction} the one here: times in its logs and "
            f"records differ by as much; ages in `status` and results do not"
        )


def _code_problems(
    request: ServerRequest, assignment: ServerAssignment, result: ProbeResult
) -> Iterator[str]:
    command = assignment.runs[0].command
    here = code_version(assignment.runs[0], named=request.code_files)
    if (here["version"], control_digest()) != (result.version, result.control):
        yield (
            f"another papergrid: {result.version} ({result.control}) there, {here['version']} "
            f"({control_digest()}) here; install the same version"
        )
    elif here["source"] != result.source and request.snapshot is None:
        what = "the files of the study's command" if command else "the experiment's files"
        yield (
            f"other code: {what} are {result.source} there and {here['source']} here; update the "
            f"checkout there, or submit with --snapshot"
        )


def _package_notes(result: ProbeResult) -> Iterator[str]:
    here = package_versions()
    for name in sorted(here.keys() | result.packages.keys()):
        if here.get(name) != result.packages.get(name):
            yield f"{name} is {result.packages.get(name)} there and {here.get(name)} here"


def _shared_devices(checked: Sequence[CheckedServer]) -> Iterator[str]:
    """Two names of one machine may not use the same GPU."""
    first: dict[tuple[str, str, str], str] = {}
    for each in checked:
        if each.result.kind != "cuda":
            continue
        for slot in each.result.slots:
            name = each.assignment.server.name
            other = first.setdefault((each.result.host, each.result.boot_id, slot), name)
            if other != name:
                yield (
                    f"{name}: is the same machine as {other} and would use the same GPU {slot}: "
                    f"name the machine once, or divide its GPUs with `devices:`"
                )

"""Checks of servers before anything starts: all at once, all problems of all in one error."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from merge.errors import PapergridError, ServersError
from merge.storage.atomic import write_atomic
from merge.storage.paths import SweepPaths
from orchestrator.plan.code_version import code_version
from orchestrator.s3.bucket import Bucket
from orchestrator.servers.probe import Facts, control_digest, open_patiently, package_versions
from orchestrator.servers.request import Part, ServerRequest
from orchestrator.servers.scripts import probe_script
from orchestrator.servers.ssh import Answer, ask, in_parallel

MOST_SKEW_S = 10.0
"""By how much a server's clock may differ from the one here before a person is told."""

_PROBE_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A server that may be used, and what a person should know of it."""

    part: Part
    facts: Facts
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    part: Part
    answer: Answer
    asked: float
    answered: float


def check_servers(request: ServerRequest) -> list[Checked]:
    """Ask every server whether it can do its part.

    ServersError with every problem of every server; StorageError where the output folder cannot
    be written to, BucketError and BucketUnavailableError where the bucket they are to share cannot
    be written to from here. Leaves nothing behind.
    """
    nonce = secrets.token_hex(16)
    with _meeting(request, nonce) as folder:
        replies = in_parallel(lambda part: _ask(request, part, nonce), request.parts)
        found = [_judged(request, reply, folder) for reply in replies]
    problems = [problem for _, lines in found for problem in lines]
    checked = [each for each, _ in found if each]
    problems += _shared_machines(checked)
    if problems:
        raise ServersError(tuple(problems))
    return checked


@contextmanager
def _meeting(request: ServerRequest, nonce: str) -> Iterator[Path]:
    """`nonce` where all servers must see it: in the folder this yields, or in their bucket."""
    folder = SweepPaths(request.output).probe(request.name)
    if request.claims is None:
        write_atomic(folder / "here", lambda file: file.write(nonce.encode()))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    bucket = Bucket(request.claims)
    bucket.put(folder.name, nonce.encode())
    try:
        yield folder
    finally:
        # Nothing but probes is ever deleted there: the right to do so is not needed.
        with suppress(PapergridError):
            bucket.delete(folder.name)


def _ask(request: ServerRequest, part: Part, nonce: str) -> _Reply:
    asked = time.time()
    patience_s = _PROBE_TIMEOUT_S + request.fleet.connect_timeout_s + request.fleet.share_timeout_s
    answer = ask(request.reach(part.server), probe_script(request, part, nonce), patience_s)
    return _Reply(part=part, answer=answer, asked=asked, answered=time.time())


def _judged(
    request: ServerRequest, reply: _Reply, folder: Path
) -> tuple[Checked | None, list[str]]:
    name = reply.part.server.name
    facts = _facts(reply.answer)
    if facts is None:
        return None, [f"{name}: {_why_no_facts(reply)}"]
    problems = [*facts.problems, *_code(request, reply.part, facts)]
    if facts.nonce:
        seen = open_patiently(folder / name, request.fleet.share_timeout_s)
        if seen is None or seen.decode("utf-8", "replace") != facts.nonce:
            problems.append(
                f"what it writes into {request.output_on(reply.part.server)} does not appear "
                f"in {request.output} here: the folders are not the same"
            )
    notes = (*facts.notes, *_clock(reply, facts), *_packages(facts))
    return Checked(part=reply.part, facts=facts, notes=notes), [f"{name}: {p}" for p in problems]


def _facts(answer: Answer) -> Facts | None:
    for line in answer.told:
        if line.startswith("{"):
            return Facts(**json.loads(line))
    return None


def _why_no_facts(reply: _Reply) -> str:
    for line in reply.answer.told:
        if line.startswith("problem "):
            return line.removeprefix("problem ")
    trouble = reply.answer.trouble
    if "No module named" in trouble:
        return (
            f"this papergrid cannot be imported there ({trouble}): install the same version for "
            f"its `python:`, or name a checkout by `environment: {{PYTHONPATH: ...}}`"
        )
    if trouble.startswith("cannot be reached"):
        return f"{trouble}; try `ssh {reply.part.server.ssh} true` by hand (no password is asked)"
    return trouble or "it gave no answer"


def _clock(reply: _Reply, facts: Facts) -> Iterator[str]:
    ahead_s = max(facts.now - reply.answered, 0) or min(facts.now - reply.asked, 0)
    if abs(ahead_s) > MOST_SKEW_S:
        way = "ahead of" if ahead_s > 0 else "behind"
        yield (
            f"its clock is {abs(ahead_s):.0f} s {way} the one here: ages in `status` are wrong by "
            f"as much, results are not"
        )


def _code(request: ServerRequest, part: Part, facts: Facts) -> Iterator[str]:
    here = code_version(part.runs[0])
    if (here["version"], control_digest()) != (facts.version, facts.control):
        yield (
            f"another papergrid: {facts.version} ({facts.control}) there, {here['version']} "
            f"({control_digest()}) here; bring it to the same version"
        )
    elif here["source"] != facts.source and request.snapshot is None:
        what = "the files of the study's command" if part.runs[0].command else "the trainers"
        yield (
            f"other code: {what} are {facts.source} there and {here['source']} here; update the "
            f"checkout there, or submit with --snapshot"
        )


def _packages(facts: Facts) -> Iterator[str]:
    here = package_versions()
    for name in sorted(here.keys() | facts.packages.keys()):
        if here.get(name) != facts.packages.get(name):
            yield f"{name} is {facts.packages.get(name)} there and {here.get(name)} here"


def _shared_machines(checked: Sequence[Checked]) -> Iterator[str]:
    """Names that are one machine may not use the same devices."""
    first: dict[tuple[str, str, str], str] = {}
    for each in checked:
        if each.facts.kind != "cuda":
            continue
        for slot in each.facts.slots:
            name = each.part.server.name
            other = first.setdefault((each.facts.host, each.facts.boot_id, slot), name)
            if other != name:
                yield (
                    f"{name}: is the same machine as {other} and would use its GPU {slot}: name it "
                    f"once, or divide its `devices:`"
                )

"""What the runs of a server need there: chosen here for the request, looked for on the server.

The request is one argument of a command, which Linux limits to 128 KiB: of a large grid some
configurations stand for the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from merge.records.sweep import Run
from orchestrator.machine.cache_folder import cache_folder
from orchestrator.preflight import Places, find_problems
from orchestrator.servers.probe_protocol import Needs, ProbeRequest

LARGEST_BYTES = 100_000
"""Of the configurations in a request; the rest of it has a few thousand."""
_LIMIT_S = 60.0
"""A probe as a whole may take two minutes."""


def needs_of(runs: Sequence[Run], largest: int = LARGEST_BYTES) -> Needs | None:
    """What is to be looked for on behalf of `runs`, which are of one study; None where there are
    none.

    If not all configurations fit, first those that bring a value which none before them has.
    """
    configs = list({run.config_hash: run.config for run in runs}.values())
    if not configs:
        return None
    shared = {key: value for key, value in configs[0].items() if _have_all(configs, key, value)}
    own = [{key: c[key] for key in c if key not in shared} for c in configs]
    room = largest - len(json.dumps(shared))
    chosen = []
    for config in _with_new_values_first(own):
        room -= len(json.dumps(config)) + len(", ")
        if room < 0:
            break
        chosen.append(config)
    return Needs(shared=shared, own=chosen, num_configs=len(configs))


def _have_all(configs: Sequence[Mapping[str, Any]], key: str, value: object) -> bool:
    return all(key in config and _is_same(config[key], value) for config in configs)


def _is_same(one: object, other: object) -> bool:
    """Whether both are one value in JSON: 1, 1.0 and true are three."""
    if one is other:
        return True
    if isinstance(one, list | dict):
        return json.dumps(one) == json.dumps(other)
    return type(one) is type(other) and one == other


def _with_new_values_first(configs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: set[tuple[str, str]] = set()
    first: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for config in configs:
        values = {(key, json.dumps(value)) for key, value in config.items()}
        (rest if values <= seen else first).append(config)
        seen |= values
    return first + rest


def lacking(request: ProbeRequest, run: Run, notes: list[str]) -> Iterator[str]:
    """What this server lacks for the runs in `request.run_needs`, like `run` before it trains.

    `run` says what is trained. `notes` gets a line for what was not looked for.
    """
    needs = request.run_needs
    if needs is None:
        return
    if len(needs.own) < needs.num_configs:
        notes.append(
            f"packages, weights and data were looked for on behalf of {len(needs.own)} of "
            f"{needs.num_configs} configurations: more do not fit into one request"
        )
    runs = [
        replace(run, config={**needs.shared, **own}, config_hash=str(index))
        for index, own in enumerate(needs.own)
    ]
    for problem in find_problems(runs, _places(request), notes.append):
        fix = f"; {problem.fix}" if problem.fix else ""
        yield f"{problem.about}: {problem.message}{fix}"


def _places(request: ProbeRequest) -> Places:
    def path(text: str | None) -> Path | None:
        return Path(text).absolute() if text else None

    return Places(
        data_root=path(request.data_root),
        weights=path(request.weights),
        cache_dir=cache_folder(request.cache_dir),
        limit_s=_LIMIT_S,
    )

"""Which job arrays a selection of runs becomes; pure.

Runs with equal resources and equal requests are one class, and an array, because all tasks of an
array share one request; a class of more tasks than the cluster allows is cut into several arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

from merge.records.sweep import Resources, Run
from merge.storage.json_files import canonical_json
from orchestrator.slurm.request import SlurmRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """One job array: what each of its tasks is given, and the runs of each task."""

    name: str
    resources: Resources
    request: SlurmRequest
    tasks: tuple[tuple[str, ...], ...]
    """Ids of the runs of each task; the index counts from 0, as SLURM's does."""


def plan_arrays(
    groups: Iterable[Sequence[Run]],
    request_of: Callable[[Resources], SlurmRequest],
    max_array_size: int,
) -> tuple[Array, ...]:
    """The arrays for `groups`, each of which is to be one task.

    A group whose runs differ in resources becomes a task in each of their classes.
    """
    classes: dict[bytes, tuple[Resources, SlurmRequest, list[tuple[str, ...]]]] = {}
    for group in groups:
        for resources, ids in _by_resources(group):
            request = with_defaults(request_of(resources), resources)
            key = canonical_json({"of": _shared(resources), "asked": asdict(request)})
            classes.setdefault(key, (resources, request, []))[2].append(ids)
    arrays = [
        Array(name="", resources=resources, request=request, tasks=tuple(chunk))
        for resources, request, tasks in classes.values()
        for chunk in _chunks(tasks, max_array_size)
    ]
    return tuple(replace(a, name=f"array-{number}") for number, a in enumerate(arrays, start=1))


def ranks_per_node(resources: Resources) -> int:
    """Devices that a run needs on each of its nodes."""
    return resources.devices_per_run // resources.nodes


def with_defaults(request: SlurmRequest, resources: Resources) -> SlurmRequest:
    """`request` with what follows from the run where nobody says otherwise.

    A core for each rank and each loader; a GPU for each rank where the study wants GPUs.
    """
    ranks = ranks_per_node(resources)
    wants = resources.device == "cuda" and not asks_for_gpus(request)
    gres = f"gpu:{ranks}" if wants else request.gres
    cpus = request.cpus_per_task or ranks * (1 + resources.num_workers)
    return replace(request, gres=gres, cpus_per_task=cpus)


def asks_for_gpus(request: SlurmRequest) -> bool:
    """Whether `request` names resources that may be GPUs."""
    return request.gres is not None or any(name.startswith("gpu") for name in request.sbatch)


def _by_resources(runs: Sequence[Run]) -> list[tuple[Resources, tuple[str, ...]]]:
    parts: dict[bytes, tuple[Resources, list[str]]] = {}
    for run in runs:
        key = canonical_json(asdict(run.resources))
        parts.setdefault(key, (run.resources, []))[1].append(run.run_id)
    return [(resources, tuple(ids)) for resources, ids in parts.values()]


def _shared(resources: Resources) -> dict[str, str | int]:
    """What a task's command line tells of the resources of its runs."""
    return {
        "nodes": resources.nodes,
        "devices_per_run": resources.devices_per_run,
        "num_workers": resources.num_workers,
    }


def _chunks(tasks: Sequence[tuple[str, ...]], size: int) -> Iterator[Sequence[tuple[str, ...]]]:
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]

"""Which job arrays a selection of runs becomes; pure.

All tasks of an array share one request, so runs with equal resources and requests become one
array; more tasks than the cluster's MaxArraySize become several arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from merge.records.sweep import Resources, Run
from merge.storage.json_files import canonical_json
from orchestrator.slurm.amounts import raised
from orchestrator.slurm.request import SlurmRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """One job array: what each of its tasks requests, and the runs of each task."""

    name: str
    resources: Resources
    request: SlurmRequest
    tasks: tuple[tuple[str, ...], ...]
    """Ids of the runs of each task; the index is SLURM_ARRAY_TASK_ID, from 0."""
    num_raises: Mapping[str, int] = field(default_factory=dict)
    """How often `mem` and `time` of the request were raised."""


def plan_arrays(
    groups: Iterable[Sequence[Run]],
    request_of: Callable[[Resources], SlurmRequest],
    max_array_size: int,
    raises: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[Array, ...]:
    """The arrays for `groups`: one task for each group.

    A group whose runs differ in resources becomes one task for each kind of resources. `raises`:
    run id -> how often its `mem` and `time` are raised; a task gets the most of its runs.
    """
    classes: dict[bytes, tuple[Array, list[tuple[str, ...]]]] = {}
    for group in groups:
        for resources, ids in _by_resources(group):
            counts = _most(ids, raises or {})
            request = with_defaults(raised(request_of(resources), counts), resources)
            key = canonical_json(
                {"of": _shared(resources), "request": asdict(request), "raises": counts}
            )
            one = Array(name="", resources=resources, request=request, tasks=(), num_raises=counts)
            classes.setdefault(key, (one, []))[1].append(ids)
    arrays = [
        replace(one, tasks=tuple(chunk))
        for one, tasks in classes.values()
        for chunk in _chunks(tasks, max_array_size)
    ]
    return tuple(replace(a, name=f"array-{number}") for number, a in enumerate(arrays, start=1))


def _most(ids: Sequence[str], raises: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for run_id in ids:
        for key, count in raises.get(run_id, {}).items():
            counts[key] = max(count, counts.get(key, 0))
    return counts


def ranks_per_node(resources: Resources) -> int:
    """Ranks, and so devices, of a run on each of its nodes."""
    return resources.devices_per_run // resources.nodes


def with_defaults(request: SlurmRequest, resources: Resources) -> SlurmRequest:
    """`request` with defaults that follow from the run.

    One core for each rank and each loader; one GPU for each rank if the study needs GPUs.
    """
    ranks = ranks_per_node(resources)
    needs_gpus = resources.device == "cuda" and not asks_for_gpus(request)
    gres = f"gpu:{ranks}" if needs_gpus else request.gres
    cpus = request.cpus_per_task or ranks * (1 + resources.num_workers)
    return replace(request, gres=gres, cpus_per_task=cpus)


def asks_for_gpus(request: SlurmRequest) -> bool:
    """Whether `request` names resources that can be GPUs: gres, --gpus, --gpus-per-node, ..."""
    return request.gres is not None or any(name.startswith("gpu") for name in request.sbatch)


def _by_resources(runs: Sequence[Run]) -> list[tuple[Resources, tuple[str, ...]]]:
    parts: dict[bytes, tuple[Resources, list[str]]] = {}
    for run in runs:
        key = canonical_json(asdict(run.resources))
        parts.setdefault(key, (run.resources, []))[1].append(run.run_id)
    return [(resources, tuple(ids)) for resources, ids in parts.values()]


def _shared(resources: Resources) -> dict[str, str | int]:
    """The resources that a task's command line sets for all its runs."""
    return {
        "nodes": resources.nodes,
        "devices_per_run": resources.devices_per_run,
        "num_workers": resources.num_workers,
    }


def _chunks(tasks: Sequence[tuple[str, ...]], size: int) -> Iterator[Sequence[tuple[str, ...]]]:
    for start in range(0, len(tasks), size):
        yield tasks[start : start + size]

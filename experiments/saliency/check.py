"""What saliency runs need before they start: whole data, weight files. No torch.

The data is opened as a run opens it. The first time that indexes the data set, which the runs need
in any case; a quick check leaves out what needs an index that is not made yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from experiments.backbones.weight_files import checked_sha256, find_weights, weight_source
from experiments.datasets.index import NotIndexedError, no_building
from experiments.runtime.check import Places, Problem
from experiments.runtime.options import build
from experiments.saliency.open_source import open_source
from experiments.saliency.options import DataOptions, Options
from experiments.saliency.source import check_readable
from merge.errors import PapergridError, UsageError

_GET_DATA = (
    "`replicate prepare --study saliency --data-root {root} --download` gets it (docs/saliency.md)"
)


def problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Problem]:
    """Each backbone and data set that the runs cannot use."""
    chosen = [build(Options, config, "saliency") for config in configs]
    for backbone in sorted({options.model.backbone for options in chosen}):
        yield from _tried(backbone, "", partial(_find_weights, backbone, places))
    needed = {_key(each.data): each.data for each in chosen if each.data.dataset != "beacons"}
    for data in needed.values():
        fix = _GET_DATA.format(root=places.data_root or "DIR")
        yield from _tried(data.dataset, fix, partial(_open, data, places))


def _key(data: DataOptions) -> tuple[str, str, str]:
    return data.dataset, data.fixations, data.storage


def _open(data: DataOptions, places: Places) -> None:
    with no_building() if places.is_quick else nullcontext():
        try:
            source = open_source(
                data.dataset,
                places.data_root,
                places.cache_dir,
                fixations=data.fixations,
                storage=data.storage,
            )
        except NotIndexedError:
            return
    check_readable(source)


def _find_weights(backbone: str, places: Places) -> None:
    try:
        source = weight_source(backbone)
    except UsageError:
        if places.weights is None or not places.weights.is_file():
            raise UsageError(
                f"{backbone} is none of the backbones that papergrid has weights for. If it is a "
                "model of timm, name a file of its weights with --weights FILE"
            ) from None
        return
    checked_sha256(find_weights(source, places.weights), source)


def _tried(about: str, fix: str, action: Callable[[], None]) -> Iterator[Problem]:
    try:
        action()
    # OSError: a file that this user may not read.
    except (PapergridError, OSError) as error:
        yield Problem(about, str(error), fix)

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
from experiments.runtime.samplers import check_epoch
from experiments.saliency import beacons
from experiments.saliency.open_source import open_source
from experiments.saliency.options import DataOptions, Options
from experiments.saliency.source import check_readable
from experiments.saliency.splits import split_of_data
from merge.errors import PapergridError, UsageError

_GET_DATA = (
    "`replicate prepare --study saliency --data-root {root} --download` gets it (docs/saliency.md)"
)


def problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Problem]:
    """Each backbone and data set that the runs cannot use."""
    chosen = [build(Options, config, "saliency") for config in configs]
    for backbone in sorted({options.model.backbone for options in chosen}):
        yield from _tried(backbone, partial(_find_weights, backbone, places))
    for options in {_key(each): each for each in chosen}.values():
        yield from _data_problems(options, places)


def _key(options: Options) -> tuple[object, ...]:
    data, batch = options.data, options.runtime.global_batch
    return data.dataset, data.fixations, data.storage, data.split, data.validation, batch


def _data_problems(options: Options, places: Places) -> Iterator[Problem]:
    data = options.data
    try:
        num_images = beacons.NUM_IMAGES if data.dataset == "beacons" else _count(data, places)
    # OSError: a file that this user may not read.
    except (PapergridError, OSError) as error:
        fix = _GET_DATA.format(root=places.data_root or "DIR")
        yield Problem(data.dataset, str(error), fix)
        return
    if num_images is not None:
        yield from _tried("split", partial(_divide, options, num_images))


def _divide(options: Options, num_images: int) -> None:
    split = split_of_data(options.data, num_images)
    check_epoch(len(split.train), options.runtime.global_batch)


def _count(data: DataOptions, places: Places) -> int | None:
    """How many images there are; None where a quick check would have to index them."""
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
            return None
    check_readable(source)
    return len(source.stimuli)


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


def _tried(about: str, action: Callable[[], object]) -> Iterator[Problem]:
    try:
        action()
    except (PapergridError, OSError) as error:
        yield Problem(about, str(error))

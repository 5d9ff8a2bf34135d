"""What runs need before they start: fitting options, weight files, whole data. No torch.

The data is opened as a run opens it. A quick check leaves out the annotations of COCO, which take
half a minute to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from experiments.backbones.weight_files import checked_sha256, find_weights
from experiments.datasets.coco_boxes import find_coco
from experiments.datasets.layouts import examples
from experiments.dense.models.published import check_outputs, weights_of_run
from experiments.dense.options import DataOptions, ModelOptions, Options
from experiments.dense.sources import missing_photographs, open_images
from experiments.runtime.check import Places, Problem, tried
from experiments.runtime.options import build
from merge.errors import DataError

_GET_DATA = "docs/dense.md says what to download; name its folder with --data-root DIR"


def problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Problem]:
    """Each model, weight file and data set that the runs cannot use."""
    chosen = [build(Options, config, "dense") for config in configs]
    fitting = []
    for options in {(o.task, o.network, o.data.dataset): o for o in chosen}.values():
        unfit = list(tried(f"{options.task} {options.network.model}", "", options.check))
        yield from unfit
        fitting += [] if unfit else [options]
    yield from _weight_problems(fitting, places)
    for options in {_data_of(o): o for o in fitting}.values():
        about = f"{options.data.dataset}, {options.task}"
        yield from tried(about, _GET_DATA, partial(_open_data, options, places))


def _weight_problems(chosen: Sequence[Options], places: Places) -> Iterator[Problem]:
    loaded = [o.network for o in chosen if not o.network.from_scratch]
    for network in {(n.model, n.backbone, n.weights_of): n for n in loaded}.values():
        about = f"weights of {network.model} {network.backbone}"
        yield from tried(about, "", partial(_find_weights, network, places))
    if places.weights is not None and len(loaded) < len(chosen):
        yield Problem("weights", "--weights and --from-scratch exclude each other", "give one")


def _find_weights(network: ModelOptions, places: Places) -> None:
    source = weights_of_run(network)
    checked_sha256(find_weights(source, places.weights), source)


def _data_of(options: Options) -> tuple[str, DataOptions, bool]:
    """Runs that differ in other options alone need the same data."""
    return options.task, options.data, options.network.weights_of == "model"


def _open_data(options: Options, places: Places) -> None:
    dataset, root = options.data.dataset, places.data_root
    if places.is_quick and dataset.startswith("coco") and root is not None:
        find_coco(root, int(dataset.removeprefix("coco")))
        return
    images = open_images(options, root, places.cache_dir)
    check_outputs(options, images)
    if missing := missing_photographs(images):
        raise DataError(
            f"{missing[0].parent} lacks {examples([path.name for path in missing])} of the "
            "photographs that are annotated: unpack the data set's photographs there again"
        )

"""What runs need before they start: both splits with the same classes, and a weight file. No torch.

The images are listed as a run lists them, which takes a minute on ImageNet the first time; a quick
check only looks for the folders.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from experiments.backbones.weight_files import checked_sha256, find_weights
from experiments.datasets.image_folder import find_split
from experiments.imagenet.data import find_root, open_data
from experiments.imagenet.options import Options
from experiments.imagenet.weights import weights_of
from experiments.runtime.check import Places, Problem, tried
from experiments.runtime.options import build

_GET_DATA = "docs/data.md says where ImageNet is to be had, and how its folders must look"


def problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Problem]:
    """Each data set, split and network that the runs cannot use."""
    chosen = [build(Options, config, "imagenet") for config in configs]
    pretrained = [each.model.network for each in chosen if each.model.start == "weights"]
    for network in sorted(set(pretrained)):
        yield from tried(network, "", partial(_find_weights, network, places))
    if places.weights is not None and len(pretrained) < len(chosen):
        yield Problem("weights", "--weights is given, but start=random uses none", _USE_WEIGHTS)
    each_split = {(each.data.dataset, each.data.validation): each for each in chosen}
    for options in each_split.values():
        if options.data.dataset != "shapes5":
            yield from tried("imagenet", _GET_DATA, partial(_look, options, places))


_USE_WEIGHTS = "set start=weights to begin with the file, or leave --weights out"


def _find_weights(network: str, places: Places) -> None:
    source = weights_of(network)
    checked_sha256(find_weights(source, places.weights), source)


def _look(options: Options, places: Places) -> None:
    root = find_root(options, places.data_root, places.cache_dir)
    if places.is_quick:
        for split in ("train", "val"):
            find_split(root, split)
        return
    open_data(options, places.data_root, places.cache_dir)

"""What few-shot runs need before they start: whole data, test lists, weight files.

The data is opened as a run opens it, so that what would stop a run is found here. The first time
that indexes the data set, which the runs need in any case; a quick check leaves out what needs an
index that is not made yet. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

from experiments.backbones.weight_files import (
    Stem,
    checked_sha256,
    find_weights,
    weight_source,
)
from experiments.datasets.index import NotIndexedError, no_building
from experiments.fewshot.episodes.lists import test_list, train_list
from experiments.fewshot.episodes.protocols import build_split
from experiments.fewshot.episodes.source import Source, open_source
from experiments.fewshot.options import Options
from experiments.runtime.check import Places, Problem, tried
from experiments.runtime.options import build
from merge.errors import PapergridError

_GENERATED = "shapes5i"
"""Made on first use: no part of it can be missing."""
_GET_DATA = (
    "`replicate prepare --datasets {dataset} --data-root {root} --download` gets it; to train on "
    "what is there, choose with --datasets"
)


def problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Problem]:
    """Each backbone, data set and fold that the runs cannot use."""
    chosen = [build(Options, config, "fewshot") for config in configs]
    yield from _weight_problems(chosen, places)
    needed = [options for options in chosen if options.data.dataset != _GENERATED]
    for dataset, variant in sorted({(o.data.dataset, o.data.mask_variant) for o in needed}):
        ours = [o for o in needed if (o.data.dataset, o.data.mask_variant) == (dataset, variant)]
        yield from _data_problems(ours, places)


def _weight_problems(chosen: Sequence[Options], places: Places) -> Iterator[Problem]:
    pretrained = [o.encoder for o in chosen if not o.encoder.from_scratch]
    for name, stem in sorted({(each.backbone, each.resnet_stem) for each in pretrained}):
        yield from tried(name, "", partial(_find_weights, name, stem, places))
    if places.weights is not None and len(pretrained) < len(chosen):
        yield Problem("weights", "--weights and --from-scratch exclude each other", "give one")


def _find_weights(name: str, stem: Stem, places: Places) -> None:
    source = weight_source(name, stem)
    checked_sha256(find_weights(source, places.weights), source)


def _data_problems(chosen: Sequence[Options], places: Places) -> Iterator[Problem]:
    """Of runs on one data set: of the whole, or else of each fold that it cannot serve."""
    data = chosen[0].data
    fix = _GET_DATA.format(dataset=data.dataset, root=places.data_root or "DIR")
    try:
        with no_building() if places.is_quick else nullcontext():
            source = open_source(
                data.dataset, places.data_root, places.cache_dir, data.mask_variant
            )
    except NotIndexedError:
        return
    except PapergridError as error:
        yield Problem(data.dataset, str(error), fix)
        return
    # Runs that differ in other options alone are tested on the same episodes.
    for options in {_lists_of(each): each for each in chosen}.values():
        about = f"{data.dataset} fold {options.data.fold}, {options.data.shot} shot"
        yield from tried(about, fix, partial(_draw, options, source))


def _lists_of(options: Options) -> tuple[object, ...]:
    return (options.data, options.test_seeds, options.test.test_episodes)


def _draw(options: Options, source: Source) -> None:
    """Draw the lists of a run. DataError where the data has too few images for them."""
    data = options.data
    train, test = (
        build_split(source, data.protocol, data.fold, split, min_area_px=data.min_area_px or None)
        for split in ("train", "val")
    )
    train_list(train, shot=data.shot, num_episodes=1, seed=0, epoch=0)
    for seed in options.test_seeds:
        test_list(test, shot=data.shot, num_episodes=options.test.test_episodes, seed=seed)

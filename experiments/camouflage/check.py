"""What runs need before they start: data, weight files, options that go together. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from experiments.backbones.weight_files import checked_sha256, find_weights
from experiments.camouflage.backbones import weights_of
from experiments.camouflage.data.splits import open_data
from experiments.camouflage.options import DataOptions, Options
from experiments.runtime.check import Places, Problem
from experiments.runtime.options import build
from experiments.runtime.samplers import check_epoch
from merge.errors import PapergridError, UsageError


def problems(configs: Sequence[Mapping[str, Any]], places: Places) -> Iterator[Problem]:
    """Each backbone, data set and pair of options that the runs cannot use."""
    try:
        chosen = [build(Options, config, "camouflage") for config in configs]
    except UsageError as error:
        yield Problem("options", str(error))
        return
    yield from _weight_problems(chosen, places)
    for decoder in {options.decoder: None for options in chosen}:
        yield from _tried("top_k", decoder.check)
    yield from _stage_problems(chosen)
    for data, batch in {(options.data, options.runtime.global_batch): None for options in chosen}:
        yield from _tried(data.dataset, partial(_open, data, batch, places))


def _stage_problems(chosen: Sequence[Options]) -> Iterator[Problem]:
    for first, whole in sorted({(o.decoder_stage.epochs, o.runtime.epochs) for o in chosen}):
        if first > whole:
            yield Problem(
                "epochs",
                f"decoder_epochs={first} is more than epochs={whole}, which counts both stages: "
                "lower decoder_epochs or train longer",
            )


def _weight_problems(chosen: Sequence[Options], places: Places) -> Iterator[Problem]:
    pretrained = {o.encoder.backbone for o in chosen if not o.encoder.from_scratch}
    for backbone in sorted(pretrained):
        yield from _tried(backbone, partial(_find_weights, backbone, places.weights))
    if places.weights is not None and any(o.encoder.from_scratch for o in chosen):
        yield Problem("weights", "--weights and --from-scratch exclude each other", "give one")


def _find_weights(backbone: str, weights: Path | None) -> None:
    source = weights_of(backbone)
    checked_sha256(find_weights(source, weights), source)


def _open(options: DataOptions, global_batch: int, places: Places) -> None:
    data = open_data(options, places.data_root, places.cache_dir)
    check_epoch(len(data.epoch(options.images_per_epoch, 0, 0)), global_batch)


def _tried(about: str, action: Callable[[], object]) -> Iterator[Problem]:
    try:
        action()
    # OSError: a file that this user may not read.
    except (PapergridError, OSError) as error:
        yield Problem(about, str(error))

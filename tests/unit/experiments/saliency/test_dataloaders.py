"""`create_mit1003_dataloaders`, for scripts of one's own."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from support.mit1003 import small_copy
from torch.utils.data import DistributedSampler

from experiments.saliency.dataloaders import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    EveryNth,
    create_mit1003_dataloaders,
)
from experiments.saliency.files import FileSource
from experiments.saliency.hdf5 import convert
from merge.errors import UsageError

NUM_IMAGES = 27
SMALL = {"batch_size": 2, "num_workers": 0, "image_size": (32, 24)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    small_copy(folder / "MIT1003", NUM_IMAGES)
    return folder


@pytest.fixture(autouse=True)
def cache(root, monkeypatch):
    monkeypatch.setenv("PAPERGRID_CACHE_DIR", str(root / "cache"))


def places(loader):
    return [index for batch in loader for index in batch["index"].tolist()]


def test_its_signature_is_the_one_that_users_have_in_their_scripts():
    expected = (
        "(data_path, batch_size=32, num_workers=8, image_size=(1024, 768), normalize=True, "
        "seed=42, world_size=1, rank=0)"
    )
    found = inspect.signature(create_mit1003_dataloaders)
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in found.parameters.values()]
    assert str(inspect.Signature(plain)) == expected


def test_one_process_gets_all_images_without_a_distributed_sampler(root):
    train, validation = create_mit1003_dataloaders(root, **SMALL)
    assert not isinstance(train.sampler, DistributedSampler)
    assert (len(train.dataset), len(validation.dataset)) == (24, 3)
    shuffled = places(train)
    assert sorted(shuffled + places(validation)) == list(range(NUM_IMAGES))
    assert shuffled != sorted(shuffled)
    assert places(validation) == sorted(places(validation))
    assert places(create_mit1003_dataloaders(root, **SMALL)[0]) == shuffled


@pytest.mark.parametrize("world_size", [2, 5])
def test_validation_is_not_padded_over_processes(root, world_size):
    """A DistributedSampler gives some images twice so that all shards are equally long."""
    shards = [
        places(create_mit1003_dataloaders(root, **SMALL, world_size=world_size, rank=rank)[1])
        for rank in range(world_size)
    ]
    found = sorted(index for shard in shards for index in shard)
    assert found == places(create_mit1003_dataloaders(root, **SMALL)[1])
    assert all(shard == sorted(shard) for shard in shards)


@pytest.mark.parametrize(("num_items", "padded"), [(101, 104), (902, 904)])
def test_over_four_processes_101_images_stay_101(num_items, padded):
    def over_four(sampler_of):
        return [place for rank in range(4) for place in sampler_of(rank)]

    ours = over_four(lambda rank: EveryNth(num_items, 4, rank))
    theirs = over_four(lambda rank: DistributedSampler(range(num_items), 4, rank, shuffle=False))
    assert sorted(ours) == list(range(num_items))
    assert len(theirs) == padded


def test_training_shards_are_disjoint_and_change_with_the_epoch(root):
    loaders = [
        create_mit1003_dataloaders(root, **SMALL, world_size=5, rank=rank)[0] for rank in range(5)
    ]
    epochs = []
    for epoch in range(2):
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        shards = [list(loader.sampler) for loader in loaders]
        flat = [place for shard in shards for place in shard]
        # 24 images over five processes: four each, none twice.
        assert len(flat) == len(set(flat)) == 20
        epochs.append(flat)
    assert epochs[0] != epochs[1]


def test_images_are_normalised_once(root):
    """By ImageNet's mean and deviation: twice, or not at all, gives other numbers."""
    raw, once = (
        torch.cat([batch["image"] for batch in loaders[1]])
        for loaders in (
            create_mit1003_dataloaders(root, **SMALL, normalize=normalize)
            for normalize in (False, True)
        )
    )
    assert 0 <= raw.min() < 0.3
    assert 0.9 < raw.max() <= 1
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))
    assert torch.allclose(once * std + mean, raw, atol=1e-6)


def test_a_batch_has_image_map_and_fixations_at_one_size(root):
    batch = next(iter(create_mit1003_dataloaders(root, **SMALL)[1]))
    assert batch["image"].shape == (2, 3, 24, 32)
    assert batch["fixation_map"].shape == batch["fixation_counts"].shape == (2, 1, 24, 32)
    assert batch["fixation_map"].max() <= 1
    # Resizing moves fixations into other pixels, and loses none.
    source = FileSource.open(root, root / "cache", "points")
    numbers = [len(source.stimuli[index].points) for index in batch["index"]]
    assert batch["fixation_counts"].sum(dim=(1, 2, 3)).tolist() == numbers


def test_an_hdf5_file_gives_the_same_batches(root, tmp_path):
    source = FileSource.open(root, root / "cache", "points")
    convert(source, tmp_path / "mit1003.hdf5", "points")
    for path in (tmp_path, tmp_path / "mit1003.hdf5"):
        theirs, ours = (
            next(iter(create_mit1003_dataloaders(each, **SMALL)[1])) for each in (root, path)
        )
        for name, values in theirs.items():
            assert np.array_equal(ours[name], values), name


def test_a_rank_that_is_none_is_refused(root):
    with pytest.raises(UsageError, match="rank=4 with world_size=4: ranks count from 0"):
        create_mit1003_dataloaders(root, **SMALL, world_size=4, rank=4)

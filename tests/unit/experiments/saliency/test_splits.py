"""The seeded split of 902 and 101 images, and the ten folds."""

from __future__ import annotations

from experiments.saliency.splits import NUM_FOLDS, fold_of, holdout


def test_of_1003_images_902_train_and_101_are_tested():
    split = holdout(1003, seed=42)
    assert (len(split.train), len(split.test)) == (902, 101)
    assert sorted(split.train + split.test) == list(range(1003))
    assert holdout(1003, seed=42) == split
    assert holdout(1003, seed=43) != split


def test_the_first_images_by_name_are_not_the_tested_ones():
    assert not set(range(50)) <= set(holdout(1003).test)
    assert max(holdout(1003).test) > 900


def test_ten_folds_test_each_image_once():
    folds = [fold_of(1003, fold) for fold in range(NUM_FOLDS)]
    assert sorted(index for fold in folds for index in fold.test) == list(range(1003))
    assert {len(fold.test) for fold in folds} == {100, 101}
    for fold in folds:
        assert sorted(fold.train + fold.test) == list(range(1003))

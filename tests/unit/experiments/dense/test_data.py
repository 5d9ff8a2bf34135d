"""Images of the dense tasks: how they are read, varied, and put into batches."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms._presets import ImageClassification

from experiments.datasets.coco_boxes import BoxImage, BoxObject, open_coco
from experiments.datasets.shape_layouts import ensure_shapes3
from experiments.datasets.voc_boxes import open_voc_boxes
from experiments.dense.data import (
    Augmentation,
    BoxTraining,
    collate_boxes,
    split_boxes,
    trained_boxes,
)
from experiments.dense.options import DATASETS, MODELS, Options
from experiments.dense.sources import open_images
from experiments.dense.tasks.classification import ClassificationTask
from experiments.dense.transforms import centre_crop, random_crop, random_view, with_short_side
from experiments.dense.voc_labels import CLASS_OF, draw_labels
from experiments.runtime.options import build
from merge.errors import DataError, UsageError

DETECTION = {"task": "detection", "model": "retinanet", "dataset": "shapes3_voc"}


def images_of(cache, **values):
    return open_images(build(Options, values, "dense"), None, cache)


def test_both_layouts_of_shapes3_have_the_same_boxes(cache):
    root = ensure_shapes3(cache)
    voc = open_voc_boxes(root / "VOC2012", "val")
    coco = open_coco(root / "COCO2017", 2017, "val")
    assert voc.files == coco.files
    assert len(voc.files) == 31
    for ours, other in zip(voc.images, coco.images, strict=True):
        assert (ours.height, ours.width) == (other.height, other.width)
        assert [o.box for o in ours.objects] == [o.box for o in other.objects]
    assert {voc.categories[o.category_id] for i in voc.images for o in i.objects} == {
        "aeroplane",
        "bicycle",
        "bird",
    }


def test_label_maps_of_both_layouts_agree_but_for_the_boundaries(cache):
    voc = images_of(cache, dataset="shapes3_voc")
    coco = images_of(cache, dataset="shapes3_coco", min_area_px=0)
    for index in range(4):
        ours, other = voc.test.read(index)[1], coco.test.read(index)[1]
        inside = ours != 255
        assert (ours[inside] == other[inside]).all()


def test_coco_objects_become_torchvisions_label_maps():
    def square(category, x, y, side):
        corners = [x, y, x + side, y, x + side, y + side, x, y + side]
        box = (float(x), float(y), float(side), float(side))
        return BoxObject(category, box, float(side * side), False, [corners])

    image = BoxImage(
        1, "a.jpg", 20, 20, (square(5, 2, 2, 8), square(1, 6, 6, 8), square(88, 15, 0, 5))
    )
    labels = draw_labels(image)
    assert CLASS_OF[1] == 15
    assert labels[3, 3] == 1
    assert labels[12, 12] == 15
    assert labels[8, 8] == 255  # of two objects
    assert labels[2, 17] == 0  # a teddy bear is no class of VOC
    crowd = {"size": [20, 20], "counts": [0, 40, 360]}
    image = BoxImage(1, "a.jpg", 20, 20, (BoxObject(1, (0.0, 0.0, 2.0, 20.0), 40.0, True, crowd),))
    assert (draw_labels(image)[:, :2] == 15).all()


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 375), (333, 501)])
def test_the_tested_centre_is_torchvisions_own_pixel_for_pixel(height, width):
    rng = np.random.default_rng(height)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    preset = ImageClassification(crop_size=224, mean=(0.0,) * 3, std=(1.0,) * 3)
    expected = (preset(Image.fromarray(image)) * 255).round().to(torch.uint8)
    ours = centre_crop(image, short_side=256, size=224)
    assert (torch.from_numpy(ours).permute(2, 0, 1) == expected).all()
    assert min(with_short_side((height, width), 520)) == 520


def test_a_training_view_has_its_size_and_ignores_what_is_outside_of_the_image():
    image = np.full((30, 50, 3), 200, np.uint8)
    labels = np.full((30, 50), 3, np.uint8)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        view, target = random_view(
            image, labels, rng, sides=(20, 60), crop=40, flip_probability=0.5
        )
        assert view.shape == (40, 40, 3)
        assert ((target == 255) == (view == 0).all(2)).all()
        assert set(np.unique(target)) <= {3, 255}
        crop = random_crop(image, rng, size=24, area_min=0.08, flip=0.5)
        assert crop.shape == (24, 24, 3)


def test_an_image_is_varied_by_seed_epoch_and_index_alone(cache):
    images = images_of(cache, **DETECTION)

    def drawn(seed, epoch, order):
        data = BoxTraining(images.train, images.train_places, 0.5, Augmentation(seed, epoch))
        return {index: data[index] for index in order}

    one, other = drawn(0, 1, range(8)), drawn(0, 1, reversed(range(8)))
    for index in range(8):
        assert all(torch.equal(a, b) for a, b in zip(one[index], other[index], strict=True))
    flipped = drawn(0, 2, range(8))
    assert any(not torch.equal(one[n][0], flipped[n][0]) for n in range(8))


def test_boxes_are_flipped_with_their_image(cache):
    images = images_of(cache, **DETECTION)
    plain, flipped = (
        BoxTraining(images.train, images.train_places, probability, Augmentation(0, 0))[0]
        for probability in (0.0, 1.0)
    )
    assert torch.equal(plain[0].flip(2), flipped[0])
    width = plain[0].shape[2]
    x0, _, x1, _ = plain[1].unbind(1)
    assert torch.equal(flipped[1][:, 0], width - x1)
    assert torch.equal(flipped[1][:, 2], width - x0)
    assert (flipped[1][:, 2] > flipped[1][:, 0]).all()


def test_crowds_and_boxes_below_a_pixel_are_not_trained():
    boxes = [(5.0, 5.0, 10.0, 10.0), (0.0, 0.0, 0.5, 9.0), (15.0, 2.0, 30.0, 4.0)]
    objects = [BoxObject(n, box, 1.0, n == 9) for n, box in enumerate(boxes, start=1)]
    objects.append(BoxObject(9, boxes[0], 1.0, True))
    corners, labels = trained_boxes(BoxImage(1, "a.jpg", 20, 20, tuple(objects)))
    assert labels.tolist() == [1, 3]
    assert corners.tolist() == [[5, 5, 15, 15], [15, 2, 20, 6]]


def test_images_with_different_sizes_and_numbers_of_boxes_make_a_batch_and_its_parts(cache):
    images = images_of(cache, **DETECTION)
    data = BoxTraining(images.train, images.train_places, 0.5, Augmentation(0, 0))
    batch = collate_boxes([data[index] for index in range(5)])
    assert len({tuple(image.shape) for image in batch.images}) > 1
    assert len({len(boxes) for boxes in batch.boxes}) > 1
    parts = split_boxes(batch, 2)
    assert [len(part.images) for part in parts] == [2, 2, 1]
    assert torch.equal(parts[1].boxes[0], batch.boxes[2])
    assert torch.equal(parts[2].labels[0], batch.labels[4])


def test_subsets_follow_from_the_seed_and_the_test_list_is_the_same_for_all_seeds(cache):
    few = {**DETECTION, "num_train_images": 20, "num_test_images": 9}
    one, again, other = (images_of(cache, **few, seed=seed) for seed in (0, 0, 1))
    assert one.train_places == again.train_places != other.train_places
    assert one.test_places == other.test_places
    assert (len(one.train_places), len(one.test_places)) == (20, 9)


def test_validation_images_are_training_images_that_are_not_trained(cache):
    whole = images_of(cache, **DETECTION)
    divided = images_of(cache, **DETECTION, validation_fraction=0.25)
    assert len(divided.validation_places) == 15
    assert not set(divided.validation_places) & set(divided.train_places)
    both = sorted((*divided.validation_places, *divided.train_places))
    assert both == list(whole.train_places)
    assert divided.test_places == whole.test_places
    assert divided.validation_places != tuple(range(15))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "faster_rcnn"}, "model faster_rcnn is none of task segmentation"),
        ({"dataset": "shapes5"}, "dataset shapes5 is none of task segmentation"),
        ({"model": "lraspp"}, "lraspp needs backbone=mobilenet_v3_large"),
        ({"backbone": "mobilenet_v3_large"}, "fcn has no backbone mobilenet_v3_large"),
        ({"backbone": "tiny"}, "tiny has no weight file"),
        ({"from_scratch": True, "variant": "frozen_backbone"}, "at random"),
        ({"from_scratch": True, "weights_of": "model"}, "exclude each other"),
    ],
)
def test_options_that_do_not_go_together_are_refused(values, message):
    with pytest.raises(UsageError, match=message):
        build(Options, values, "dense").check()


@pytest.mark.parametrize("dataset", ["voc2012", "coco2017", "coco2014", "image_folder"])
@pytest.mark.parametrize("model", ["fcn", "retinanet", "classifier"])
def test_a_data_root_without_the_data_set_is_refused_by_name(tmp_path, dataset, model):
    (task,) = (name for name, models in MODELS.items() if model in models)
    options = build(Options, {"task": task, "model": model, "dataset": dataset}, "dense")
    (tmp_path / "empty").mkdir()
    for root, message in ((None, "--data-root"), (tmp_path / "empty", str(tmp_path / "empty"))):
        if dataset in DATASETS[task]:
            with pytest.raises(DataError, match=message):
                open_images(options, root, tmp_path)
        else:
            with pytest.raises(UsageError, match="is none of task"):
                open_images(options, root, tmp_path)


def test_other_classes_of_as_many_are_not_those_of_a_trained_classifier(cache):
    """Each output would be counted for another class than it was trained for."""
    values = {"task": "classification", "model": "classifier", "dataset": "shapes5"}
    images = images_of(cache, **values)
    train = dataclasses.replace(images.train, classes=images.train.classes[::-1])
    model = type("Model", (), {"weights_id": "none"})()
    before, after = (
        ClassificationTask(build(Options, values, "dense"), None, each).identity(model)
        for each in (images, dataclasses.replace(images, train=train))
    )
    names = ClassificationTask.identity_of_model
    assert {name for name in names if after[name] != before[name]} == {"classes"}

"""A batch whose images have another size than its epoch is set for ends the run."""

from __future__ import annotations

import pytest
import torch

from experiments.runtime.image_sizes import check_image_size, first_images
from merge.errors import UsageError


@pytest.mark.parametrize(
    "batch",
    [
        (torch.zeros(2), torch.zeros(2, 3, 8, 12)),
        {
            "label": torch.zeros(2),
            "image": torch.zeros(2, 3, 8, 12),
            "mask": torch.zeros(1, 1, 1, 1),
        },
    ],
)
def test_the_images_are_the_first_tensor_of_their_shape(batch):
    images = first_images(batch)
    assert images is not None
    assert images.shape == (2, 3, 8, 12)
    check_image_size(images, (8, 12), 0)
    check_image_size(images, None, 0)


def test_a_resolution_that_is_one_epoch_late_is_named():
    with pytest.raises(
        UsageError, match="epoch 3 is set to images of 12x12 pixels, but its first batch has 8x8"
    ):
        check_image_size(torch.zeros(2, 3, 8, 8), 12, 3)


def test_a_batch_without_images_is_not_checked():
    assert first_images((torch.zeros(2), [torch.zeros(3, 8, 8)])) is None
    check_image_size(None, 12, 0)

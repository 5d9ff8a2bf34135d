"""Bytes on a canvas become floats with a colour around them."""

from __future__ import annotations

import torch

from experiments.fewshot.canvas import canvas_of, stack, whole

FILL = (10.5, 20.25, 30.0)


def test_what_is_in_the_box_is_the_image_and_all_else_the_colour():
    image_HW3 = torch.randint(0, 256, (3, 5, 3), dtype=torch.uint8)
    painted = canvas_of(image_HW3, (8, 9), (2, 1)).painted(FILL)
    assert (painted.dtype, painted.shape) == (torch.float32, (3, 8, 9))
    assert torch.equal(painted[:, 2:5, 1:6], image_HW3.permute(2, 0, 1).float())
    outside = torch.ones(8, 9, dtype=torch.bool)
    outside[2:5, 1:6] = False
    assert (painted[:, outside] == torch.tensor(FILL)[:, None]).all()


def test_a_black_image_pixel_is_no_padding():
    black = canvas_of(torch.zeros(2, 2, 3, dtype=torch.uint8), (2, 3), (0, 0)).painted(FILL)
    assert not black[:, :, :2].any()


def test_stacks_of_stacks_are_painted_as_each_by_itself():
    each = [
        canvas_of(torch.full((k, 4, 3), k, dtype=torch.uint8), (6, 6), (6 - k, 0))
        for k in (1, 2, 3, 4)
    ]
    rows = stack([stack(each[:2]), stack(each[2:])])
    painted = rows.painted(FILL)
    assert painted.shape == (2, 2, 3, 6, 6)
    for found, one in zip(painted.flatten(0, 1), each, strict=True):
        assert torch.equal(found, one.painted(FILL))


def test_whole_images_have_no_padding():
    images = torch.randint(0, 256, (2, 1, 3, 4, 5), dtype=torch.uint8)
    assert torch.equal(whole(images).painted(FILL), images.float())

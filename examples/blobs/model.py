"""From an image of 16 x 16 pixels to the blob's row and column."""

from torch import nn


def locator(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(256, width), nn.ReLU(), nn.Linear(width, 2))

"""A DeepGaze-style readout: from frozen features to a density over the image's pixels.

Features of a frozen backbone are normalised in each cell, 1x1 convolutions read a priority from
them, a Gaussian blurs it, the log density of the centre bias is added, and a softmax over all
pixels makes the density (Kuemmerer et al., DeepGaze II, ICCV 2017).

The last convolution begins at zero: the untrained model is the centre bias, exactly.
"""

from __future__ import annotations

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from experiments.saliency.features import Features

_BLUR_REACH = 3.0
"""Standard deviations that the first kernel reaches; its size stays while it is trained."""


class Blur(nn.Module):
    """A Gaussian filter whose standard deviation, in cells, is learned; edges are repeated."""

    def __init__(self, sigma_cells: float) -> None:
        super().__init__()
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma_cells)))
        self.radius = max(1, math.ceil(_BLUR_REACH * sigma_cells))

    def forward(self, map_B1hw: Tensor) -> Tensor:
        reach = torch.arange(-self.radius, self.radius + 1, device=map_B1hw.device)
        kernel = functional.softmax(-((reach / self.log_sigma.exp()) ** 2) / 2, dim=0)
        kernel = kernel.to(map_B1hw.dtype)
        padded = functional.pad(map_B1hw, (self.radius,) * 4, mode="replicate")
        rows = functional.conv2d(padded, kernel.view(1, 1, 1, -1))
        return functional.conv2d(rows, kernel.view(1, 1, -1, 1))


class Readout(nn.Module):
    """1x1 convolutions from normalised features to one priority a cell."""

    def __init__(self, channels: tuple[int, ...], hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = (sum(channels), *hidden, 1)
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 1), nn.Softplus()]
        last = cast(nn.Conv2d, layers[-2])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(cast(Tensor, last.bias))
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        finest = features[0].shape[-2:]
        same_size = [
            functional.interpolate(each, finest, mode="bilinear", align_corners=False)
            for each in features
        ]
        x_BChw = torch.cat(same_size, dim=1)
        x_BhwC = functional.layer_norm(x_BChw.movedim(1, -1), (x_BChw.shape[1],))
        priority_B1hw: Tensor = self.layers(x_BhwC.movedim(-1, 1))
        return priority_B1hw


class SaliencyModel(nn.Module):
    """The log density of fixations on an image, given that of the centre bias."""

    def __init__(self, features: Features, hidden: tuple[int, ...], blur_cells: float) -> None:
        super().__init__()
        self.features = features
        self.readout = Readout(features.out_channels, hidden)
        self.blur = Blur(blur_cells)
        self.bias_weight = nn.Parameter(torch.ones(()))

    def forward(self, image_B3HW: Tensor, log_bias_Bhw: Tensor) -> Tensor:
        """Log density over the cells of `log_bias_Bhw`, float32; images are RGB of 0 to 255."""
        priority_B1hw = self.priority(image_B3HW)
        return self.log_density(priority_B1hw, log_bias_Bhw)

    def priority(self, image_B3HW: Tensor) -> Tensor:
        """What speaks for a fixation in each cell of the finest features, B1hw."""
        blurred: Tensor = self.blur(self.readout(self.features(image_B3HW.float())))
        return blurred

    def log_density(self, priority_B1hw: Tensor, log_bias_BHW: Tensor) -> Tensor:
        """Log density at the size and in the precision of the centre bias, BHW."""
        size = log_bias_BHW.shape[-2:]
        priority_B1HW = functional.interpolate(
            priority_B1hw.to(log_bias_BHW.dtype), size, mode="bilinear", align_corners=False
        )
        with torch.autocast(log_bias_BHW.device.type, enabled=False):
            logits_BHW = priority_B1HW[:, 0] + self.bias_weight * log_bias_BHW
            return functional.log_softmax(logits_BHW.flatten(1), dim=1).view_as(logits_BHW)

"""Which weight file a backbone needs. No torch."""

from __future__ import annotations

from experiments.backbones.weight_files import WeightSource, weight_source

PACKAGED = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
"""Backbones whose ImageNet weights are installed with papergrid."""


def timm_name(backbone: str) -> str:
    """The name of timm's model: its own name, but for those with packaged weights."""
    return f"tf_{backbone}" if backbone in PACKAGED else backbone


def weights_of(backbone: str) -> WeightSource:
    """Where the ImageNet weights of any timm model come from."""
    if backbone in PACKAGED:
        return weight_source(backbone)
    return WeightSource(
        f"{backbone}.pth",
        f"on a machine with internet save timm's weights: torch.save(timm.create_model("
        f"'{backbone}', pretrained=True).state_dict(), '{backbone}.pth'),",
    )

"""Where the weight file of each network comes from. No torch."""

from __future__ import annotations

from experiments.backbones.weight_files import KNOWN_MODELS, WeightSource, model_source


def weights_of(network: str) -> WeightSource:
    """The weight file of a network, with its classifier."""
    if network in KNOWN_MODELS:
        return model_source(network)
    return WeightSource(
        f"{network}.pth", f"save the state_dict of timm's {network} into a file", without=""
    )

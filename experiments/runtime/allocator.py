"""Settings of torch's allocator on CUDA, made before torch reads them. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

VARIABLES = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Today's name and the older one, which torch reads too."""
GROWING_SEGMENTS = "expandable_segments:True"
"""Blocks of changing sizes leave no holes: without it such a training needs more memory."""


def let_segments_grow(environment: MutableMapping[str, str]) -> None:
    """Ask for growing segments, unless the person has chosen settings of the allocator."""
    if not any(environment.get(name) for name in VARIABLES):
        environment[VARIABLES[0]] = GROWING_SEGMENTS


def allocator_settings(environment: Mapping[str, str]) -> str | None:
    """The settings that hold, as env.json records them."""
    return next((environment[name] for name in VARIABLES if environment.get(name)), None)

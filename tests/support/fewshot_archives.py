"""The archives of VOC2012, SBD and COCO2014 in small: true layouts, true formats, few images."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from scipy.io import savemat

from support.fewshot_trees import (
    PASCAL_SBD,
    PASCAL_SBD_VAL,
    PASCAL_TRAIN,
    PASCAL_VAL,
    make_coco,
    make_pascal,
    save_photograph,
)

VOC, SBD, SBD_LIST = "VOCtrainval_11-May-2012.tar", "benchmark.tgz", "train_noval.txt"
TRAIN2014, VAL2014, ANNOTATIONS = "train2014.zip", "val2014.zip", "annotations_trainval2014.zip"
_SBD_MAPS = (PASCAL_SBD, PASCAL_SBD_VAL, PASCAL_TRAIN)


def mat_bytes(labels: np.ndarray) -> bytes:
    """A class map as SBD's .mat files hold it: GTcls with Segmentation and more."""
    buffer = io.BytesIO()
    content = {"Segmentation": labels.astype(np.uint8), "CategoriesPresent": np.array([[1.0]])}
    savemat(buffer, {"GTcls": content}, do_compression=True)
    return buffer.getvalue()


def tar_bytes(files: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = len(content), 1_300_000_000
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2014, 8, 1, 12, 0, 0)), content)
    return buffer.getvalue()


def make_archives(scratch: Path, num_more: int = 0) -> dict[str, bytes]:
    """All six archives by file name; `num_more` further photographs in VOC2012 and train2014."""
    pascal, coco = make_pascal(scratch / "pascal"), make_coco(scratch / "coco")
    for number in range(num_more):
        save_photograph(pascal / "JPEGImages" / f"2012_{number:06d}.jpg", 40, 50)
        save_photograph(coco / "train2014" / f"more_{number:06d}.jpg", 40, 50)
    (pascal / "SegmentationClassAug").rename(pascal / "SegmentationClass")
    sbd = _take_sbd(pascal)
    (coco / "annotations" / "captions_val2014.json").write_text("{}")
    (pascal / "Annotations").mkdir()
    (pascal / "Annotations" / f"{PASCAL_VAL}.xml").write_text("<annotation/>")
    listed = pascal / "ImageSets" / "Segmentation" / SBD_LIST
    return {
        SBD_LIST: _popped(listed),
        VOC: tar_bytes(_files(pascal, "VOCdevkit/VOC2012")),
        SBD: tar_bytes(sbd, "w:gz"),
        ANNOTATIONS: zip_bytes(_files(coco / "annotations", "annotations")),
        TRAIN2014: zip_bytes(_files(coco / "train2014", "train2014")),
        VAL2014: zip_bytes(_files(coco / "val2014", "val2014")),
    }


def manifest_of(archives: Mapping[str, bytes], url: str, **changes: Mapping[str, Any]) -> str:
    """A manifest for these archives served at `url`; `changes` by file name without its dots."""

    def entry(file: str, **more: Any) -> dict[str, Any]:
        content = archives[file]
        known = {"bytes": len(content), "md5": hashlib.md5(content).hexdigest()}
        found = {"file": file, "urls": [f"{url}/{file}"], **known, **more}
        found |= changes.get(file.partition(".")[0].replace("-", "_"), {})
        return {key: value for key, value in found.items() if value is not None}

    voc = _tar_counts(archives[VOC], ("JPEGImages", "SegmentationClass"))
    pascal = {
        "voc2012": entry(VOC, inside="VOCdevkit/VOC2012", holds=voc),
        "train_noval": entry(SBD_LIST),
        "sbd": entry(SBD, inside="benchmark_RELEASE/dataset/cls", holds={".": len(_SBD_MAPS)}),
    }
    coco = {
        "annotations": entry(
            ANNOTATIONS,
            inside="annotations",
            only=["instances_train2014.json", "instances_val2014.json"],
        ),
        "train2014": entry(TRAIN2014, inside="train2014", holds=_zip_count(archives[TRAIN2014])),
        "val2014": entry(VAL2014, inside="val2014", holds=_zip_count(archives[VAL2014])),
    }
    return yaml.safe_dump(
        {
            "pascal5i": {
                "licence": "none",
                "counts": {
                    **{"photographs": voc["JPEGImages"], "label_maps": 4},
                    **{"train": 1, "val": 1, "train_noval": 2, "train_merged": 2},
                },
                "archives": pascal,
            },
            "coco20i": {
                "licence": "none",
                "counts": {"photographs_train": 2, "photographs_val": 1},
                "archives": coco,
            },
        }
    )


def _take_sbd(pascal: Path) -> dict[str, bytes]:
    """Files of benchmark.tgz; the maps that SBD alone has are taken out of VOC2012."""
    files = {"benchmark_RELEASE/README": b"semantic contours"}
    for name in _SBD_MAPS:
        path = pascal / "SegmentationClass" / f"{name}.png"
        labels = np.array(Image.open(path))
        # SBD has no rims; where VOC2012 has a map too, its content differs.
        labels[labels == 255] = 0
        files[f"benchmark_RELEASE/dataset/cls/{name}.mat"] = mat_bytes(labels)
        files[f"benchmark_RELEASE/dataset/inst/{name}.mat"] = b"not needed"
        if name != PASCAL_TRAIN:
            path.unlink()
    return files


def _files(root: Path, top: str) -> dict[str, bytes]:
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return {f"{top}/{path.relative_to(root)}": path.read_bytes() for path in paths}


def _popped(path: Path) -> bytes:
    content = path.read_bytes()
    path.unlink()
    return content


def _tar_counts(content: bytes, folders: tuple[str, ...]) -> dict[str, int]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = archive.getnames()
    return {folder: sum(Path(name).parent.name == folder for name in names) for folder in folders}


def _zip_count(content: bytes) -> dict[str, int]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {".": len(archive.namelist())}

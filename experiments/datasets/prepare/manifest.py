"""The list of archives as data: `archives.yaml`, or a file of that form for a private mirror."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

from merge.errors import DataError

OFFICIAL = Path(__file__).with_name("archives.yaml")

_NEEDED = {
    "pascal5i": ("voc2012", "train_noval", "sbd"),
    "coco20i": ("annotations", "train2014", "val2014"),
}

Count = NonNegativeInt | tuple[NonNegativeInt, ...]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Url = Annotated[str, Field(pattern=r"^https?://[^@\s]+$")]
Folder = Annotated[str, Field(pattern=r"^[^/\\.][^\\]*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Archive(_Strict):
    """One file to download; what is None is not known, and not checked."""

    file: FileName
    urls: tuple[Url, ...] = ()
    bytes: NonNegativeInt | None = None
    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    unpacked_bytes: NonNegativeInt = 0
    inside: Folder | None = None
    only: tuple[FileName, ...] = ()
    holds: Mapping[str, NonNegativeInt] = Field(default_factory=dict)

    @property
    def has_digest(self) -> bool:
        return self.md5 is not None or self.sha256 is not None


class DatasetManifest(_Strict):
    """The archives of one data set, and the counts of a whole copy."""

    licence: str
    counts: Mapping[str, Count] = Field(default_factory=dict)
    archives: Mapping[str, Archive]


class Manifest(_Strict):
    """What can be prepared."""

    pascal5i: DatasetManifest
    coco20i: DatasetManifest

    @model_validator(mode="after")
    def _names_every_archive(self) -> Manifest:
        for dataset, needed in _NEEDED.items():
            missing = set(needed) - self.of(dataset).archives.keys()
            if missing:
                raise ValueError(f"{dataset}.archives lacks {', '.join(sorted(missing))}")
        return self

    def of(self, dataset: str) -> DatasetManifest:
        found: DatasetManifest = getattr(self, dataset)
        return found


def load_manifest(path: Path | None = None) -> Manifest:
    """The manifest at `path`, by default the official one. DataError lists all that is wrong."""
    path = path or OFFICIAL
    try:
        return Manifest.model_validate(yaml.safe_load(path.read_text("utf-8")))
    except OSError as error:
        raise DataError(f"the manifest {path} cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"the manifest {path} is no YAML ({error})") from error
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, problem['loc'])) or 'file'}: {problem['msg']}"
            for problem in error.errors()
        ]
        form = f"take {OFFICIAL} as the model"
        raise DataError(
            "\n".join([f"the manifest {path} is not usable; {form}", *lines])
        ) from error

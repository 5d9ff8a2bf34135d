"""The numbers that a copy is compared with."""

from __future__ import annotations

from pathlib import Path

import yaml

from merge.errors import DataError

OFFICIAL = Path(__file__).parents[1] / "counts.yaml"
_KEYS = ("classes", "train_images", "val_images")


def read_counts(path: Path | None) -> dict[str, int]:
    """The numbers in a manifest, by default those of all of ImageNet. DataError: it is none."""
    path = path or OFFICIAL
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"the manifest {path} cannot be read ({error})") from error
    counts = document.get("imagenet") if isinstance(document, dict) else None
    if not isinstance(counts, dict) or not all(_is_count(*each) for each in counts.items()):
        raise DataError(
            f"the manifest {path} must have a key imagenet with whole numbers for "
            f"{', '.join(_KEYS)}; take {OFFICIAL} as the model"
        )
    return counts


def _is_count(key: object, value: object) -> bool:
    return key in _KEYS and isinstance(value, int) and not isinstance(value, bool) and value >= 0

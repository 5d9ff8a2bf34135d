"""Which checkpoint a run evaluates instead of training: part of a plan and of `run.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self, cast, get_args

Which = Literal["best", "last", "file"]
"""Of a training's two checkpoints, or a file that a person names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The checkpoint of a finished training."""

    which: Which
    file: str
    """Relative to the output folder of the evaluation, with `/`; absolute for a named file."""
    config_hash: str
    """Of the training."""
    sha256: str | None = None
    """Of the file's bytes; None while the training has no result."""

    @property
    def identity(self) -> str:
        """What of it is part of the evaluation's configuration hash.

        The training's values are in that hash already, so `best` and `last` name a model as far as
        a configuration can. The bytes of a named file are all that is known of it.
        """
        return f"sha256:{self.sha256}" if self.which == "file" else self.which

    @property
    def is_ready(self) -> bool:
        """Whether it can be evaluated: its training is finished."""
        return self.sha256 is not None

    def path(self, output: Path) -> Path:
        """The file, for an evaluation in the folder `output`."""
        return output / PurePosixPath(self.file)

    def to_json(self) -> dict[str, Any]:
        """The document that `checkpoint_from_json` reads."""
        return {
            "which": self.which,
            "file": self.file,
            "config_hash": self.config_hash,
            "sha256": self.sha256,
        }

    def known_with(self, other: Self | None) -> Self:
        """This one, with the file's hash of `other` where only that one knows it."""
        if self.sha256 is not None or other is None:
            return self
        return replace(self, sha256=other.sha256)


def checkpoint_from_json(document: Mapping[str, Any] | None) -> Checkpoint | None:
    """What `to_json` wrote; None for None. KeyError, TypeError or ValueError where it is none."""
    if document is None:
        return None
    which, sha256 = document["which"], document["sha256"]
    texts = (document["file"], document["config_hash"])
    if which not in get_args(Which) or not all(isinstance(text, str) for text in texts):
        raise ValueError(f"a checkpoint is {dict(document)!r}")
    if sha256 is not None and not isinstance(sha256, str):
        raise TypeError(f"the hash of a checkpoint is {sha256!r}")
    return Checkpoint(which=cast(Which, which), file=texts[0], config_hash=texts[1], sha256=sha256)

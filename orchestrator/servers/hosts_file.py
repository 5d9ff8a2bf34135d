"""Reading a hosts file: the servers of `replicate submit --servers`, described in docs/servers.md.

YAML in, a `Fleet` out, or one error with every problem and its place. Connects to no host.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from merge.errors import UsageError
from orchestrator.config.schema import Shape, fit
from orchestrator.config.values import is_scalar, text_of
from orchestrator.config.yaml_document import Document, Notes, Place, read_document

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FOLDERS = ("output", "workdir", "data_root", "cache_dir", "weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server. Paths are as the server sees them; None means: the same as on this machine."""

    name: str
    """File name of its log and its records."""
    ssh: str
    """Destination for `ssh`: an alias of the user's own configuration, or [user@]host."""
    output: str | None = None
    workdir: str | None = None
    python: str | None = None
    data_root: str | None = None
    cache_dir: str | None = None
    weights: str | None = None
    devices: str | None = None
    allow_busy: bool = False
    """Use GPUs that other processes compute on."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    setup: tuple[str, ...] = ()
    """Lines of bash that run before everything else, such as `module load cuda`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The servers of a hosts file and how ssh connects to them."""

    servers: tuple[Server, ...]
    ssh_config: Path | None = None
    """Absolute; None is the user's own."""
    connect_timeout_s: int = 15
    share_timeout_s: int = 45
    """How long a network file system may take to show a new file on another host."""
    min_free_gb: float = 1.0
    """In GiB."""


def _device_list(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value


class ServerShape(Shape):
    """The keys of a server; `defaults:` has the same."""

    ssh: str | None = None
    output: str | None = None
    workdir: str | None = None
    python: str | None = None
    data_root: str | None = None
    cache_dir: str | None = None
    weights: str | None = None
    devices: Annotated[str | None, BeforeValidator(_device_list)] = None
    allow_busy: bool | None = None
    environment: dict[str, Any] = Field(default_factory=dict)
    setup: list[str] = Field(default_factory=list)


def _empty_as_mapping(value: object) -> object:
    return {} if value is None else value


def _names_as_mapping(value: object) -> object:
    """`[gpu1, gpu2]` means two hosts without keys of their own."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        if len(set(value)) < len(value):
            raise ValueError("a host appears twice")
        return dict.fromkeys(value)
    return value


class HostsShape(Shape):
    """All keys of a hosts file."""

    hosts: Annotated[
        dict[str, Annotated[ServerShape, BeforeValidator(_empty_as_mapping)]],
        BeforeValidator(_names_as_mapping),
    ] = Field(default_factory=dict)
    defaults: ServerShape = Field(default_factory=ServerShape)
    ssh_config: str | None = None
    connect_timeout_s: Annotated[int, Field(ge=1)] = 15
    share_timeout_s: Annotated[int, Field(ge=0)] = 45
    min_free_gb: Annotated[float, Field(ge=0, strict=False)] = 1.0


def read_hosts(path: Path) -> Fleet:
    """The fleet that the file `path` describes.

    StudyError carries every problem with its place; UsageError where the file cannot be read.
    """
    document = read_document(path)
    notes = Notes(document)
    shape, problems = fit(document, HostsShape, document.data)
    notes.extend([*document.problems, *problems])
    _check_shape(shape, path, notes)
    servers = tuple(
        _server(name, keys, shape.defaults, document, notes) for name, keys in shape.hosts.items()
    )
    notes.raise_if_any()
    return Fleet(
        servers=servers,
        ssh_config=_beside(path, shape.ssh_config),
        connect_timeout_s=shape.connect_timeout_s,
        share_timeout_s=shape.share_timeout_s,
        min_free_gb=shape.min_free_gb,
    )


def _check_shape(shape: HostsShape, path: Path, notes: Notes) -> None:
    _check_config(shape, path, notes)
    if not shape.hosts and not notes.touches("hosts"):
        notes.add(("hosts",), "missing: list the servers, such as `hosts: {gpu1: {}, gpu2: {}}`")
    _check(shape.defaults, ("defaults",), notes)
    if shape.defaults.ssh is not None:
        notes.add(("defaults", "ssh"), "each host has its own: write it below the host's name")


def _beside(path: Path, name: str | None) -> Path | None:
    try:
        return (path.parent / Path(name).expanduser()).absolute() if name else None
    except RuntimeError as error:
        raise UsageError(
            f"{path}: {name}: whose home this is, is not known: write it out"
        ) from error


def _check_config(shape: HostsShape, path: Path, notes: Notes) -> None:
    config = _beside(path, shape.ssh_config)
    if config is not None and not config.is_file():
        notes.add(("ssh_config",), f"there is no file {config}")


def _server(
    name: str, keys: ServerShape, defaults: ServerShape, document: Document, notes: Notes
) -> Server:
    place: Place = ("hosts", name)
    if not _NAME.fullmatch(name):
        message = f"{name!r} cannot be a file name of a log: use letters, digits and . _ -"
        notes.extend([document.problem(place, f"{message}, and name the host with `ssh:`")])
    _check(keys, place, notes)
    own = {**defaults.model_dump(exclude_none=True), **keys.model_dump(exclude_none=True)}
    environment = {**defaults.environment, **keys.environment}
    own["environment"] = {key: text_of(v) for key, v in environment.items() if is_scalar(v)}
    own["setup"] = (*defaults.setup, *keys.setup)
    destination = own.pop("ssh", name)
    return Server(name=name, ssh=destination, **own)


def _check(keys: ServerShape, place: Place, notes: Notes) -> None:
    for key in _FOLDERS:
        value = getattr(keys, key)
        if value is not None and not value.startswith("/"):
            notes.add((*place, key), f"{value!r} is relative: write the path from / on that host")
    # A leading dash would become an option of ssh, such as -oProxyCommand, which runs commands.
    if keys.ssh is not None and (not keys.ssh or keys.ssh.startswith("-")):
        notes.add((*place, "ssh"), f"{keys.ssh!r} is not a host: write an alias or user@host")
    if keys.python is not None and (not keys.python or keys.python.startswith("-")):
        notes.add((*place, "python"), f"{keys.python!r} is not a program")
    for name, value in keys.environment.items():
        if not _VARIABLE.fullmatch(name):
            notes.add(
                (*place, "environment", name), "is not a valid name of a variable", at_key=True
            )
        elif not is_scalar(value) or "\0" in text_of(value):
            notes.add((*place, "environment", name), "must be a single value")

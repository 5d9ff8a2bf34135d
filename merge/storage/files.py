"""The old name of `atomic`, `json_files` and `nfs`: import those."""

from merge.storage.atomic import (
    TEMPORARY_SUFFIX,
    fsync_folder,
    fsync_tree,
    is_temporary,
    move_into_place,
    publish_folder,
    storage_errors,
    write_atomic,
    write_bytes,
    write_exclusive,
)
from merge.storage.disk import open_at_once
from merge.storage.json_files import (
    Json,
    canonical_json,
    compact_json,
    is_finite_number,
    parse_json,
    read_json,
    write_json,
    write_json_exclusive,
)
from merge.storage.nfs import age_s, clock_of, disturb, fresh_names

__all__ = [
    "TEMPORARY_SUFFIX",
    "Json",
    "age_s",
    "canonical_json",
    "clock_of",
    "compact_json",
    "disturb",
    "fresh_names",
    "fsync_folder",
    "fsync_tree",
    "is_finite_number",
    "is_temporary",
    "move_into_place",
    "open_at_once",
    "parse_json",
    "publish_folder",
    "read_json",
    "storage_errors",
    "write_atomic",
    "write_bytes",
    "write_exclusive",
    "write_json",
    "write_json_exclusive",
]

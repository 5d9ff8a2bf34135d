"""The truth on disk: paths, records, atomic writes, locks, combination, statistics.

`merge_results` and `to_pandas` are the Python API for scripts and notebooks:

    from merge import merge_results, to_pandas

    document = merge_results(["server1/out", "server2/out"])
    frame = to_pandas(document)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from merge.api import merge_results, to_pandas

__all__ = ["merge_results", "to_pandas"]


def __getattr__(name: str) -> object:
    # Imported when it is used: every command imports this package, and few of them merge.
    if name in __all__:
        from merge import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

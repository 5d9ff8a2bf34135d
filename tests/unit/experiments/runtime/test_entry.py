"""How errors are named."""

from __future__ import annotations

import pytest
import torch

from experiments.runtime.entry import NonFiniteError, classify
from merge.errors import DataError, RecordError, StorageError, UsageError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DataError("no images"), "data"),
        (UsageError("fold 7"), "config"),
        (NonFiniteError("step 3"), "nan"),
        (torch.OutOfMemoryError("CUDA out of memory"), "cuda_oom"),
        (MemoryError(), "host_oom"),
        (StorageError("the disk is full"), "disk_full"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "host_oom"),
        (RecordError("damaged"), "other"),
        (ZeroDivisionError(), "other"),
    ],
)
def test_errors_have_a_kind(error, kind):
    assert classify(error) == kind

"""Mixed precision by option and device."""

from __future__ import annotations

import pytest

from experiments.runtime.precision import resolve_amp
from merge.errors import UsageError


@pytest.mark.parametrize(
    ("amp", "device", "has_bf16", "resolved"),
    [
        ("auto", "cpu", True, "off"),
        ("auto", "cuda", True, "bf16"),
        ("auto", "cuda", False, "fp16"),
        ("off", "cuda", True, "off"),
        ("fp16", "cuda", True, "fp16"),
    ],
)
def test_mixed_precision_follows_the_device_only_on_auto(amp, device, has_bf16, resolved):
    assert resolve_amp(amp, device, has_bf16=has_bf16) == resolved


def test_mixed_precision_on_the_cpu_is_refused_and_not_quietly_off():
    with pytest.raises(UsageError, match="amp=bf16 needs a GPU"):
        resolve_amp("bf16", "cpu", has_bf16=True)

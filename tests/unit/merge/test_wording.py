"""Texts of messages."""

from __future__ import annotations

import pytest

from merge.wording import size_text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1.0 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2**20, "1.0 MiB"),
        (1_500_000, "1.4 MiB"),
        (2**30 - 1, "1.0 GiB"),
        (3.4e9, "3.2 GiB"),
        (2**44, "16384.0 GiB"),
    ],
)
def test_a_size_is_shown_in_units_of_two_to_the_power_of_ten(num_bytes, text):
    assert size_text(num_bytes) == text

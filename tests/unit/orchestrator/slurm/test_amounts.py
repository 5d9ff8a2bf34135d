"""Time limits and memory as sbatch writes them, and what a retry raises."""

from __future__ import annotations

import math

import pytest

from merge.errors import UsageError
from orchestrator.slurm.amounts import check_time_limit, raised, time_limit_s
from orchestrator.slurm.request import SlurmRequest


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (None, None),
        (90, 5400),
        ("90", 5400),
        ("30:15", 1815),
        ("4:00:30", 14430),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("2-00:00:01", 172801),
        ("UNLIMITED", math.inf),
        (0, math.inf),
    ],
)
def test_time_limits_in_each_form_of_sbatch(time, seconds):
    assert time_limit_s(time) == seconds


@pytest.mark.parametrize("request_", [{"time": 1}, {"time": "2:39"}, {"time": 5, "signal_s": 200}])
def test_a_time_limit_that_leaves_no_time_to_reach_a_checkpoint_is_refused(request_):
    with pytest.raises(UsageError, match=r"no run would get as far as a checkpoint; .* at least"):
        check_time_limit(SlurmRequest(**request_))


@pytest.mark.parametrize(
    "request_", [{}, {"time": 3}, {"time": "1-00"}, {"time": 1, "signal_s": 30}]
)
def test_a_time_limit_with_time_for_a_checkpoint_is_taken(request_):
    check_time_limit(SlurmRequest(**request_))


@pytest.mark.parametrize(
    ("memory", "time", "counts", "expected"),
    [
        ("32G", "4:00:00", {}, ("32G", "4:00:00")),
        ("32G", "4:00:00", {"mem": 1}, ("49152M", "4:00:00")),
        ("32G", "4:00:00", {"mem": 2, "time": 1}, ("73728M", 480)),
        (4000, 90, {"mem": 1, "time": 2}, ("6000M", 360)),
        (None, "UNLIMITED", {"mem": 1, "time": 1}, (None, "UNLIMITED")),
    ],
)
def test_memory_and_time_grow_by_the_factors_of_the_study(memory, time, counts, expected):
    factors = {"mem": 1.5, "time": 2.0}
    found = raised(SlurmRequest(mem=memory, time=time, raise_on_retry=factors), counts)
    assert (found.mem, found.time) == expected


def test_without_a_factor_nothing_is_raised():
    request = SlurmRequest(mem="4G", time=60, raise_on_retry={"mem": 2.0})
    assert raised(request, {"time": 3}) == request

"""The Python API: what the commands do, as functions.

    from replicate import api

    plan = api.plan("demo", where={"shot": 1})
    report = api.run(plan, "outputs/demo")
    merged = api.merge("outputs/demo")
    merged.document["results"]
    frame = api.to_pandas("outputs/demo")

All of them raise errors of `merge.errors`; each message says what to do.
"""

from __future__ import annotations

from replicate.api.comparisons import compare, to_pandas
from replicate.api.evaluations import Evaluation, plan_evaluation
from replicate.api.plans import (
    Where,
    check_plan,
    freeze_plan,
    frozen_plan,
    load_study,
    plan,
    runs_of,
    with_resources,
)
from replicate.api.requests import RETRIED_STATES, cancel, retry, stop_workers
from replicate.api.results import (
    doctor,
    merge,
    merge_and_report,
    read_results,
    report,
    status,
)
from replicate.api.training import (
    bucket,
    cache_folder,
    find_problems,
    local_settings,
    run,
    share_gpus,
    work,
)

__all__ = [
    "RETRIED_STATES",
    "Evaluation",
    "Where",
    "bucket",
    "cache_folder",
    "cancel",
    "check_plan",
    "compare",
    "doctor",
    "find_problems",
    "freeze_plan",
    "frozen_plan",
    "load_study",
    "local_settings",
    "merge",
    "merge_and_report",
    "plan",
    "plan_evaluation",
    "read_results",
    "report",
    "retry",
    "run",
    "runs_of",
    "share_gpus",
    "status",
    "stop_workers",
    "to_pandas",
    "with_resources",
    "work",
]

"""When a failed run is tried again, after how long, and with what changed. Pure.

Everything follows from the records of a run's attempts, so a restarted executor decides as the
first one would have. After a GPU ran out of memory the same global batch is split into smaller
micro-batches, after the host did there are fewer loader processes. Only where batch norm is trained
does a smaller micro-batch change the number: the result says so then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from merge.records.records import AttemptRecord, Cause
from merge.records.sweep import Run

_LONGEST_WAIT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How often a run is retried after one cause."""

    limit: int
    """How many more attempts."""
    wait_s: float = 0.0
    """Wait before the first retry; doubled before each further one, up to ten minutes."""


DEFAULT_RULES: Mapping[Cause, Rule] = {
    Cause.PORT_IN_USE: Rule(limit=3),
    Cause.COLLECTIVE_TIMEOUT: Rule(limit=2, wait_s=30.0),
    Cause.RANK_FAILED: Rule(limit=2, wait_s=10.0),
    Cause.KILLED: Rule(limit=2, wait_s=30.0),
    Cause.STALLED: Rule(limit=2),
    Cause.CUDA_OOM: Rule(limit=8),
    Cause.HOST_OOM: Rule(limit=4, wait_s=10.0),
    Cause.SYSTEM_LIMIT: Rule(limit=4, wait_s=15.0),
    Cause.DISK_FULL: Rule(limit=0, wait_s=60.0),
    Cause.NO_RESULT: Rule(limit=0),
    Cause.UNKNOWN: Rule(limit=0),
}
"""The causes whose rule a study may set, with the defaults."""

NEVER = (Cause.NAN_LOSS, Cause.DATA, Cause.CONFIG)
"""Causes that are never retried: a second attempt would fail in the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rules of a sweep; a cause without a rule is never tried again."""

    rules: Mapping[Cause, Rule] = field(default_factory=lambda: DEFAULT_RULES)
    most: int | None = None
    """Retries after all causes together; None is no further limit."""


NO_RETRIES = Policy(rules={})


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySettings:
    """Settings of an attempt that change no number, but for the micro-batch under batch norm."""

    micro_batch: int | None
    """Of a rank; None where the run is not known to have one."""
    num_workers: int
    """Loader processes of a rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Retry, `wait_s` seconds from now."""

    wait_s: float
    count: int
    """Which retry after this cause it is, from 1."""
    limit: int


@dataclass(frozen=True, slots=True)
class NoRetry:
    """Do not retry."""

    reason: str = ""
    """Empty where there is no rule for the cause."""


def read_policy(document: Mapping[str, Any]) -> Policy:
    """The policy that a study's `retries:` describes, over the defaults.

    `{cause: limit}` or `{cause: {limit: .., wait_s: ..}}`, and `max` for all together.
    """
    rules = dict(DEFAULT_RULES)
    for name, given in document.items():
        if name == "max":
            continue
        fields = given if isinstance(given, Mapping) else {"limit": given}
        known = rules[Cause(name)]
        rules[Cause(name)] = Rule(
            limit=fields.get("limit", known.limit), wait_s=fields.get("wait_s", known.wait_s)
        )
    return Policy(rules=rules, most=document.get("max"))


def planned_memory(run: Run) -> MemorySettings:
    """What `run` is given in its first attempt.

    The micro-batch is the configuration's `micro_batch`; else, for a trainer of ours, a rank's
    share of `global_batch`.
    """
    batch = _count(run.config.get("global_batch")) if run.experiment else 0
    sizes = (batch // run.resources.devices_per_run, _count(run.config.get("micro_batch")))
    micro_batch = min((size for size in sizes if size), default=None)
    return MemorySettings(micro_batch=micro_batch, num_workers=run.resources.num_workers)


def next_memory(history: Sequence[AttemptRecord], planned: MemorySettings) -> MemorySettings:
    """The settings of the attempt after `history`: smaller ones where memory ran out."""
    micro_batch, num_workers = planned.micro_batch, planned.num_workers
    for record in history:
        if record.cause is Cause.CUDA_OOM and record.micro_batch and micro_batch:
            micro_batch = min(micro_batch, max(1, record.micro_batch // 2))
        if record.cause is Cause.HOST_OOM and record.num_workers is not None:
            num_workers = min(num_workers, record.num_workers // 2)
    return MemorySettings(micro_batch=micro_batch, num_workers=num_workers)


def deviations(history: Sequence[AttemptRecord], planned: MemorySettings) -> dict[str, Any]:
    """How the attempt after `history` differs from the plan, as a result records it."""
    used = next_memory(history, planned).micro_batch
    if used == planned.micro_batch:
        return {}
    last = max(record.number for record in history if record.cause is Cause.CUDA_OOM)
    return {
        "micro_batch": {
            "planned": planned.micro_batch,
            "used": used,
            "cause": Cause.CUDA_OOM.value,
            "attempt": last,
        }
    }


def decide(history: Sequence[AttemptRecord], policy: Policy) -> Retry | NoRetry:
    """Whether the run whose attempts `history` holds, the last one failed, is tried again.

    After a person's `replicate retry` the history is empty: nothing is retried automatically.
    """
    if not history:
        return NoRetry()
    last = history[-1]
    rule = policy.rules.get(last.cause) if last.cause else None
    if rule is None or last.cause is None:
        return NoRetry()
    if reason := _nothing_left(last):
        return NoRetry(reason)
    count = sum(record.cause is last.cause for record in history)
    if count > rule.limit:
        return NoRetry(f"tried again {rule.limit} times after {last.cause}" if rule.limit else "")
    failures = sum(record.cause in policy.rules for record in history)
    if policy.most is not None and failures > policy.most:
        return NoRetry(f"tried again {policy.most} times" if policy.most else "")
    wait_s = min(rule.wait_s * 2 ** (count - 1), _LONGEST_WAIT_S)
    return Retry(wait_s=wait_s, count=count, limit=rule.limit)


def _nothing_left(last: AttemptRecord) -> str:
    """Why a retry with smaller settings is impossible; empty where it is possible."""
    if last.cause is Cause.CUDA_OOM and not last.micro_batch:
        return "the configuration has no `micro_batch` that could be halved"
    if last.cause is Cause.CUDA_OOM and last.micro_batch == 1:
        return "not even a micro-batch of 1 fits: use a larger GPU, or smaller images"
    if last.cause is Cause.HOST_OOM and not last.num_workers:
        return "there is no loader process left to remove: the run needs more memory"
    return ""


def _count(value: object) -> int:
    """`value` where it is a whole number, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0

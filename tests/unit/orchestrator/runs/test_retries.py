"""Which failures are tried again, how often, and with what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sweeps import make_sweep

from merge.records.records import AttemptRecord, Cause, Outcome, Owner
from orchestrator.runs.retries import (
    DEFAULT_RULES,
    NEVER,
    NO_RETRIES,
    MemorySettings,
    NoRetry,
    Policy,
    Retry,
    Rule,
    decide,
    deviations,
    next_memory,
    planned_memory,
    read_policy,
)

PLANNED = MemorySettings(micro_batch=8, num_workers=4)
RECORD = AttemptRecord(
    number=1,
    token="t",
    owner=Owner(host="h", pid=1, pid_started="1", boot_id="b"),
    command=("true",),
    device="cpu",
    devices=("cpu0",),
    started=0.0,
    code={},
    outcome=Outcome.FAILED,
)

causes = st.sampled_from(sorted(Cause))
policies = st.builds(
    Policy,
    rules=st.dictionaries(
        st.sampled_from(sorted(DEFAULT_RULES)),
        st.builds(Rule, limit=st.integers(0, 5), wait_s=st.floats(0, 100)),
    ),
    most=st.none() | st.integers(0, 6),
)


def history_of(*ends: Cause, planned: MemorySettings = PLANNED) -> list[AttemptRecord]:
    """Attempts that ended so, each given what the policy gives after those before it."""
    history: list[AttemptRecord] = []
    for number, cause in enumerate(ends, start=1):
        given = next_memory(history, planned)
        history.append(
            replace(
                RECORD,
                number=number,
                cause=cause,
                micro_batch=given.micro_batch,
                num_workers=given.num_workers,
            )
        )
    return history


def test_a_busy_port_is_tried_again_at_once_three_times():
    policy = Policy()
    for count in (1, 2, 3):
        assert decide(history_of(*[Cause.PORT_IN_USE] * count), policy) == Retry(
            wait_s=0, count=count, limit=3
        )
    assert decide(history_of(*[Cause.PORT_IN_USE] * 4), policy) == NoRetry(
        "tried again 3 times after port_in_use"
    )


def test_waits_double():
    waits = []
    for count in (1, 2, 3):
        again = decide(
            history_of(*[Cause.NODE_FAILURE] * count),
            Policy(rules={Cause.NODE_FAILURE: Rule(limit=9, wait_s=30)}),
        )
        assert isinstance(again, Retry)
        waits.append(again.wait_s)
    assert waits == [30, 60, 120]


@pytest.mark.parametrize("cause", [*NEVER, Cause.CANCELLED, Cause.DONE, Cause.LOST, Cause.UNKNOWN])
def test_what_a_second_attempt_meets_again_is_not_tried(cause):
    assert decide(history_of(cause), Policy()) == NoRetry()


def test_out_of_gpu_memory_halves_the_micro_batch_down_to_one_and_then_gives_up():
    used = [PLANNED.micro_batch]
    history = history_of(Cause.CUDA_OOM)
    while isinstance(decide(history, Policy()), Retry):
        used.append(next_memory(history, PLANNED).micro_batch)
        history = history_of(*[Cause.CUDA_OOM] * (len(history) + 1))
    assert used == [8, 4, 2, 1]
    assert "not even a micro-batch of 1 fits" in decide(history, Policy()).reason


def test_a_deviation_says_what_was_planned_what_was_used_and_since_when():
    history = history_of(Cause.CUDA_OOM, Cause.KILLED)
    assert deviations(history, PLANNED) == {
        "micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1}
    }
    assert deviations(history_of(Cause.KILLED), PLANNED) == {}


def test_a_run_without_a_micro_batch_cannot_be_helped_and_is_told_how():
    history = history_of(Cause.CUDA_OOM, planned=MemorySettings(micro_batch=None, num_workers=0))
    assert "has no `micro_batch`" in decide(history, Policy()).reason


def test_out_of_host_memory_halves_the_loaders_and_changes_no_number():
    history = history_of(Cause.HOST_OOM)
    assert next_memory(history, PLANNED) == MemorySettings(micro_batch=8, num_workers=2)
    assert deviations(history, PLANNED) == {}
    without = history_of(*[Cause.HOST_OOM] * 4)
    assert [record.num_workers for record in without] == [4, 2, 1, 0]
    assert "no loader process left" in decide(without, Policy()).reason


@given(policies, st.lists(causes, max_size=60), st.integers(1, 64), st.integers(0, 9))
def test_every_run_ends_and_its_means_only_shrink(policy, ends, micro_batch, num_workers):
    planned = MemorySettings(micro_batch=micro_batch, num_workers=num_workers)
    retries, before = 0, planned
    for length in range(1, len(ends) + 1):
        history = history_of(*ends[:length], planned=planned)
        given_next = next_memory(history, planned)
        assert 1 <= given_next.micro_batch <= before.micro_batch
        assert 0 <= given_next.num_workers <= before.num_workers
        before = given_next
        again = decide(history, policy)
        if isinstance(again, NoRetry):
            break
        retries += 1
        assert 0 <= again.wait_s <= 600
        assert 1 <= again.count <= again.limit
    assert retries <= sum(rule.limit for rule in policy.rules.values())
    assert policy.most is None or retries <= policy.most


@given(policies, st.lists(causes, min_size=1, max_size=20))
def test_no_retry_is_decided_without_a_rule_for_its_cause(policy, ends):
    history = history_of(*ends)
    assert decide(history, NO_RETRIES) == NoRetry()
    if isinstance(decide(history, policy), Retry):
        assert ends[-1] in policy.rules


@pytest.mark.parametrize(
    ("config", "experiment", "resources", "micro_batch"),
    [
        ({"global_batch": 16}, "fewshot", {"devices_per_run": 2}, 8),
        ({"global_batch": 16, "micro_batch": 0}, "fewshot", {}, 16),
        ({"global_batch": 16, "micro_batch": 4}, "fewshot", {}, 4),
        ({"global_batch": 4, "micro_batch": 8}, "fewshot", {}, 4),
        ({"global_batch": 16}, None, {}, None),
        ({"micro_batch": 4}, None, {}, 4),
        ({"micro_batch": True}, None, {}, None),
        ({}, "fewshot", {}, None),
    ],
)
def test_the_planned_micro_batch_is_a_ranks(config, experiment, resources, micro_batch):
    command = None if experiment else ["true"]
    (run,) = make_sweep(command, experiment=experiment, config=config, **resources).runs
    assert planned_memory(run).micro_batch == micro_batch


def test_a_study_changes_only_the_rules_it_names():
    policy = read_policy({"killed": 7, "stalled": {"wait_s": 5}, "max": 3})
    assert policy.rules[Cause.KILLED] == Rule(limit=7, wait_s=30)
    assert policy.rules[Cause.STALLED] == Rule(limit=2, wait_s=5)
    assert policy.rules[Cause.PORT_IN_USE] == DEFAULT_RULES[Cause.PORT_IN_USE]
    assert policy.most == 3

"""Merging is idempotent, commutative and associative, to the byte, whatever the inputs hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.grids import entry_of, make_grid, make_result

from merge.results.combine import combine
from merge.results.documents import contribution_of_view, view_bytes
from merge.results.entries import Problem
from merge.results.legacy import LegacyEntry
from merge.results.unite import Contribution
from merge.results.view import merge_views

SWEEP = make_grid(cells=("a", "b"))
POLICIES = ("error", "newest", "keep-first")

entries = st.builds(
    lambda run, miou, token, finished, protocol: entry_of(
        make_result(
            run,
            miou,
            token=token,
            finished=finished,
            details={"protocol": protocol, "episode_list_hash": protocol},
            deviations={"micro_batch": {"planned": 8, "used": 4}} if miou > 0.6 else {},
        )
    ),
    st.sampled_from(SWEEP.runs),
    st.sampled_from([0, 0.5, 0.75]),
    st.sampled_from(["t1", "t2"]),
    st.sampled_from([1.0, 2]),
    st.sampled_from(["bam", "hsnet"]),
)
legacy_entries = st.builds(
    LegacyEntry,
    cell=st.sampled_from(["a", "b", "unplanned"]),
    averaged=st.sampled_from(["0", "1"]),
    metrics=st.fixed_dictionaries({"miou": st.sampled_from([0.5, 0.6])}),
    unit=st.sampled_from(["percent", "fraction"]),
)
problems = st.builds(
    Problem,
    run_id=st.just("a-fold0"),
    file=st.sampled_from(["x.json", "y.json"]),
    reason=st.sampled_from(["torn", "foreign"]),
    folder=st.sampled_from(["one", "two"]),
)
asides = st.builds(
    lambda entry: Problem(run_id=entry.run_id, file="aside.json", reason="late", entry=entry),
    entries,
)


@st.composite
def contributions(draw) -> Contribution:
    found: dict[str, list] = {}
    for entry in draw(st.lists(entries, max_size=3)):
        found.setdefault(entry.run_id, []).append(entry)
    return Contribution(
        sweep=SWEEP,
        entries=found,
        legacy=draw(st.lists(legacy_entries, max_size=2)),
        problems=draw(st.lists(problems, max_size=1)),
        aside=draw(st.lists(asides, max_size=1)),
    )


def merged_bytes(parts, policy) -> bytes:
    named = {f"input{i}": part for i, part in enumerate(parts)}
    return view_bytes(combine(named, on_conflict=policy).document)


def through_a_view(parts, policy) -> Contribution:
    """`parts` merged into a file, and that file read again."""
    return contribution_of_view("view.json", json.loads(merged_bytes(parts, policy)))


@settings(max_examples=150, deadline=None)
@given(
    parts=st.lists(contributions(), min_size=1, max_size=4),
    policy=st.sampled_from(POLICIES),
    data=st.data(),
)
def test_any_permutation_partition_and_repetition_merges_to_the_same_bytes(parts, policy, data):
    whole = merged_bytes(parts, policy)
    again = [*parts, *data.draw(st.lists(st.sampled_from(parts), max_size=2))]
    shuffled = data.draw(st.permutations(again))
    cut = data.draw(st.integers(0, len(shuffled)))
    groups = [group for group in (shuffled[:cut], shuffled[cut:]) if group]
    views = [through_a_view(group, policy) for group in groups]
    assert merged_bytes(views, policy) == whole
    assert merged_bytes([*views, shuffled[0]], policy) == whole


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(contributions(), min_size=1, max_size=3), more=contributions())
def test_adding_results_never_removes_one(parts, more):
    before = json.loads(merged_bytes(parts, "error"))
    after = json.loads(merged_bytes([*parts, more], "error"))
    for run_id, found in before["runs"].items():
        assert all(entry in after["runs"][run_id] for entry in found)
    for name in ("aside", "quarantined", "legacy"):
        assert all(entry in after[name] for entry in before[name])


@given(part=contributions())
def test_a_view_says_of_itself_all_that_it_was_made_of(part):
    view = json.loads(merged_bytes([part], "error"))
    again = merge_views({"bucket": view})
    assert view_bytes(again.document) == merged_bytes([part], "error")
    assert again.sweep == SWEEP


def results_of(run, *values):
    return Contribution(
        sweep=SWEEP,
        entries={
            run.run_id: [
                entry_of(make_result(run, miou, finished=finished, token=token))
                for miou, finished, token in values
            ]
        },
    )


@pytest.mark.parametrize(
    ("policy", "counted"), [("error", None), ("newest", 0.8), ("keep-first", 0.6)]
)
def test_the_policy_chooses_by_finished_time(policy, counted):
    run = SWEEP.runs[0]
    part = results_of(run, (0.8, 30.0, "a"), (0.6, 10.0, "b"), (0.7, 20.0, "c"))
    merged = combine({"x": part}, on_conflict=policy)
    assert merged.document["results"].get("a", {}).get("0") == (counted and {"miou": counted})
    assert len(merged.document["runs"][run.run_id]) == 3
    assert merged.is_clean is (counted is not None)


@pytest.mark.parametrize(("policy", "counted"), [("newest", 0.8), ("keep-first", 0.6)])
def test_ties_in_time_go_by_token(policy, counted):
    run = SWEEP.runs[0]
    part = results_of(run, (0.8, 10.0, "b"), (0.6, 10.0, "a"))
    document = combine({"x": part}, on_conflict=policy).document
    assert document["results"]["a"]["0"] == {"miou": counted}

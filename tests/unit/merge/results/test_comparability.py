"""Which cells are flagged, with exactly what differs between which runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.grids import entry_of, make_grid, make_result, write_result, write_sweep

from merge.errors import ConfigChangedError, IncomparableError
from merge.results.combine import combine
from merge.results.flags import flag_lines
from merge.results.unite import Contribution
from merge.results.view import merge_inputs, rebuild

CELL = "pascal5i_resnet50_1shot"


def flags_of(sweep, fields_of, cell=CELL):
    """Flags of a cell; `fields_of` gives the fields of each run's result."""
    entries = {r.run_id: [entry_of(make_result(r, 0.5, **fields_of(r)))] for r in sweep.runs}
    document = combine({"x": Contribution(sweep=sweep, entries=entries)}).document
    return document["results"][cell].get("flags", [])


def last_differs(part, key, one, other):
    return lambda run: {part: {key: other if run.axes["fold"] == 3 else one}}


@pytest.mark.parametrize(
    ("part", "key", "one", "other", "texts"),
    [
        ("details", "protocol", "bam", "hsnet", ("bam", "hsnet")),
        ("details", "mask_variant", "exact", "field", ("exact", "field")),
        ("details", "global_batch", 16, 8, ("16", "8")),
        ("details", "amp", "bf16", "off", ("bf16", "off")),
        ("details", "weights", "v1", "v2", ("v1", "v2")),
        ("details", "test_seeds", [0], [0, 1], ("[0]", "[0,1]")),
        ("details", "test_episodes", 1000, 4000, ("1000", "4000")),
        ("details", "eval_size", "original", "resized", ("original", "resized")),
        ("details", "pair_list", "derived", "hsnet", ("derived", "hsnet")),
        ("details", "min_area_px", 2, 1024, ("2", "1024")),
        ("code", "version", "0.1.0", "0.2.0", ("0.1.0", "0.2.0")),
        ("details", "data_fingerprint", "abc", None, ("abc", "not recorded")),
        ("code", "source", "abc", "def", ("abc", "def")),
        ("code", "git_commit", "abc", "def", ("abc", "def")),
    ],
)
def test_what_must_be_equal_in_a_cell_is_flagged_where_it_differs(part, key, one, other, texts):
    assert flags_of(make_grid(), last_differs(part, key, one, other)) == [
        {"differs": f"{part}.{key}", "runs": {texts[0]: ["0", "1", "2"], texts[1]: ["3"]}}
    ]


@pytest.mark.parametrize(("other", "is_flagged"), [("2.9.1+cpu", False), ("3.0.0", True)])
def test_the_major_version_of_torch_counts(other, is_flagged):
    flags = flags_of(make_grid(), last_differs("details", "torch", "2.6.0", other))
    assert [flag["differs"] for flag in flags] == ["details.torch_major"] * is_flagged


def test_a_commit_that_changed_no_source_is_no_difference():
    def fields_of(run):
        return {"code": {"source": "same", "git_commit": str(run.axes["fold"])}}

    assert flags_of(make_grid(), fields_of) == []


def test_uncommitted_changes_are_a_difference_where_no_source_is_recorded():
    def fields_of(run):
        return {"code": {"git_commit": "abc", "git_dirty": run.axes["fold"] == 3}}

    expected = {"abc": ["0", "1", "2"], "abc with changes": ["3"]}
    assert flags_of(make_grid(), fields_of) == [{"differs": "code.git_commit", "runs": expected}]


def test_a_recorded_deviation_is_flagged_with_planned_and_used():
    used = {"micro_batch": {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1}}
    flags = flags_of(make_grid(), lambda run: {"deviations": used if run.axes["fold"] == 1 else {}})
    assert flags == [
        {
            "differs": "deviations",
            "runs": {"as configured": ["0", "2", "3"], "micro_batch 8 -> 4 (cuda_oom)": ["1"]},
        }
    ]


def test_lists_of_episodes_differ_between_folds_by_nature():
    sweep = make_grid()
    assert flags_of(sweep, lambda run: {"details": {"episode_list_hash": run.run_id}}) == []


def test_methods_tested_on_different_lists_of_one_fold_are_flagged():
    sweep = make_grid(cells=("abcb", "prototype"), folds=(0, 1))

    def fields_of(run):
        is_odd = run.run_id == "abcb-fold1"
        return {"details": {"episode_list_hash": "odd" if is_odd else str(run.axes["fold"])}}

    expected = {"odd": ["abcb-fold1"], "1": ["prototype-fold1"]}
    for cell in ("abcb", "prototype"):
        assert flags_of(sweep, fields_of, cell) == [
            {"differs": "details.episode_list_hash", "runs": expected}
        ]


def test_a_list_that_only_one_method_recorded_is_a_difference():
    sweep = make_grid(cells=("abcb", "prototype"), folds=(0,))

    def fields_of(run):
        return {"details": {"episode_list_hash": "one"} if run.cell == "abcb" else {}}

    expected = {"one": ["abcb-fold0"], "not recorded": ["prototype-fold0"]}
    assert flags_of(sweep, fields_of, "abcb") == [
        {"differs": "details.episode_list_hash", "runs": expected}
    ]


def test_strict_refuses_flagged_cells_and_writes_nothing(tmp_path):
    sweep = make_grid()
    paths = write_sweep(tmp_path, sweep)
    for run, protocol in zip(sweep.runs, ("bam", "bam", "bam", "hsnet"), strict=True):
        write_result(tmp_path, run, 0.5, details={"protocol": protocol})
    with pytest.raises(
        IncomparableError, match=r"protocol differs between 0/1/2 \(bam\)"
    ) as caught:
        rebuild(tmp_path, is_strict=True)
    assert caught.value.exit_code == 2
    assert not paths.results.exists()


def test_sweeps_of_different_protocols_are_refused_with_key_and_values(tmp_path):
    sweep = make_grid()
    runs = tuple(
        replace(run, config={**run.config, "protocol": "hsnet"}, config_hash="other")
        for run in sweep.runs
    )
    first = replace(
        sweep, runs=tuple(replace(r, config={**r.config, "protocol": "bam"}) for r in sweep.runs)
    )
    write_sweep(tmp_path / "a", first)
    write_sweep(tmp_path / "b", replace(sweep, runs=runs))
    with pytest.raises(ConfigChangedError, match=r'protocol: "bam" -> "hsnet" \(in 4 runs\)'):
        merge_inputs([tmp_path / "a", tmp_path / "b"], tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


OLD = {"source": "old", "version": "1", "git_commit": "a"}
NEW = {"source": "new", "version": "1", "git_commit": "a"}


def document_of(fields_of, cells=("one", "two", "three")):
    sweep = make_grid(cells=cells, folds=(0, 1))
    entries = {r.run_id: [entry_of(make_result(r, 0.5, **fields_of(r)))] for r in sweep.runs}
    return combine({"x": Contribution(sweep=sweep, entries=entries)}).document


def test_cells_of_one_table_made_by_other_code_are_flagged_once():
    document = document_of(lambda run: {"code": NEW if run.cell == "two" else OLD})
    assert document["flags"] == [
        {"differs": "code.source", "runs": {"old": ["one", "three"], "new": ["two"]}}
    ]
    assert flag_lines(document) == [
        "not comparable: cells of this table: code.source differs between one/three (old) "
        "and two (new)"
    ]
    assert not any("flags" in view for view in document["results"].values())


@pytest.mark.parametrize(
    ("code", "key"),
    [
        ({"version": "2"}, "code.version"),
        ({"git_diff": "changes", "git_dirty": True}, "code.git_diff"),
        ({"source": None, "git_commit": "b"}, "code.source"),
    ],
)
def test_version_and_uncommitted_changes_are_compared_between_cells(code, key):
    document = document_of(lambda run: {"code": OLD | code if run.cell == "two" else OLD})
    assert key in [flag["differs"] for flag in document["flags"]]
    assert document["flags"][0]["runs"].keys() != {"not recorded"}


def test_a_commit_is_no_difference_between_cells_nor_is_committing_changes():
    def code_of(run):
        changed = {"git_diff": "changes", "git_dirty": True}
        return {"code": OLD | {"one": {}, "two": {"git_commit": "b"} | changed}.get(run.cell, {})}

    assert "flags" not in document_of(code_of)


def test_a_difference_within_every_cell_is_said_by_the_cells_alone():
    document = document_of(lambda run: {"code": OLD if run.axes["fold"] else NEW})
    assert "flags" not in document
    assert [len(view["flags"]) for view in document["results"].values()] == [1, 1, 1]


def test_many_cells_are_counted_in_the_line_and_named_in_the_file():
    names = tuple(f"c{number}" for number in range(9))
    document = document_of(lambda run: {"code": NEW if run.cell == "c0" else OLD}, names)
    assert flag_lines(document) == [
        "not comparable: cells of this table: code.source differs between c0 (new) "
        "and c1/c2/c3/c4/4 more (old)"
    ]
    assert document["flags"][0]["runs"]["old"] == list(names[1:])


EARLIER = [{"attempts": [1, 2], **OLD}]
TEXT = (
    "attempts 1, 2: source old, papergrid 1, commit a; attempt 3: source new, papergrid 1, commit a"
)


@pytest.mark.parametrize("mixed", [(1,), (0, 1)])
def test_a_run_whose_attempts_had_other_code_is_flagged_also_where_all_did(mixed):
    def fields_of(run):
        earlier = EARLIER if run.axes["fold"] in mixed else ()
        return {"code": NEW, "attempt": 3, "earlier_code": earlier}

    document = document_of(fields_of, ("one",))
    runs = {"one code": ["0"], TEXT: ["1"]} if mixed == (1,) else {TEXT: ["0", "1"]}
    assert document["results"]["one"]["flags"] == [{"differs": "code of attempts", "runs": runs}]


def test_code_of_attempts_and_of_cells_is_refused_by_strict_and_survives_a_second_merge(tmp_path):
    sweep = make_grid(cells=("one", "two"), folds=(0, 1))
    paths = write_sweep(tmp_path / "out", sweep)
    for run in sweep.runs:
        code = {"code": NEW} if run.cell == "one" else {"code": NEW | {"source": "newer"}}
        mixed = {"earlier_code": EARLIER, "attempt": 3} if run.run_id == "one-fold0" else {}
        write_result(tmp_path / "out", run, 0.5, **code, **mixed)
    with pytest.raises(IncomparableError) as refused:
        rebuild(tmp_path / "out", is_strict=True)
    assert "one: code of attempts differs between 0" in str(refused.value)
    assert "cells of this table: code.source differs between one" in str(refused.value)
    first = rebuild(tmp_path / "out").document
    assert merge_inputs([paths.results], tmp_path / "again.json").document == first
    # From the index too, which does not read the results again.
    assert rebuild(tmp_path / "out").document == first


def test_a_smaller_micro_batch_says_where_it_changes_the_number():
    used = {"planned": 8, "used": 4, "cause": "cuda_oom", "attempt": 1, "changes_number": True}
    flags = flags_of(make_grid(), lambda _: {"deviations": {"micro_batch": used}})
    text = "micro_batch 8 -> 4 (cuda_oom), which changes the number"
    assert flags == [{"differs": "deviations", "runs": {text: ["0", "1", "2", "3"]}}]


@pytest.mark.parametrize("other", [4, None])
def test_batch_norm_over_another_number_of_items_is_flagged(other):
    flags = flags_of(make_grid(), last_differs("details", "batch_norm_items", 8, other))
    text = "not recorded" if other is None else "4"
    runs = {"8": ["0", "1", "2"], text: ["3"]}
    assert flags == [{"differs": "details.batch_norm_items", "runs": runs}]

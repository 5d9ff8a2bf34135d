"""What a merge compares, repeats and calls a baseline is what the manifest in the plan says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from support.grids import make_grid, make_result, write_result, write_sweep

from merge.api import merge_results
from merge.records.config_hash import config_hash
from merge.records.manifest import Manifest, manifest_from_json
from merge.records.sweep import Axis, Sweep
from merge.results.entries import entry_of
from merge.results.paired import compare
from merge.results.view import rebuild
from merge.storage.json_files import write_json

SALIENCY = manifest_from_json(
    {
        "metrics": {"miou": {"unit": "number"}},
        "comparability": {
            "recorded": ["images", "blur", "list"],
            "equal_in_a_cell": ["images"],
            "equal_in_a_pair": ["blur"],
            "test_list": {"hash": "list", "decided_by": ["cell"]},
        },
        "repeats": ["observer", "seed"],
        "baseline": {"label": "centre bias", "details": "before"},
        "bootstrap": "image bootstrap",
    }
)


def differing(view):
    """What the flags of all cells of a view name."""
    flags = [flag for cell in view["results"].values() for flag in cell.get("flags", ())]
    return [flag["differs"] for flag in flags]


def merged(output: Path, sweep: Sweep, *, manifest: Manifest, **details: object) -> dict:
    """The view of a sweep whose runs all recorded `details`; a callable is given the run."""
    sweep = replace(sweep, frozen_manifest=manifest)
    write_sweep(output, sweep)
    for index, run in enumerate(sweep.runs):
        own = {k: v(run) if callable(v) else v for k, v in details.items()}
        write_result(output, run, 0.5 + index / 100, details=own)
    return rebuild(output).document


def test_only_details_that_the_manifest_lists_flag_a_cell(tmp_path):
    view = merged(
        tmp_path,
        make_grid(folds=(0, 1)),
        manifest=SALIENCY,
        images=lambda run: f"images{run.axes['fold']}",
        protocol=lambda run: f"protocol{run.axes['fold']}",
        blur=lambda run: run.axes["fold"],
    )
    assert differing(view) == ["details.images"]
    traits = view["runs"]["pascal5i_resnet50_1shot-fold1"][0]["traits"]
    assert traits == {"details.images": "images1", "details.blur": 1}


def test_runs_that_share_a_test_list_by_the_manifests_keys_are_flagged(tmp_path):
    sweep = make_grid(folds=(0, 1))
    view = merged(tmp_path, sweep, manifest=SALIENCY, list=lambda run: str(run.axes["fold"]))
    assert differing(view) == ["details.list"]


def test_the_baseline_stands_under_the_manifests_label(tmp_path):
    (cell,) = merged(
        tmp_path, make_grid(folds=(0, 1)), manifest=SALIENCY, before={"miou": 0.25, "epoch": 0}
    )["results"].values()
    assert cell["centre bias"] == {"miou": 0.25}
    assert "untrained" not in cell
    assert merge_results([tmp_path])["results"] == {"pascal5i_resnet50_1shot": cell}


def test_an_experiment_without_a_baseline_has_none(tmp_path):
    plain = replace(SALIENCY, baseline=None)
    sweep = make_grid(folds=(0, 1))
    (cell,) = merged(tmp_path, sweep, manifest=plain, before={"miou": 0.25})["results"].values()
    assert "centre bias" not in cell


def test_an_interval_over_items_is_called_as_the_manifest_says(tmp_path):
    (cell,) = merged(
        tmp_path,
        make_grid(folds=(0, 1)),
        manifest=SALIENCY,
        reported="final",
        final={"bootstrap": {"standard_error": {"miou": 0.1}}},
    )["results"].values()
    assert cell["ci"]["method"] == "image bootstrap within 2 folds"


def repeated(names: tuple[str, str], values: tuple[int, ...] = (0, 1)) -> Sweep:
    """A grid over `cell` and two axes called `names`, averaged over the first."""
    sweep = make_grid(cells=("a",), folds=values)
    runs = []
    for run in sweep.runs:
        for second in values:
            axes = {"cell": "a", names[0]: run.axes["fold"], names[1]: second}
            name = f"a{second}-{run.axes['fold']}"
            runs.append(
                replace(
                    run,
                    run_id=name,
                    path=name,
                    cell=f"a{second}",
                    axes=axes,
                    config=axes,
                    config_hash=config_hash(axes, experiment="fewshot", command=None),
                )
            )
    axes = (Axis(name="cell", values=("a",)), *(Axis(name=n, values=values) for n in names))
    return replace(sweep, axes=axes, average_over=names[0], runs=tuple(runs))


def test_runs_are_taken_together_over_the_manifests_axes(tmp_path):
    view = merged(tmp_path / "x", repeated(("observer", "seed")), manifest=SALIENCY)
    (both,) = view["over_both"].values()
    assert both["complete"]
    assert both["ci"]["method"] == "t over 2 seeds"
    swapped = merged(tmp_path / "y", repeated(("seed", "observer")), manifest=SALIENCY)
    assert swapped["over_both"]["cell=a"]["ci"]["method"] == "t over 2 seeds"
    other = merged(tmp_path / "z", repeated(("observer", "size")), manifest=SALIENCY)
    assert "over_both" not in other


def test_pairs_are_compared_in_the_manifests_details(tmp_path):
    sweep = replace(repeated(("observer", "seed")), frozen_manifest=SALIENCY)
    counted = {
        run.run_id: entry_of(
            make_result(run, 0.5, details={"blur": run.axes["seed"], "protocol": run.axes["seed"]}),
            SALIENCY,
        )
        for run in sweep.runs
    }
    (found,) = compare(sweep, counted, "seed", ("0", "1"))
    assert len(found.warnings) == 2
    assert all("details.blur differs: 0 and 1" in line for line in found.warnings)


def test_the_folder_of_a_run_alone_is_read_as_another_inputs_plan_says(tmp_path):
    sweep = replace(make_grid(folds=(0, 1)), frozen_manifest=SALIENCY)
    first, second = sweep.runs
    write_sweep(tmp_path / "out", sweep)
    write_result(tmp_path / "out", first, 0.5, details={"images": "a"})
    alone = tmp_path / "alone" / second.path
    write_json(alone / "run.json", second.to_spec(sweep))
    write_result(tmp_path / "alone", second, 0.6, details={"images": "b", "protocol": "p"})
    document = merge_results([tmp_path / "out", alone])
    assert document["runs"][second.run_id][0]["traits"] == {"details.images": "b"}

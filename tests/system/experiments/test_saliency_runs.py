"""Saliency runs with two gloo ranks on generated images: learning, resuming, sweeping."""

from __future__ import annotations

import json

import pytest
import torch
from support.commands import replicate
from support.ranks import ROOT, TrialRun, wait_until

from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

GOLDEN = ROOT / "tests" / "golden" / "saliency.json"
CONFIG = json.loads(GOLDEN.read_text())["config"]
TRAINER = ("-m", "experiments.runtime", "saliency")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cache):
    """Trained with two ranks."""
    run = TrialRun(tmp_path_factory.mktemp("runs") / "undisturbed", cache).write_spec(CONFIG)
    ranks = run.start(1, 2, *TRAINER)
    assert ranks.wait(200) == 0, ranks.output()
    return run


def test_it_beats_the_centre_bias_and_the_untrained_model(undisturbed):
    result = undisturbed.result(1)
    untrained, final = result["details"]["untrained"], result["details"]["final"]
    assert result["metrics"] == {name: final[name] for name in result["metrics"]}
    # The untrained model is the centre bias: it gains nothing over itself.
    assert untrained["ig"] == pytest.approx(0, abs=1e-9)
    assert final["ig"] > 0.6
    for name, margin in {"auc": 0.08, "sauc": 0.2, "nss": 0.8, "cc": 0.2, "sim": 0.1}.items():
        assert final[name] > untrained[name] + margin, name
    assert final["kl"] < untrained["kl"] - 0.3
    gains = final["ig_per_image"]
    assert len(gains) == result["details"]["test_images"] == 11
    assert sum(gains.values()) / 11 == pytest.approx(final["ig"], rel=1e-12)


def test_its_numbers_are_the_frozen_ones(undisturbed):
    """Of losses and metrics; vector instructions of other CPUs sum in another order."""
    golden, result = json.loads(GOLDEN.read_text()), undisturbed.result(1)
    assert result["details"]["test_list_hash"] == golden["test_list_hash"]
    losses = [entry["loss"] for entry in result["details"]["history"]]
    assert losses == pytest.approx(golden["losses"], rel=1e-5)
    assert result["metrics"] == pytest.approx(golden["metrics"], rel=1e-3)


def test_it_goes_on_after_sigkill_to_the_same_numbers(tmp_path, cache, undisturbed):
    run = TrialRun(tmp_path / "killed", cache).write_spec(CONFIG)
    ranks = run.start(1, 2, *TRAINER)
    wait_until(lambda: run.has_event(1, "checkpoint", epoch=0, step=8), ranks, 200)
    ranks.kill()
    assert not (run.attempt(1) / "result.json").exists()
    # Loader processes change no number either.
    ranks = run.start(2, 2, *TRAINER, PAPERGRID_NUM_WORKERS="1")
    assert ranks.wait(200) == 0, ranks.output()
    first = run.events(2)[0]
    assert (first["epoch"], first["step"]) >= (0, 8)
    for name in ("untrained", "best", "final", "history"):
        assert run.result(2)["details"][name] == undisturbed.result(1)["details"][name]


def test_it_is_swept_over_two_axes_merged_and_reported(tmp_path, cache):
    """The demo's two variants and two folds, in one process each, with validation images."""
    demo = (ROOT / "replicate" / "studies" / "saliency_demo.yaml").read_text()
    (tmp_path / "alone.yaml").write_text(demo.replace("devices_per_run: 2", "devices_per_run: 1"))
    output = tmp_path / "out"
    swept = replicate(
        *("run", "--study", "alone.yaml", "--debug", "--devices", "cpu:2"),
        *("--output-dir", output, "--cache-dir", cache),
        *("--set", "validation=0.1", "--set", "report=best"),
        cwd=tmp_path,
        env={"OMP_NUM_THREADS": "1"},
        timeout_s=280,
    )
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "ig (bit)" in swept.stdout
    merged = read_json(output / "replication_results.json")
    assert sorted(merged["results"]) == ["beacons_baseline", "beacons_entropy"]
    for cell in merged["results"].values():
        found = [cell[fold]["ig"] for fold in ("0", "1")]
        assert cell["mean"]["ig"] == pytest.approx(sum(found) / 2)
    results = [read_json(path) for path in output.glob("*/*/result.json")]
    assert len(results) == 4
    for result in results:
        details = result["details"]
        assert (details["validation_images"], details["train_images"]) in ((9, 81), (9, 82))
        (entry,) = details["history"]
        assert entry["validation_ig"] != entry["ig"] == result["metrics"]["ig"]
    reported = replicate("report", output, cwd=tmp_path)
    assert reported.returncode == 0, reported.stderr
    assert "centre bias" in (output / "report.md").read_text()


def test_slurm_scripts_ask_for_4_gpus(tmp_path):
    words = ("--study", "saliency", "--where", "dataset=beacons", "--folds", "0", "--dry-run")
    shown = replicate("submit", "--slurm", *words, "--output-dir", tmp_path / "out", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for line in ("#SBATCH --gres=gpu:4", "#SBATCH --time=12:00:00", "--devices-per-run 4"):
        assert line in shown.stdout
    assert not (tmp_path / "out").exists()


if torch.cuda.is_available():

    def test_one_epoch_trains_on_a_cuda_device(tmp_path, cache):
        run = TrialRun(tmp_path / "cuda", cache).write_spec({**CONFIG, "epochs": 1})
        ranks = run.start(1, 1, *TRAINER, PAPERGRID_DEVICE="cuda")
        assert ranks.wait(200) == 0, ranks.output()
        details = run.result(1)["details"]
        assert details["untrained"]["ig"] == pytest.approx(0, abs=1e-6)
        assert details["final"]["ig"] > 0.1

"""docs/experiments.md: an experiment in a folder of one's own, as it lies in examples/."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest
import torch
from support.commands import replicate
from support.ranks import ROOT, TrialRun, wait_until

from merge.storage.json_files import read_json

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

EXAMPLE = ROOT / "examples" / "blobs"
CONFIG = {"epochs": 3, "global_batch": 16, "checkpoint_every_steps": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example, copied to where nothing of papergrid is."""
    folder = tmp_path_factory.mktemp("elsewhere") / "blobs"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def start(run: TrialRun, attempt: int, world_size: int, folder: Path, **more: str):
    return run.start(attempt, world_size, "-m", "experiments.runtime", f"{folder}/", **more)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, folder):
    """The example trained with two ranks."""
    root = tmp_path_factory.mktemp("runs")
    run = TrialRun(root / "undisturbed", root / "cache").write_spec(CONFIG)
    ranks = start(run, 1, 2, folder)
    assert ranks.wait(200) == 0, ranks.output()
    return run


def test_the_example_is_short():
    """Lines of code: no blank ones, no comments, no docstrings."""
    code = [ast.unparse(_without_docstrings(path)) for path in EXAMPLE.glob("*.py")]
    lines = [line for text in code for line in text.splitlines() if line.strip()]
    assert 20 < len(lines) <= 60


def test_it_learns_and_reports_metrics_of_its_own(undisturbed):
    result = undisturbed.result(1)
    details = result["details"]
    assert result["metrics"] == {
        "offset": details["best"]["offset"],
        "hits": details["best"]["hits"],
    }
    assert details["best"]["offset"] < details["untrained"]["offset"] / 3
    assert details["best"]["offset"] == min(entry["offset"] for entry in details["history"])
    assert details["config"]["noise"] == 0.1


def test_it_goes_on_after_sigkill_to_the_same_numbers(tmp_path, folder, undisturbed):
    run = TrialRun(tmp_path / "killed", tmp_path / "cache").write_spec(CONFIG)
    ranks = start(run, 1, 2, folder)
    wait_until(lambda: run.has_event(1, "checkpoint", epoch=0, step=8), ranks, 200)
    ranks.kill()
    assert not (run.attempt(1) / "result.json").exists()
    ranks = start(run, 2, 2, folder)
    assert ranks.wait(200) == 0, ranks.output()
    first = run.events(2)[0]
    assert (first["epoch"], first["step"]) >= (0, 8)
    for name in ("untrained", "best", "final", "history"):
        assert run.result(2)["details"][name] == undisturbed.result(1)["details"][name]


def test_a_kill_between_the_two_checkpoints_leaves_the_best_model_to_be_written_again(
    tmp_path, folder, undisturbed
):
    """last.pt comes first: in that moment best.pt is of an earlier epoch."""
    run = TrialRun(tmp_path / "between", undisturbed.cache)
    shutil.copytree(undisturbed.folder, run.folder)
    last, path = run.last_checkpoint(), run.folder / "checkpoints" / "best.pt"
    best = torch.load(path, weights_only=True)
    assert best["evaluation"]["epoch"] == last["progress"]["epoch"] == 3
    best["evaluation"]["epoch"] = 1
    best["model"] = {name: torch.zeros_like(value) for name, value in best["model"].items()}
    torch.save(best, path)
    ranks = start(run, 2, 2, folder)
    assert ranks.wait(200) == 0, ranks.output()
    assert run.result(2)["details"]["best"] == undisturbed.result(1)["details"]["best"]
    written = torch.load(path, weights_only=True)
    assert written["evaluation"]["epoch"] == 3
    for name, value in last["model"].items():
        assert torch.equal(written["model"][name], value), name


def test_loader_processes_and_the_world_size_change_no_row(tmp_path, folder, undisturbed):
    run = TrialRun(tmp_path / "alone", tmp_path / "cache").write_spec(CONFIG)
    ranks = start(run, 1, 1, folder, PAPERGRID_NUM_WORKERS="1")
    assert ranks.wait(200) == 0, ranks.output()
    ours, theirs = (each.result(1)["details"] for each in (run, undisturbed))
    # Untrained models are equal to the last bit; gradients of two ranks sum in another order.
    assert ours["untrained"] == theirs["untrained"]
    assert ours["final"]["offset"] == pytest.approx(theirs["final"]["offset"], rel=1e-2)


def test_it_is_swept_merged_and_reported_with_metrics_of_its_own(tmp_path, folder):
    """As docs/experiments.md says, from the folder beside it; two of its four runs."""
    output, work = tmp_path / "out", folder.parent
    words = ("--study", "blobs/study.yaml", "--devices", "cpu:2", "--where", "noise=0.1")
    swept = replicate("run", *words, "--output-dir", output, cwd=work, timeout_s=280)
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert "offset (px)" in swept.stdout
    merged = read_json(output / "replication_results.json")
    (cell,) = merged["results"].values()
    found = [cell[seed]["offset"] for seed in ("0", "1")]
    assert cell["mean"]["offset"] == pytest.approx(sum(found) / 2)
    reported = replicate("report", output, cwd=work)
    assert reported.returncode == 0, reported.stderr
    assert "offset (px)" in (output / "report.md").read_text()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fewshots", "such as ./myfolder): did you mean 'fewshot'?"),
        ("./nothing", "nothing is no experiment: it has no options.py"),
    ],
)
def test_an_experiment_that_is_not_there_is_refused(tmp_path, word, message):
    run = TrialRun(tmp_path / "run", tmp_path / "cache").write_spec({})
    ranks = run.start(1, 1, "-m", "experiments.runtime", word)
    assert ranks.wait() == 2
    assert message in run.error(1)["message"]


def test_a_folder_whose_name_is_taken_is_refused(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "json")
    run = TrialRun(tmp_path / "run", tmp_path / "cache").write_spec({})
    ranks = run.start(1, 1, "-m", "experiments.runtime", str(tmp_path / "json"))
    assert ranks.wait() == 2
    assert "Python has another module 'json': rename the folder" in run.error(1)["message"]


def _without_docstrings(path: Path) -> ast.Module:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [part for part in node.body if not _is_docstring(part)] or [ast.Pass()]
    return tree


def _is_docstring(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)

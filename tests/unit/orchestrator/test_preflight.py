"""What would stop runs is found before any of them starts, all of it at once."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from support.studies import write_experiment
from support.sweeps import make_sweep

from merge.errors import PreflightError, SystemLimitError
from orchestrator.preflight import Places, find_problems, refuse

CHECK = """
from experiments.runtime.check import Problem

def problems(configs, places):
    seen = sorted(config["fold"] for config in configs)
    yield Problem("folds", f"{seen} below {places.data_root}", "get them")
    yield Problem("more", "second")
"""
TASK = "def open_task(options, context): ...\n"
OPTIONS = "from dataclasses import dataclass\n\n@dataclass\nclass Options: ...\n"


@pytest.fixture
def blobs(tmp_path, monkeypatch) -> Path:
    """An experiment of one's own, in the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "blobs"
    folder.mkdir()
    (folder / "options.py").write_text(OPTIONS)
    (folder / "task.py").write_text(TASK)
    write_experiment(folder)
    return folder


def places(tmp_path: Path) -> Places:
    return Places(data_root=tmp_path, weights=None, cache_dir=tmp_path / "cache")


def found(experiment: str | None, tmp_path: Path, command=None, **config: object):
    runs = make_sweep(command, folds=2, experiment=experiment, config=config).runs
    return [(each.about, each.message, each.fix) for each in find_problems(runs, places(tmp_path))]


def test_an_experiments_own_check_sees_every_configuration_and_the_places(tmp_path, blobs):
    (blobs / "check.py").write_text(CHECK)
    assert found("./blobs", tmp_path) == [
        ("folds", f"[0, 1] below {tmp_path}", "get them"),
        ("more", "second", ""),
    ]


def test_an_experiment_without_a_check_lacks_nothing(tmp_path, blobs):
    assert found("./blobs", tmp_path) == []


def test_values_that_do_not_go_together_are_a_problem_of_the_study(tmp_path, blobs):
    (blobs / "options.py").write_text(
        f"from merge.errors import UsageError\n{OPTIONS.replace('...', '')}"
        "    fold: int = 0\n"
        "    def __post_init__(self):\n"
        "        if self.fold: raise UsageError('fold=1 needs another scale')\n"
    )
    (blobs / "check.py").write_text(CHECK)
    assert found("./blobs", tmp_path) == [
        ("options", "fold=1 needs another scale", "change them in the study, or with --set")
    ]


def test_a_warm_up_that_does_not_end_in_the_training_is_a_problem_of_the_study(tmp_path, blobs):
    """Found by each run alone, a sweep of them would fail one after the other."""
    (blobs / "options.py").write_text(
        "from dataclasses import dataclass\n\n"
        "from experiments.runtime.options import OptimiserOptions, RuntimeOptions\n\n"
        "@dataclass\nclass Options:\n    fold: int = 0\n"
        "    runtime: RuntimeOptions = RuntimeOptions(epochs=3)\n"
        "    optimiser: OptimiserOptions = OptimiserOptions(warmup_epochs=3)\n"
    )
    ((about, message, _),) = found("./blobs", tmp_path)
    assert about == "options"
    assert message == (
        "warmup_epochs=3 must be less than the 3 epochs of the training: lower it or train longer"
    )


def test_own_code_that_fails_is_a_problem_with_its_line(tmp_path, blobs):
    (blobs / "check.py").write_text("def problems(configs, places):\n    return configs[7]\n")
    (blobs / "task.py").write_text("import nothing_of_this_name\n")
    (check, message, fix), (task, reason, _) = found("./blobs", tmp_path)
    assert (check, task) == ("check.py", "task.py")
    assert "IndexError: list index out of range" in message
    assert f"{blobs / 'check.py'}:2" in message
    assert "No module named 'nothing_of_this_name'" in reason
    assert fix == f"correct {blobs / 'check.py'}"


def test_all_that_few_shot_runs_lack_is_found_at_once(tmp_path):
    config = {"dataset": "pascal5i", "backbone": "resnet50", "shot": 1}
    problems = found("fewshot", tmp_path, **config)
    assert [about for about, _, _ in problems] == ["resnet50", "pascal5i"]
    assert "resnet50-0676ba61.pth is in none of" in problems[0][1]
    assert "replicate prepare --datasets pascal5i" in problems[1][2]


def test_a_python_without_torch_is_told_how_it_gets_it(tmp_path):
    bare = tmp_path / "python"
    # -S: without site-packages, as in an environment that has the control plane alone.
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    runs = make_sweep(None, folds=1, experiment="fewshot", config={"dataset": "shapes5i"}).runs
    there = Places(data_root=None, weights=None, cache_dir=tmp_path, python=str(bare))
    (problem,) = find_problems(runs, there)
    assert problem.message.startswith("torch, torchvision, timm, numpy, PIL, tensorboard cannot")
    root = Path(__file__).resolve().parents[3]
    assert problem.fix == f"{bare} -m pip install '{root}[train]'"
    assert (root / "pyproject.toml").is_file()


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        (("python", "walk.py"), ["walk.py"]),
        (("no-such-program", "x"), ["no-such-program"]),
        (("python", "-c", "pass", "{run_dir}/x.py"), []),
        (("true", "made.py"), []),
        (("bash", "there.sh"), []),
    ],
)
def test_programs_and_scripts_of_a_command_are_looked_for(tmp_path, monkeypatch, command, missing):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.sh").touch()
    messages = [message for _, message, _ in found(None, tmp_path, command=command)]
    assert [message.split(" is not there")[0] for message in messages] == missing
    assert all("fold=0" in message or "fold0" in message for message in messages)


def test_what_is_refused_names_every_problem_and_its_fix(tmp_path, blobs):
    (blobs / "check.py").write_text(CHECK)
    runs = make_sweep(None, folds=1, experiment="./blobs").runs
    with pytest.raises(PreflightError, match="nothing was started: 2 problems") as refused:
        refuse(find_problems(runs, places(tmp_path)))
    assert "-> get them" in str(refused.value)
    assert refused.value.exit_code == 2


def test_what_lies_on_other_machines_only_is_not_looked_for_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = replace(places(tmp_path), python=None, has_own_path=True)
    experiment = make_sweep(experiment="fewshot", folds=1).runs
    assert find_problems(experiment, elsewhere) == []
    assert find_problems(make_sweep(["from-a-module", "x"]).runs, elsewhere) == []
    (problem,) = find_problems(make_sweep(["python9", "absent.py"]).runs, elsewhere)
    assert problem.message.startswith("absent.py is not there")


@pytest.mark.parametrize(
    ("python", "message"),
    [
        ("/nowhere/bin/python", "/nowhere/bin/python cannot be started: No such file or directory"),
        ("/bin/true", "its check, started by /bin/true, ended without an answer"),
        ("/bin/echo", "its check, started by /bin/echo, printed '-m experiments.runtime.check"),
    ],
)
def test_a_python_that_is_none_is_a_problem(tmp_path, blobs, python, message):
    runs = make_sweep(None, folds=1, experiment="./blobs", config={}).runs
    [problem] = find_problems(runs, replace(places(tmp_path), python=python))
    assert problem.message.startswith(message)
    assert "name a Python that has papergrid" in problem.fix


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('reads'); os.system('echo more'); return []", None),
        ("sys.exit('no such thing')", "SystemExit: no such thing"),
        ("os.kill(os.getpid(), 9)", "its check was killed by signal 9; see above"),
        ("os._exit(0)", "ended without an answer"),
    ],
)
def test_whatever_an_own_check_does_is_an_answer(tmp_path, blobs, body, message):
    text = f"import os, sys\n\ndef problems(configs, places):\n    {body}\n"
    (blobs / "check.py").write_text(text)
    assert [message in each for _, each, _ in found("./blobs", tmp_path)] == [True] * bool(message)


def test_a_check_that_does_not_end_is_ended(tmp_path, blobs, monkeypatch, caplog):
    text = "import time\n\ndef problems(configs, places):\n    time.sleep(600)\n"
    (blobs / "check.py").write_text(text)
    monkeypatch.setattr("orchestrator.preflight._PATIENCE_S", 0.2)
    monkeypatch.setattr("orchestrator.preflight._LIMIT_S", 1.0)
    [(about, message, fix)] = found("./blobs", tmp_path)
    assert (about, message) == ("./blobs", "its check has not ended in 0 min")
    assert "--no-check" in fix
    assert "Ctrl-C ends it, --no-check starts without it" in caplog.text


def test_a_machine_without_a_free_process_may_be_tried_again(tmp_path, blobs, monkeypatch):
    def refused(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("orchestrator.preflight.subprocess.Popen", refused)
    with pytest.raises(SystemLimitError, match=r"the check of .* cannot be started now"):
        found("./blobs", tmp_path)


def test_a_check_that_takes_too_long_is_ended_and_what_it_found_counts(tmp_path, blobs):
    slow = CHECK + "    import time; print('chatter', flush=True); time.sleep(60)\n"
    (blobs / "check.py").write_text(slow)
    runs = make_sweep(None, folds=1, experiment="./blobs").runs
    notes: list[str] = []
    quick = replace(places(tmp_path), limit_s=3.0)
    assert [each.about for each in find_problems(runs, quick, notes.append)] == ["folds", "more"]
    assert notes == ["./blobs: its check took longer than 3 s and was ended"]


def test_a_check_that_fails_where_its_words_are_not_seen_carries_the_last_of_them(tmp_path, blobs):
    (blobs / "check.py").write_text(
        "import os\n\ndef problems(*_):\n    os.write(2, b'no disk')\n    os._exit(1)\n"
    )
    runs = make_sweep(None, folds=1, experiment="./blobs").runs
    (problem,) = find_problems(runs, replace(places(tmp_path), limit_s=60.0))
    assert "exit code 1; no disk" in problem.message

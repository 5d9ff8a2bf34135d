"""The run contract: what a process is started with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sweeps import make_sweep

from merge.errors import UsageError
from merge.storage.paths import RunPaths
from orchestrator.config.templates import (
    LAUNCH_PLACEHOLDERS,
    command_placeholders,
    fill_placeholders,
)
from orchestrator.machine.launch import Assignment, Launch, build_launch
from orchestrator.machine.own_modules import module_words

REPOSITORY = str(Path(__file__).resolve().parents[4])
CONFIG = {"lr": 1e-4, "name": "a b; rm -rf /", "flag": True, "nothing": None, "sizes": [1, 2]}


def launch(*, kind="cpu", devices=("cpu0",), inherited=None, given=None, **sweep) -> Launch:
    run = make_sweep(**sweep).runs[0]
    assignment = Assignment(
        paths=RunPaths(Path("/out/run/fold0")),
        number=3,
        token="token",
        executor="marker",
        kind=kind,
        devices=devices,
        port=4321,
        cwd=Path("/work"),
        cache_dir=Path("/cache"),
        **(given or {}),
    )
    return build_launch(run, assignment, inherited or {})


def test_a_command_is_started_as_it_is_with_its_placeholders_filled():
    command = ["prog", "--lr={lr}", "{name}", "{flag}{nothing}", "{sizes}", "{attempt_dir}/x"]
    assert launch(command=command, config=CONFIG).argv == (
        "prog",
        "--lr=0.0001",
        "a b; rm -rf /",
        "truenull",
        "[1, 2]",
        "/out/run/fold0/attempts/0003/x",
    )


@pytest.mark.parametrize(
    "word", ["${fold}", "awk {print $1}", '{"a": 1}', "{}", "{0}", "$${fold}", "{a.b}", "{a!r}"]
)
def test_other_braces_stay_as_they_are(word):
    assert fill_placeholders((word,), {"fold": 0}) == (word,)


@pytest.mark.parametrize("name", LAUNCH_PLACEHOLDERS)
def test_a_launch_fills_what_a_study_may_name_beside_its_keys(name):
    (word,) = launch(command=[f"{{{name}}}"]).argv
    assert word.startswith("/out/run/fold0")


def test_doubled_braces_are_literal_ones():
    assert fill_placeholders(("{{fold}} {fold}",), {"fold": 7}) == ("{fold} 7",)


def test_a_value_that_looks_like_a_placeholder_is_not_filled_again():
    assert fill_placeholders(("{a}",), {"a": "{b}", "b": 1}) == ("{b}",)


def test_all_placeholders_without_a_value_are_named():
    with pytest.raises(UsageError, match=r"no value for \{epoch\}, \{rate\}; it can use: lr"):
        fill_placeholders(("{rate}", "{epoch}", "{lr}"), {"lr": 1})


@given(st.lists(st.text(alphabet="{}$ab1_ ", max_size=12), max_size=3))
def test_a_plan_and_a_launch_see_the_same_placeholders(words):
    names = set(command_placeholders(words))
    filled = fill_placeholders(tuple(words), dict.fromkeys(names, "x"))
    assert len(filled) == len(words)
    if names:
        with pytest.raises(UsageError):
            fill_placeholders(tuple(words), {})


def test_the_environment_tells_a_process_all_it_needs():
    environment = launch(command=["true"], config=CONFIG, num_workers=2).environment
    told = {k: v for k, v in environment.items() if k.startswith("PAPERGRID_")}
    assert told == {
        "PAPERGRID_RUN_DIR": "/out/run/fold0",
        "PAPERGRID_RUN_SPEC": "/out/run/fold0/run.json",
        "PAPERGRID_ATTEMPT_DIR": "/out/run/fold0/attempts/0003",
        "PAPERGRID_ATTEMPT": "3",
        "PAPERGRID_TOKEN": "token",
        "PAPERGRID_EXECUTOR": "marker",
        "PAPERGRID_DEVICE": "cpu",
        "PAPERGRID_CACHE_DIR": "/cache",
        "PAPERGRID_NUM_WORKERS": "2",
        "PAPERGRID_CONFIG_FOLD": "0",
        "PAPERGRID_CONFIG_LR": "0.0001",
        "PAPERGRID_CONFIG_NAME": "a b; rm -rf /",
        "PAPERGRID_CONFIG_FLAG": "true",
        "PAPERGRID_CONFIG_NOTHING": "null",
    }


def test_data_and_weights_are_told_where_they_were_given():
    given_ = {"data_root": Path("/data"), "weights": Path("/w.pt")}
    environment = launch(command=["true"], given=given_).environment
    assert environment["PAPERGRID_DATA_ROOT"] == "/data"
    assert environment["PAPERGRID_WEIGHTS"] == "/w.pt"


def test_two_keys_that_become_one_variable_are_refused():
    with pytest.raises(UsageError, match="PAPERGRID_CONFIG_LR"):
        launch(command=["true"], config={"lr": 1, "LR": 2})


def test_what_describes_the_executor_is_not_handed_on():
    inherited = {
        "HOME": "/home/me",
        "PAPERGRID_DATA_ROOT": "/old",
        "PAPERGRID_CONFIG_OLD": "1",
        "RANK": "5",
        "GROUP_RANK": "2",
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "8",
        "MY_RANK": "mine",
        "PAPERGRID_MINE": "mine",
    }
    environment = launch(command=["true"], inherited=inherited).environment
    assert environment["HOME"] == "/home/me"
    assert environment["MY_RANK"] == environment["PAPERGRID_MINE"] == "mine"
    assert (environment["RANK"], environment["WORLD_SIZE"]) == ("0", "1")
    for name in ("PAPERGRID_DATA_ROOT", "PAPERGRID_CONFIG_OLD", "TORCHELASTIC_RUN_ID"):
        assert name not in environment
    assert "GROUP_RANK" not in environment


@pytest.mark.parametrize(
    ("sweep", "devices", "argv", "has_agent"),
    [
        (
            {"experiment": "fewshot"},
            1,
            [sys.executable, "-m", "experiments.runtime", "fewshot"],
            False,
        ),
        (
            {"experiment": "fewshot"},
            2,
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node=2", "-m", "experiments.runtime", "fewshot"),
            ],
            True,
        ),
        (
            {"command": ["./train"]},
            2,
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node=2", "--no-python", "./train"),
            ],
            True,
        ),
        ({"command": ["./train"], "launcher": "none"}, 2, ["./train"], False),
        ({"command": ["./train"]}, 1, ["./train"], False),
    ],
)
def test_torchrun_is_used_where_there_are_several_ranks(sweep, devices, argv, has_agent):
    names = tuple(f"cpu{n}" for n in range(devices))
    started = launch(devices=names, devices_per_run=devices, **sweep)
    assert list(started.argv) == argv
    assert started.has_agent is has_agent
    # Under torchrun the ranks' variables are the agent's to set.
    assert ("RANK" in started.environment) is not has_agent


def test_a_single_process_finds_the_variables_of_a_rank():
    environment = launch(command=["true"]).environment
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert [environment[name] for name in names] == ["0", "0", "1", "127.0.0.1", "4321"]


def test_a_run_sees_its_own_gpus_by_the_numbers_of_nvidia_smi():
    environment = launch(command=["true"], kind="cuda", devices=("2", "3")).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["PAPERGRID_DEVICE"] == "cuda"
    assert "OMP_NUM_THREADS" not in environment


@pytest.mark.parametrize(("inherited", "threads"), [({}, "1"), ({"OMP_NUM_THREADS": "4"}, "4")])
def test_a_cpu_run_sees_no_gpu_and_one_thread_unless_told_otherwise(inherited, threads):
    environment = launch(
        command=["true"], inherited={"CUDA_VISIBLE_DEVICES": "0", **inherited}
    ).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["OMP_NUM_THREADS"] == threads


def test_our_trainers_are_importable_and_not_shadowed_by_the_current_folder():
    environment = launch(experiment="fewshot", inherited={"PYTHONPATH": "/mine"}).environment
    assert environment["PYTHONPATH"] == f"{REPOSITORY}:/mine"
    assert environment["PYTHONSAFEPATH"] == "1"
    foreign = launch(command=["true"], inherited={"PYTHONPATH": "/mine"}).environment
    assert foreign["PYTHONPATH"] == "/mine"
    assert "PYTHONSAFEPATH" not in foreign


def test_a_frozen_copy_of_our_trainers_comes_before_what_the_executor_imports():
    given = {"source": Path("/frozen")}
    environment = launch(experiment="fewshot", given=given, inherited={"PYTHONPATH": "/mine"})
    assert environment.environment["PYTHONPATH"] == "/frozen:/mine"


def test_a_module_of_ours_runs_from_a_folder_that_its_children_do_not_inherit(tmp_path):
    (tmp_path / "namesake.py").write_text(
        "import os, sys\nprint(__name__, sys.argv[1:], os.environ.get('PYTHONPATH'))\n"
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "namesake.py").write_text("print('not this one')\n")
    words = [*module_words(sys.executable, tmp_path, "namesake"), "a b", "-c"]
    done = subprocess.run(words, cwd=elsewhere, env={}, capture_output=True, text=True, check=True)
    assert done.stdout == "__main__ ['a b', '-c'] None\n"

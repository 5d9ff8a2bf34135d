"""Hardware profiles: what they change of a study, what wins over them, and their mistakes."""

from __future__ import annotations

import pytest

from merge.errors import StudyError, UsageError
from orchestrator.studies.profiles import read_profile
from replicate import api
from replicate.catalogue import PROFILES, find_profile
from replicate.cli.main import main

DEVICES = {"local": 1, "t4x2": 2, "g5": 4, "p3": 8}


@pytest.mark.parametrize(("name", "devices"), DEVICES.items())
def test_the_built_in_profiles_keep_the_global_batch_on_their_devices(name, devices):
    assert sorted(path.stem for path in PROFILES.glob("*.yaml")) == sorted(DEVICES)
    plain = api.plan("abcb", where={"fold": 0})
    planned = api.plan("abcb", where={"fold": 0}, profile=name)
    for run, other in zip(planned.runs, plain.runs, strict=True):
        assert run.resources.devices_per_run == devices
        assert run.config["global_batch"] == other.config["global_batch"]
        assert run.config["global_batch"] % devices == 0
        changed = {k for k, v in run.config.items() if v != other.config[k]}
        assert changed <= {"amp", "micro_batch"}


def test_what_decides_numbers_is_in_the_hash_and_what_does_not_is_not(tmp_path):
    (run,) = api.plan("abcb", where=ONE).runs
    (tmp_path / "batch.yaml").write_text("{per_device_batch: 2, devices_per_run: 2}")
    (tmp_path / "precision.yaml").write_text("amp: fp16")
    (smaller,) = api.plan("abcb", where=ONE, profile=tmp_path / "batch.yaml").runs
    (coarser,) = api.plan("abcb", where=ONE, profile=tmp_path / "precision.yaml").runs
    assert (smaller.config["micro_batch"], smaller.config_hash) == (2, run.config_hash)
    assert coarser.config["amp"] == "fp16"
    assert coarser.config_hash != run.config_hash


def test_set_and_the_flags_of_resources_win_over_a_profile():
    planned = api.plan("abcb", where=ONE, profile="g5", settings={"amp": "off"})
    (run,) = api.with_resources(planned, devices_per_run=2).runs
    assert (run.config["amp"], run.config["micro_batch"]) == ("off", 32)
    assert (run.resources.devices_per_run, run.resources.num_workers) == (2, 8)


def test_a_flag_wins_over_devices_that_do_not_divide_the_batch(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "three.yaml").write_text("{devices_per_run: 3, num_workers: 1}")
    words = ["plan", *(f"--{axis}s={value}" for axis, value in ONE.items())]
    words += ["--profile", "three.yaml"]
    assert main(words) == 2
    assert "cannot be divided over devices_per_run 3" in capsys.readouterr().err
    assert main([*words, "--devices-per-run", "2"]) == 0
    assert "note     profile three: num_workers 1\n" in capsys.readouterr().err


def test_a_command_takes_resources_alone(tmp_path):
    study = tmp_path / "s.yaml"
    study.write_text(
        "name: s\ncommand: [true]\naxes: {seed: [0]}\naverage_over: seed\n"
        "metric: {name: loss, goal: min}\n"
        "overrides: [{when: {seed: 0}, resources: {devices_per_run: 1, num_workers: 1}}]\n"
    )
    (run,) = api.plan(study, profile="t4x2").runs
    assert (run.resources.devices_per_run, run.resources.num_workers) == (2, 2)
    assert "amp" not in run.config


def test_a_profile_says_what_it_sets_and_may_name_keys_of_slurm(tmp_path):
    path = tmp_path / "lab.yaml"
    path.write_text("{devices_per_run: 2, amp: bf16, partition: gpu, setup: [module load cuda]}")
    profile = read_profile(path)
    assert profile.text() == "profile lab: devices_per_run 2, amp bf16"
    assert profile.slurm == {"partition": "gpu", "setup": ["module load cuda"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("devices_per_rum: 2", "unknown key: did you mean 'devices_per_run'"),
        ("amp: fp61", "'fp61' is not one of"),
        ("per_device_batch: 0", "must be at least 1, not 0"),
        ("num_workers: many", "must be a whole number, not 'many'"),
    ],
)
def test_mistakes_in_a_profile_are_named_with_their_place(tmp_path, text, message):
    path = tmp_path / "lab.yaml"
    path.write_text(text)
    with pytest.raises(StudyError, match=message) as found:
        read_profile(path)
    assert "lab.yaml:1:" in str(found.value)


def test_an_unknown_profile_is_refused_with_those_that_there_are():
    with pytest.raises(UsageError, match=r"neither a profile nor a file.*g5"):
        find_profile("g6")


ONE = {"dataset": "pascal5i", "backbone": "resnet50", "shot": 1, "fold": 0}

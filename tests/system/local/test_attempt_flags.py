"""The flags of `replicate run` that concern attempts, on the real command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.commands import replicate

from merge.records.sweep import read_sweep
from merge.storage.json_files import read_json

pytestmark = pytest.mark.system

STUDY = """\
name: plain
command: [sh, -c, '{script}']
axes: {{fold: [0, 1, 2]}}
average_over: fold
metric: score
resources: {{gpu_mem_gb: 10}}
retries: {{killed: {{limit: 3, wait_s: 0}}}}
"""

LEAVE = 'echo "{\\"metrics\\": {\\"score\\": 1}}" > "$PAPERGRID_ATTEMPT_DIR/result.json"'


def write_study(folder: Path, script: str) -> Path:
    path = folder / "study.yaml"
    path.write_text(STUDY.format(script=script.replace("'", "''")))
    return path


@pytest.fixture
def one_gpu(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine whose nvidia-smi knows one GPU with 32 GiB free."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        "-L) echo 'GPU 0: NVIDIA A100 (UUID: GPU-0000-abcd)' ;;\n"
        "--query-gpu=index,memory.free) echo '0, 32768' ;;\n"
        "--query-gpu=index,name,driver_version) echo '0, NVIDIA A100, 570.1' ;;\n"
        "*) exit 9 ;;\nesac\n"
    )
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_runs_share_a_gpu_and_each_attempt_names_it_with_its_driver(tmp_path, one_gpu):
    study = write_study(tmp_path, f'echo "$CUDA_VISIBLE_DEVICES"; sleep 0.3; {LEAVE}')
    words = ("--study", study, "--output-dir", "out", "--runs-per-gpu", "3")
    done = replicate("run", *words, cwd=tmp_path, env=one_gpu)
    assert done.returncode == 0, done.stderr
    assert "3 runs share a GPU: 10.0 GiB each (resources.gpu_mem_gb)" in done.stderr
    for fold in range(3):
        folder = tmp_path / "out" / f"fold={fold}" / "attempts" / "0001"
        assert (folder / "stdout.log").read_text() == "0\n"
        record = read_json(folder / "attempt.json")
        assert record["environment"]["gpus"] == [
            {"gpu": "0", "name": "NVIDIA A100", "driver": "570.1"}
        ]
    assert done.stderr.index("fold=2 on 0") < done.stderr.index("done")


def test_more_runs_than_fit_are_refused_before_anything_is_written(tmp_path, one_gpu):
    study = write_study(tmp_path, LEAVE)
    words = ("--study", study, "--output-dir", "out", "--runs-per-gpu", "4")
    done = replicate("run", *words, cwd=tmp_path, env=one_gpu)
    assert done.returncode == 2
    assert "GPU 0 has 32.0 GiB free, 4 runs of 10.0 GiB" in done.stderr
    assert "at most 3 fit" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_study_and_the_flag_say_how_often_is_tried_again(tmp_path):
    study = write_study(tmp_path, "kill -KILL $$")
    words = ("run", "--study", study, "--devices", "cpu:1", "--folds", "0", "--output-dir")
    assert replicate(*words, "many", cwd=tmp_path).returncode == 1
    assert len(list((tmp_path / "many/fold=0/attempts").iterdir())) == 4
    assert read_sweep(tmp_path / "many/sweep.json").retries == {"killed": {"limit": 3, "wait_s": 0}}
    done = replicate(*words, "few", "--max-retries", "1", cwd=tmp_path)
    assert len(list((tmp_path / "few/fold=0/attempts").iterdir())) == 2
    assert "failed(killed) fold=0" in done.stderr
    told = replicate("status", "few", cwd=tmp_path).stdout
    assert "failed(killed): fold=0: killed by SIGKILL" in told


@pytest.mark.parametrize(
    "words",
    [
        ("--max-retries", "-1"),
        ("--runs-per-gpu", "0"),
        ("--restart-stalled", "0"),
        ("--restart-stalled", "nan"),
        ("--grace", "-1"),
        ("--grace", "nan"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(tmp_path, words):
    study = write_study(tmp_path, LEAVE)
    done = replicate("run", "--study", study, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert words[0] in done.stderr

"""`run --snapshot`: what waits runs the code that was there when it was asked for."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress

import pytest
from support.commands import MarkedCommand, command_line
from support.executors import wait_until

from merge.storage.json_files import read_json

pytestmark = pytest.mark.system

STUDY = """\
name: frozen
command: [sh, train.sh, "{seed}"]
axes:
  seed: [0, 1]
average_over: seed
metric: score
run_path: "seed{seed}"
"""

TRAIN = """\
. ./score.sh
while [ ! -e "$GO" ]; do sleep 0.05; done
printf '{"metrics": {"score": %s}}' "$score" > "$PAPERGRID_ATTEMPT_DIR/result.json"
"""


@pytest.mark.parametrize(("flags", "scores"), [(("--snapshot",), (1, 1)), ((), (1, 2))])
def test_editing_the_checkout_reaches_runs_that_wait_only_without_a_snapshot(
    tmp_path, flags, scores
):
    work = tmp_path / "work"
    work.mkdir()
    (work / "study.yaml").write_text(STUDY)
    (work / "train.sh").write_text(TRAIN)
    (work / "score.sh").write_text("score=1\n")
    subprocess.run(["git", "init", "-q", work], check=True)
    words = ("run", "--study", "study.yaml", "--devices", "cpu:1", *flags)
    command = MarkedCommand(words, cwd=work, env={"GO": str(tmp_path / "go")})
    output, log = work / "outputs" / "study", tmp_path / "log"
    running = command.start(log)
    try:
        wait_until((output / "seed0/attempts/0001/attempt.json").exists, "the first run", 60)
        wait_until(lambda: "started  " in log.read_text(), "the first run's process", 60)
        wait_for_shell(command)
        (work / "score.sh").write_text("score=2\n")
        (tmp_path / "go").touch()
        assert running.wait(60) == 0, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        running.wait()
    results = [read_json(output / f"seed{seed}/result.json") for seed in (0, 1)]
    assert tuple(result["metrics"]["score"] for result in results) == scores
    named = {result["code"].get("snapshot") for result in results}
    if flags:
        (digest,) = named
        assert json.loads((output / "code" / digest / "snapshot.json").read_text())["cwd"] == "."
    else:
        assert named == {None}


def wait_for_shell(command):
    """Wait until the first run's shell has read its score: it is polling then."""

    def is_polling():
        return any("sleep 0.05" in command_line(pid) for pid in command.processes())

    wait_until(is_polling, "a run that waits", 60)

"""Process groups, stop requests and failures, with real ranks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.ranks import ROOT, TrialRun, start_ranks, wait_until

pytestmark = pytest.mark.system

SETUP = """
import functools, os, sys, time
from experiments.runtime.entry import record_failure, run_trainer

def train(context, stop):
    import torch
    from experiments.runtime import distributed
    folder = context.attempt.root
    on_error = functools.partial(record_failure, context)
    with distributed.process_group("cpu", timeout_s=60, on_error=on_error) as ranks:
        pids = distributed.gather_objects(os.getpid(), ranks)
        stop.watch_peers(tuple(pid for pid in pids if pid != os.getpid()))
        (folder / f"ready{ranks.rank}").touch()
        body(torch, distributed, ranks, folder, stop)
        stop.watch_peers(())
        distributed.barrier(ranks)
        (folder / f"left{ranks.rank}").touch()
"""

RUN = "\nrun_trainer(train)\n"

ONE_FAILS = """
def body(torch, distributed, ranks, folder, stop):
    if ranks.rank == 1:
        raise ZeroDivisionError("rank one")
    distributed.all_reduce_sum(torch.ones(1), ranks)
"""

ONE_SLEEPS = """
def body(torch, distributed, ranks, folder, stop):
    if ranks.rank == 0:
        time.sleep(600)
    distributed.barrier(ranks)
"""

ALL_STEP = """
def body(torch, distributed, ranks, folder, stop):
    step = 0
    while not distributed.any_rank((stop.is_requested,), ranks)[0]:
        step += 1
        (folder / "stepping").touch()
        time.sleep(0.001 * ranks.rank)
    (folder / f"stopped{ranks.rank}").write_text(str(step))
"""

COLLECTIVES = """
def body(torch, distributed, ranks, folder, stop):
    total = distributed.all_reduce_sum(torch.tensor([ranks.rank, 2**60]), ranks)
    assert total.tolist() == [3, 3 * 2**60], total
    assert distributed.any_rank((ranks.rank == 2, False), ranks) == (True, False)
    assert distributed.broadcast_object(f"from {ranks.rank}", ranks) == "from 0"
    assert distributed.gather_objects(ranks.rank * 10, ranks) == [0, 10, 20]
"""


GRADIENTS = """
def body(torch, distributed, ranks, folder, stop):
    from experiments.runtime.data_parallel import data_parallel

    class OutOfOrder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(57, 3)
            self.first = torch.nn.Linear(31, 41)
            self.middle = torch.nn.Linear(41, 57)

        def forward(self, x):
            return self.last(self.middle(self.first(x).relu()).relu())

    def gradients(steps_before):
        torch.manual_seed(0)
        model = OutOfOrder()
        parallel = data_parallel(model, ranks, unsynchronised=())
        for _ in range(steps_before):
            parallel(torch.ones(2, 31)).sum().backward()
        model.zero_grad()
        inputs = torch.randn(8, 31, generator=torch.Generator().manual_seed(ranks.rank))
        parallel(inputs).square().mean().backward()
        return [parameter.grad for parameter in model.parameters()]

    for fresh, warm in zip(gradients(0), gradients(2)):
        assert torch.equal(fresh, warm)
"""

BATCH_NORM = """
def body(torch, distributed, ranks, folder, stop):
    from torch import nn
    from experiments.runtime.data_parallel import data_parallel
    from experiments.runtime.sync_batch_norm import synchronised

    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 1, 1))

    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    whole, ours = model(), synchronised(model(), ranks)
    assert list(ours.state_dict()) == list(whole.state_dict())
    parallel = data_parallel(ours, ranks, unsynchronised=())
    (whole(images) ** 3).mean().backward()
    (parallel(images[2 * ranks.rank :][:2]) ** 3).mean().backward()
    for name, expected in whole.named_parameters():
        found = ours.get_parameter(name).grad
        assert torch.allclose(found, expected.grad, atol=1e-6), (name, found, expected.grad)
    for name, expected in whole.named_buffers():
        assert torch.allclose(ours.get_buffer(name), expected), name
    assert torch.allclose(ours.eval()(images), whole.eval()(images), atol=1e-6)
"""

DESTROYED = """
def body(torch, distributed, ranks, folder, stop):
    from experiments.runtime.entry import NonFiniteError
    from experiments.runtime.guard import Guard

    guard = Guard(ranks)
    guard.check()
    if ranks.rank == 1:
        guard.note("loss", torch.tensor(float("nan")), 7)
    try:
        guard.check()
    except NonFiniteError as error:
        (folder / f"error{ranks.rank}").write_text(str(error))
"""


@pytest.fixture
def run(tmp_path):
    return TrialRun(tmp_path / "run", tmp_path / "cache").write_spec({})


@pytest.fixture
def start(run, tmp_path):
    def start_body(body: str, world_size: int = 2):
        script = tmp_path / "ranks.py"
        script.write_text(SETUP + body + RUN)
        return run.start(1, world_size, str(script))

    return start_body


def all_ready(run):
    return lambda: all((run.attempt(1) / f"ready{rank}").exists() for rank in range(2))


def test_collectives_give_every_rank_the_same_exact_values(start, run):
    ranks = start(COLLECTIVES, world_size=3)
    assert ranks.wait() == 0, ranks.output()
    assert all((run.attempt(1) / f"left{rank}").exists() for rank in range(3))


@pytest.mark.parametrize("world_size", [2, 3])
def test_gradients_are_bit_for_bit_the_same_in_the_first_step_and_later(start, world_size):
    ranks = start(GRADIENTS, world_size)
    assert ranks.wait() == 0, ranks.output()


def test_batch_norm_over_ranks_is_that_of_the_whole_batch_with_its_gradients(start):
    ranks = start(BATCH_NORM, world_size=3)
    assert ranks.wait() == 0, ranks.output()


def test_a_bad_loss_of_one_rank_ends_all_with_the_same_words(start, run):
    ranks = start(DESTROYED)
    assert ranks.wait() == 0, ranks.output()
    messages = {(run.attempt(1) / f"error{rank}").read_text() for rank in range(2)}
    assert len(messages) == 1
    assert messages.pop().startswith("the loss became NaN or infinite at step 7: ")


def test_a_failing_rank_ends_all_within_seconds_and_is_the_one_that_is_named(start, run):
    ranks = start(ONE_FAILS)
    wait_until(all_ready(run), ranks)
    began = time.monotonic()
    assert ranks.wait() != 0
    assert time.monotonic() - began < 10
    assert run.error(1) == {
        "kind": "other",
        "message": "ZeroDivisionError: rank one",
        "rank": 1,
        "exit_code": 1,
    }


def test_a_killed_rank_ends_a_peer_that_is_in_no_collective(start, run):
    ranks = start(ONE_SLEEPS)
    wait_until(all_ready(run), ranks)
    began = time.monotonic()
    os.kill(ranks.pids()[1], signal.SIGKILL)
    assert ranks.wait() != 0
    assert time.monotonic() - began < 10


def test_ranks_end_with_the_agent_that_started_them(start, run):
    ranks = start(ONE_SLEEPS)
    wait_until(all_ready(run), ranks)
    pids = ranks.pids()
    ranks.process.kill()
    ranks.process.wait()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_stop_request_to_one_rank_stops_all_at_the_same_step(start, run, number):
    ranks = start(ALL_STEP)
    wait_until((run.attempt(1) / "stepping").exists, ranks)
    os.kill(ranks.pids()[1], number)
    assert ranks.wait(60) == 0, ranks.output()
    steps = [(run.attempt(1) / f"stopped{rank}").read_text() for rank in range(2)]
    assert steps[0] == steps[1]


def test_a_stop_request_before_the_group_is_there_is_not_lost(start, run):
    # The handlers are set before torch is imported, which takes longer than this timer.
    timer = "import threading, signal\nthreading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))"
    early = f"{ALL_STEP}\n{timer}.start()\n"
    ranks = start(early)
    assert ranks.wait() == 0, ranks.output()
    assert (run.attempt(1) / "stopped0").read_text() == "0"


def test_a_group_that_never_forms_ends_with_an_error_and_no_group(tmp_path):
    code = """
import torch.distributed as dist
from experiments.runtime.distributed import process_group
try:
    with process_group("cpu", timeout_s=2):
        pass
except Exception as error:
    print(type(error).__name__, dist.is_initialized())
"""
    alone = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}
    environment = {**os.environ, **alone, "MASTER_PORT": str(_free_port())}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split()[-1:] == ["False"], done.stderr


def test_a_trainer_without_the_contract_says_so_before_it_imports_torch():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "experiments.runtime", "fewshot"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("PAPERGRID_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    imports = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    (message,) = set(done.stderr.splitlines()) - set(imports)
    assert done.returncode == 2
    assert message.startswith("error: ")
    assert "run contract" in message
    assert [line for line in imports if line.rpartition("|")[2].strip() == "torch"] == []


SAVE_FOREVER = """
import sys, torch
from pathlib import Path
from experiments.runtime.checkpoint import save_checkpoint
step = 0
while True:
    step += 1
    save_checkpoint(Path(sys.argv[1]), {"step": step, "w": torch.full((2**20,), step)},
                    config_hash="ab")
"""


def test_a_trainer_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    seed = random.randrange(10**6)
    print("seed", seed)
    moments = random.Random(seed)
    for _ in range(3):
        ranks = start_ranks(("-c", SAVE_FOREVER, str(path)), 1, {}, tmp_path / "log")
        path.unlink(missing_ok=True)
        wait_until(path.exists, ranks)
        time.sleep(moments.uniform(0, 0.2))
        ranks.kill()
        state = torch.load(path, weights_only=True)
        assert bool((state["w"] == state["step"]).all())


FILL_DISK = """
import sys, torch
from pathlib import Path
from merge.errors import StorageError
from experiments.runtime.checkpoint import load_checkpoint, save_checkpoint
from experiments.runtime.distributed import Ranks
path = Path(sys.argv[1]) / "checkpoints" / "last.pt"
save_checkpoint(path, {"w": torch.zeros(1000)}, config_hash="ab")
try:
    save_checkpoint(path, {"w": torch.zeros(10**6)}, config_hash="ab")
except StorageError as error:
    alone = Ranks(0, 0, 1, torch.device("cpu"))
    kept = load_checkpoint(path, alone, config_hash="ab")
    print(error, len(kept["w"]), len(list(path.parent.iterdir())))
"""


def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_no_temporary(tmp_path):
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path} && exec {sys.executable} -c '{FILL_DISK}'"
    try:
        done = subprocess.run(
            ["unshare", "--map-root-user", "--mount", "sh", "-c", f"{mount} {tmp_path}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("no command unshare")
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no mount of its own: {done.stderr.strip()}")
    assert "the disk is full" in done.stdout, done.stderr
    assert done.stdout.split()[-2:] == ["1000", "1"]


def is_running(pid: int) -> bool:
    """Whether the process does anything yet: a zombie, which was not reaped, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

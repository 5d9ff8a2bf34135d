"""Why an attempt ended, found in what is known of its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.records.records import Cause
from orchestrator.machine.oom_kills import num_oom_kills
from orchestrator.runs.causes import Evidence, find_cause

CUDA = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 15.77 GiB of which 1.2 GiB is free."
)
NCCL = (
    "[rank1]:[E] [PG ID 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7, "
    "OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600029 milliseconds before timing out."
)
GLOO = (
    "RuntimeError: [../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 2000ms for recv"
)
PEER = "RuntimeError: [../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"
PORT = (
    "torch.distributed.DistNetworkError: The server socket has failed to listen on any local "
    "network address. port: 29500, useIpv6: false, code: -98, name: EADDRINUSE"
)
LOADER = "RuntimeError: DataLoader worker (pid 71) is killed by signal: Killed."
SHM = (
    "RuntimeError: DataLoader worker (pid 71) is killed by signal: Bus error. It is possible that "
    "dataloader's workers are out of shared memory."
)
AGENT = (
    "E torch/distributed/elastic/multiprocessing/api.py:9] failed (exitcode: -9) local_rank: 1\n"
    "Root Cause (first observed failure):\n"
    "  exitcode  : -9 (pid: 77)\n"
    "  traceback : Signal 9 (SIGKILL) received by PID 77\n"
)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"exit_code": 0, "has_result": True}, Cause.DONE),
        ({"exit_code": 0}, Cause.NO_RESULT),
        ({"exit_code": 0, "stopped_by_itself": True}, Cause.INTERRUPTED),
        ({"exit_code": 0, "stop_cause": Cause.PREEMPTED}, Cause.PREEMPTED),
        ({"exit_code": 0, "stop_cause": Cause.CANCELLED, "has_result": True}, Cause.DONE),
        ({"exit_code": 134, "has_result": True}, Cause.UNCLEAN_EXIT),
        ({"exit_code": 1, "has_result": True, "stderr": PEER}, Cause.UNCLEAN_EXIT),
        (
            {
                "exit_code": 1,
                "has_result": True,
                "error_kind": "other",
                "error_message": PEER,
            },
            Cause.UNCLEAN_EXIT,
        ),
        ({"exit_code": 137, "stop_cause": Cause.STALLED, "error_kind": "other"}, Cause.STALLED),
        ({"exit_code": 137, "stop_cause": Cause.CANCELLED}, Cause.CANCELLED),
        ({"exit_code": 1, "stop_cause": Cause.INTERRUPTED, "error_kind": "nan"}, Cause.NAN_LOSS),
        (
            {
                "exit_code": 1,
                "stop_cause": Cause.CANCELLED,
                "error_kind": "other",
                "error_message": PEER,
            },
            Cause.CANCELLED,
        ),
        ({"exit_code": 1, "stderr": CUDA}, Cause.CUDA_OOM),
        ({"exit_code": 1, "error_kind": "cuda_oom", "error_message": "full"}, Cause.CUDA_OOM),
        ({"exit_code": 1, "error_kind": "oom", "error_message": CUDA}, Cause.CUDA_OOM),
        ({"exit_code": 1, "stdout": CUDA}, Cause.CUDA_OOM),
        ({"exit_code": 134, "stderr": CUDA}, Cause.CUDA_OOM),
        ({"exit_code": 1, "stderr": CUDA + "\n" + AGENT.replace("9", "6")}, Cause.CUDA_OOM),
        (
            {"exit_code": 1, "error_kind": "oom", "error_message": "MemoryError: "},
            Cause.HOST_OOM,
        ),
        ({"exit_code": 1, "stderr": "MemoryError"}, Cause.HOST_OOM),
        ({"exit_code": 134, "stderr": "what():  std::bad_alloc"}, Cause.HOST_OOM),
        ({"exit_code": 1, "stderr": LOADER}, Cause.HOST_OOM),
        ({"exit_code": 1, "stderr": SHM}, Cause.HOST_OOM),
        ({"exit_code": 137, "num_oom_kills": 1}, Cause.HOST_OOM),
        ({"exit_code": 1, "stderr": AGENT, "num_oom_kills": 1}, Cause.HOST_OOM),
        (
            {"exit_code": 137, "stderr": "slurmstepd: error: Detected 1 oom_kill event in"},
            "host_oom",
        ),
        ({"exit_code": 1, "num_oom_kills": 1}, Cause.UNKNOWN),
        ({"exit_code": 137}, Cause.KILLED),
        ({"exit_code": 139}, Cause.KILLED),
        ({"exit_code": 143}, Cause.KILLED),
        ({"exit_code": 1, "stderr": AGENT}, Cause.KILLED),
        (
            {"exit_code": 1, "stderr": AGENT, "error_kind": "other", "error_message": PEER},
            Cause.KILLED,
        ),
        ({"exit_code": 1, "error_kind": "other", "error_message": PEER}, Cause.RANK_FAILED),
        ({"exit_code": 1, "stderr": PORT}, Cause.PORT_IN_USE),
        ({"exit_code": 1, "stderr": "OSError: [Errno 98] Address already in use"}, "port_in_use"),
        ({"exit_code": 134, "stderr": NCCL}, Cause.COLLECTIVE_TIMEOUT),
        ({"exit_code": 1, "stderr": GLOO}, Cause.COLLECTIVE_TIMEOUT),
        ({"exit_code": 1, "stderr": "cp: No space left on device"}, Cause.DISK_FULL),
        ({"exit_code": 75}, Cause.DISK_FULL),
        ({"exit_code": 1, "stderr": "Loss is nan, stopping training"}, Cause.NAN_LOSS),
        ({"exit_code": 1, "stderr": "loss: nan\n" + "step\n" * 9 + "KeyError: 'x'"}, Cause.UNKNOWN),
        ({"exit_code": 1, "stderr": "nan_loss_weight is not an option"}, Cause.UNKNOWN),
        ({"exit_code": 1, "error_kind": "data", "error_message": "no mask"}, Cause.DATA),
        ({"exit_code": 2, "error_kind": "config"}, Cause.CONFIG),
        ({"exit_code": 1, "stderr": "KeyError: 'lr'"}, Cause.UNKNOWN),
        ({"exit_code": 130}, Cause.UNKNOWN),
    ],
)
def test_an_end_has_one_cause(fields, cause):
    assert find_cause(Evidence(**fields)) == cause


evidence = st.builds(
    Evidence,
    exit_code=st.one_of(st.just(0), st.integers(1, 255)),
    has_result=st.booleans(),
    stop_cause=st.sampled_from([None, Cause.CANCELLED, Cause.INTERRUPTED, Cause.STALLED]),
    error_kind=st.sampled_from([None, "data", "nan", "other", "oom", ""]),
    error_message=st.sampled_from(["", PEER, CUDA, GLOO]),
    stderr=st.lists(st.sampled_from([CUDA, PEER, AGENT, "words", LOADER])).map("\n".join),
    num_oom_kills=st.integers(0, 2),
)


@given(evidence)
def test_what_is_done_has_a_result_and_what_exits_well_with_one_is_done(found):
    cause = find_cause(found)
    if cause in (Cause.DONE, Cause.UNCLEAN_EXIT):
        assert found.has_result
    if found.exit_code == 0 and found.has_result:
        assert cause is Cause.DONE
    assert (cause is Cause.DONE) <= (found.exit_code == 0)


@given(evidence)
def test_a_stop_that_was_not_requested_is_never_called_a_stop(found):
    if found.stop_cause is None:
        assert find_cause(found) not in (Cause.CANCELLED, Cause.STALLED, Cause.PREEMPTED)


@pytest.mark.parametrize(
    ("cgroup", "file", "content", "count"),
    [
        ("0::/job_7/step_0\n", "job_7/step_0/memory.events", "low 0\noom 3\noom_kill 2\n", 2),
        ("0::/../job_7\n", "memory.events", "oom_kill 4\n", 4),
        ("4:memory:/slurm/7\n0::/\n", "memory/slurm/7/memory.oom_control", "oom_kill 1\n", 1),
        ("4:cpu,memory:/docker/x\n", "memory/memory.oom_control", "under_oom 0\noom_kill 5\n", 5),
        ("4:memory:/x\n", "memory/memory.oom_control", "under_oom 0\n", 0),
        ("0::/\n", "other", "oom_kill 1\n", 0),
    ],
)
def test_the_kernels_count_is_read_from_the_own_cgroup(tmp_path, cgroup, file, content, count):
    (tmp_path / "proc").write_text(cgroup)
    path = tmp_path / "sys" / file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert num_oom_kills(tmp_path / "proc", tmp_path / "sys") == count

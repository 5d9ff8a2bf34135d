"""Why an attempt ended, found in what is known of its end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from merge.records.records import Cause
from orchestrator.machine.oom_kills import num_oom_kills
from orchestrator.runs.causes import Evidence, find_cause
from orchestrator.runs.verdict import own_words

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
TAKEN = (
    "[W socket.cpp:464] [c10d] The server socket has failed to bind to [::]:29500 (errno: 98 - "
    "Address already in use)."
)
CHILD = "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n=====\ntrain FAILED"
FEEDER = (
    "RuntimeError: unable to allocate shared memory(shm) for file </torch_15900_39_0>: No space "
    "left on device (28)"
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
        ({"exit_code": 1, "stderr": f"[rank0]: {PORT}\n[rank1]: {PEER}"}, Cause.PORT_IN_USE),
        ({"exit_code": 1, "stderr": f"[rank0]: {PORT}\n{CHILD}"}, Cause.PORT_IN_USE),
        ({"exit_code": 1, "stderr": "bind: Address already in use"}, Cause.PORT_IN_USE),
        ({"exit_code": 1, "stderr": f"{TAKEN}\nKeyError: 'lr'"}, Cause.UNKNOWN),
        ({"exit_code": 1, "stderr": f"{TAKEN}\n{CUDA}"}, Cause.CUDA_OOM),
        ({"exit_code": 1, "stderr": TAKEN + "\nstep" * 9 + "\nusage: train"}, Cause.UNKNOWN),
        ({"exit_code": 1, "stderr": f"{PORT}\ntry 29501\nValueError: fold 7"}, Cause.UNKNOWN),
        ({"exit_code": 137, "stop_cause": Cause.STALLED, "stderr": FEEDER}, Cause.HOST_OOM),
        ({"exit_code": 1, "error_kind": "stalled", "error_message": "no batch"}, Cause.STALLED),
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


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: CUDA error: out of memory",
        "torch.AcceleratorError: CUDA error: out of memory",
        "RuntimeError: CUDA driver error: out of memory",
        "RuntimeError: HIP out of memory. Tried to allocate 2.00 GiB",
        "RuntimeError: MPS backend out of memory (MPS allocated: 17.9 GB)",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "RuntimeError: Unable to find a valid cuDNN algorithm to run convolution",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCrea`",
        "RuntimeError: cuFFT error: CUFFT_ALLOC_FAILED",
        "node:213:228 [0] include/alloc.h:178 NCCL WARN Cuda failure 'out of memory'",
        "node:213:228 [0] enqueue.cc:1085 NCCL WARN Cuda failure 2 'out of memory'",
        "node:213:228 [0] include/alloc.h:185 NCCL WARN Failed to CUDA calloc 6291456 bytes",
        "failed to allocate 32.00M from device: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "ResourceExhaustedError: OOM when allocating tensor with shape[16,64,112,112]",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 8,000,000,000 bytes",
    ],
)
def test_each_library_has_its_own_words_for_a_full_gpu(line):
    assert find_cause(Evidence(exit_code=1, stderr=line)) is Cause.CUDA_OOM
    assert find_cause(Evidence(exit_code=1, error_kind="other", error_message=line)) == "cuda_oom"


@pytest.mark.parametrize(
    "line",
    [
        FEEDER,
        "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 58.0 GiB for an array with",
        "MemoryError: Unable to allocate 201. GiB for an array with shape (2999, 2999, 2999)",
        "ERROR: Unexpected bus error encountered in worker. This might be caused by insufficient "
        "shared memory (shm).",
        "RuntimeError: DataLoader worker (pid(s) 71, 72) exited unexpectedly",
        "RuntimeError: unable to write to file </torch_71_2>: No space left on device (28)",
        "OSError: [Errno 28] No space left on device: '/psm_8a1b2c3d'",
        "include/shm.h:28 NCCL WARN Call to posix_fallocate failed : No space left on device",
        "NCCL WARN Error: failed to extend /dev/shm/nccl-WU88OE to 9637892 bytes, error: No space "
        "left on device (28)",
        "NCCL WARN Error while creating shared memory segment /dev/shm/nccl-KWfVyt (size 5967872)",
        "slurmstepd: error: Exceeded job memory limit",
    ],
)
def test_each_library_has_its_own_words_for_a_host_without_memory(line):
    assert find_cause(Evidence(exit_code=1, stderr=line)) is Cause.HOST_OOM


@pytest.mark.parametrize(
    "line",
    [
        "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072",
        "RuntimeError: DataLoader worker (pid 7) exited unexpectedly with exit code 3.",
        "OSError: [Errno 24] Too many open files",
    ],
)
def test_what_less_memory_would_not_mend_is_not_called_out_of_memory(line):
    assert find_cause(Evidence(exit_code=1, stderr=line)) is Cause.UNKNOWN


PASSED_ON = """\
Caught DataError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "torch/utils/data/_utils/worker.py", line 349, in _worker_loop
    data = fetcher.fetch(index)
  File "labels.py", line 60, in _readable
    raise DataError(f"{noun} {path} is missing: restore it from the data set") from error
merge.errors.DataError: photograph a.jpg is missing:
restore it from the data set
"""


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (PASSED_ON, "DataError: photograph a.jpg is missing:\nrestore it from the data set"),
        (
            "KeyError: " + PASSED_ON.replace("DataError", "KeyError").replace("merge.errors.", ""),
            "KeyError: photograph a.jpg is missing:\nrestore it from the data set",
        ),
        (
            PASSED_ON.replace("DataLoader worker process 0", "replica 1 on device 1"),
            "DataError: photograph a.jpg is missing:\nrestore it from the data set",
        ),
        ("Caught in a loop", "Caught in a loop"),
        ("RuntimeError: no kernel image", "RuntimeError: no kernel image"),
    ],
)
def test_an_error_that_torch_passes_on_keeps_its_own_words(message, words):
    assert own_words(message) == words


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

"""A private SLURM cluster on this machine: real daemons, several nodes, no accounting.

Each node is a slurmd in a process, mount and host-name namespace of its own: to kill the
namespace's first process is to cut the node's power. Needs root, and the Debian packages
slurmctld, slurmd, slurm-client and munge. All its addresses are loopback ones.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "munged", "unshare")
MAX_ARRAY_SIZE = 20
_PATIENCE_S = 60.0

_SLURM_CONF = """\
ClusterName=lab
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CommunicationParameters=NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=0,batch_sched_delay=0
SlurmctldTimeout=30
SlurmdTimeout=6
KillWait=6
MinJobAge=3600
MaxArraySize={max_array_size}
MaxJobCount=2000
JobRequeue=1
PrivateData=jobs
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=main Nodes={general} Default=YES PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes={preempted} PriorityTier=1 PreemptMode=REQUEUE GraceTime=25
PartitionName=high Nodes={preempted} PriorityTier=10 PreemptMode=OFF
PartitionName=fragile Nodes={fragile} PreemptMode=OFF
PartitionName=ended Nodes={ended} PriorityTier=1 PreemptMode=CANCEL GraceTime=0
PartitionName=ending Nodes={ended} PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """Why no cluster can be started here; empty where one can."""
    if os.geteuid() != 0:
        return "SLURM: only root can start a cluster in namespaces"
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    return f"SLURM: {', '.join(absent)} not installed (make services)" if absent else ""


@dataclass
class SlurmCluster:
    """A running cluster: nodes 1 to 3 in partition main, 4 in low and high, 5 and 6 in fragile.

    Node 7 is in partition ended, whose jobs are cancelled without grace for jobs of partition
    ending. Users see no jobs of others; root sees all.
    """

    folder: Path
    num_cpus: int = 8
    _nodes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _daemons: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return [f"node{number}" for number in range(1, 8)]

    @property
    def environment(self) -> Mapping[str, str]:
        """What a process needs in its environment to talk to this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start all daemons and wait until every node is idle."""
        self._write_configuration()
        self._daemon(
            "munged",
            "--foreground",
            f"--key-file={self.folder}/munge.key",
            f"--socket={self.folder}/munge.sock",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munge.seed",
            "--force",
        )
        wait_for((self.folder / "munge.sock").exists, "munged")
        self.start_controller()
        for name in self.names:
            self.start_node(name)
        wait_for(self._is_ready, "the nodes of the SLURM cluster")

    def start_controller(self) -> None:
        self._daemon("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))

    def start_node(self, name: str) -> None:
        script = (
            f"hostname {name}; mount --bind {self.folder}/hosts /etc/hosts; "
            f"exec slurmd -D -f {self.folder}/slurm.conf -N {name}"
        )
        namespaces = ("--pid", "--fork", "--kill-child", "--uts", "--mount", "--mount-proc")
        self._nodes[name] = self._spawn("unshare", *namespaces, "bash", "-c", script)

    def cut_power(self, name: str) -> None:
        """Kill every process on the node at once."""
        node = self._nodes.pop(name)
        node.kill()
        node.wait()

    def call(self, *words: str, check: bool = True) -> str:
        """The output of one of SLURM's commands."""
        done = subprocess.run(
            words,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def states(self, job: str) -> dict[str, str]:
        """State of each task of an array (or of a plain job) by id."""
        told = self.call("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%i %T")
        return dict(line.split() for line in told.splitlines())

    def wait_state(self, task: str, *states: str, patience_s: float = _PATIENCE_S) -> None:
        """Wait until the task 12_3 is in one of `states`."""
        job = task.partition("_")[0]
        wait_for(
            lambda: self.states(job).get(task) in states,
            lambda: f"{task} to be {states}, is {self.states(job).get(task)}",
            patience_s,
        )

    def close(self) -> None:
        """Kill everything that was started."""
        for process in [*self._nodes.values(), *self._daemons]:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()

    def _is_ready(self) -> bool:
        told = self.call("sinfo", "-h", "-N", "-o", "%N %T", check=False).split("\n")
        idle = {line.split()[0] for line in told if line.endswith(("idle", "mixed"))}
        return idle == set(self.names)

    def _write_configuration(self) -> None:
        base = _free_ports(len(self.names) + 1)
        host = os.uname().nodename
        addresses = {name: f"127.0.1.{number}" for number, name in enumerate(self.names, start=1)}
        hosts = ["127.0.0.1 localhost", f"127.0.0.1 {host}"]
        hosts += [f"{address} {name}" for name, address in addresses.items()]
        (self.folder / "hosts").write_text("\n".join(hosts) + "\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        (self.folder / "state").mkdir()
        lines = [
            f"NodeName={name} NodeHostname={name} NodeAddr={address} Port={base + number} "
            f"CPUs={self.num_cpus} RealMemory=16000 State=UNKNOWN"
            for number, (name, address) in enumerate(addresses.items(), start=1)
        ]
        (self.folder / "slurm.conf").write_text(
            _SLURM_CONF.format(
                folder=self.folder,
                host=host,
                port=base,
                max_array_size=MAX_ARRAY_SIZE,
                nodes="\n".join(lines),
                general="node[1-3]",
                preempted="node4",
                fragile="node[5-6]",
                ended="node7",
            )
        )
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")

    def _daemon(self, *words: str) -> subprocess.Popen[bytes]:
        process = self._spawn(*words)
        self._daemons.append(process)
        return process

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.out").open("ab") as log:
            return subprocess.Popen(
                words,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def wait_for(
    condition: Callable[[], object],
    what: str | Callable[[], str],
    patience_s: float = _PATIENCE_S,
) -> None:
    """Return as soon as `condition()` holds; AssertionError naming `what` if it never does."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what if isinstance(what, str) else what()}")
        time.sleep(0.1)


def _free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that are free, below the ephemeral range."""
    for base in range(20000 + os.getpid() % 100 * 100, 32000, count):
        if all(_is_free(base + offset) for offset in range(count)):
            return base
    raise AssertionError("no free ports for a SLURM cluster")


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("0.0.0.0", port))
        except OSError:
            return False
    return True

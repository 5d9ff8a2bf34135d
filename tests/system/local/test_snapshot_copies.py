"""Frozen copies of the code: what is copied, what is refused, and that they stay as they are."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from support.studies import write_experiment
from support.sweeps import make_sweep

from merge.errors import RecordError, UsageError
from merge.records.sweep import Resources
from merge.storage.paths import SweepPaths
from orchestrator.plan import snapshot_files
from orchestrator.plan.code_version import code_version
from orchestrator.plan.snapshot import load_snapshot, take_snapshot
from orchestrator.slurm.arrays import Array
from orchestrator.slurm.request import SlurmRequest
from orchestrator.slurm.submit import SlurmSubmission, array_job
from orchestrator.studies.options import EXPERIMENTS

pytestmark = pytest.mark.system

COMMAND = make_sweep(("sh", "train.sh", "{fold}")).runs[0]
EXPERIMENT = make_sweep(experiment="fewshot").runs[0]


@pytest.fixture
def checkout(tmp_path):
    """A checkout without a commit: a script, a module, an ignored data file, in a subfolder."""
    root = tmp_path / "check out"
    work = root / "sub"
    work.mkdir(parents=True)
    git(root, "init", "-q")
    (root / ".gitignore").write_text("data/\n")
    (work / "train.sh").write_text("echo one\n")
    (work / "train.sh").chmod(0o755)
    (root / "module.py").write_text("x = 1\n")
    (root / "link").symlink_to("module.py")
    (root / "data").mkdir()
    (root / "data" / "large.bin").write_bytes(b"0" * 1000)
    git(root, "add", "module.py")
    return work


def git(folder, *words):
    subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)


def names(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()
    )


def test_the_checkout_of_a_command_is_copied_without_what_git_ignores(tmp_path, checkout):
    output = checkout / "out"
    before = code_version(COMMAND, cwd=checkout)
    taken = take_snapshot(output, COMMAND, checkout)
    (output / "result.txt").write_text("an output is no code")
    (checkout / "train.sh").write_text("echo two\n")
    assert taken.cwd is not None
    assert names(taken.cwd.parent) == [".gitignore", "link", "module.py", "sub/train.sh"]
    assert (taken.cwd / "train.sh").read_text() == "echo one\n"
    assert (taken.cwd / "train.sh").stat().st_mode & 0o111
    assert (taken.cwd.parent / "link").readlink().as_posix() == "module.py"
    assert taken.code["source"] == before["source"]
    assert taken.code["snapshot"] == taken.digest
    assert load_snapshot(output, taken.digest) == taken
    assert take_snapshot(output, COMMAND, checkout).digest != taken.digest


def test_the_same_code_is_copied_once(tmp_path, checkout):
    output = tmp_path / "out"
    first = take_snapshot(output, COMMAND, checkout)
    copied = first.source / "merge" / "storage" / "paths.py"
    inode = copied.stat().st_ino
    assert take_snapshot(output, COMMAND, checkout) == first
    assert copied.stat().st_ino == inode
    assert [path.name for path in SweepPaths(output).code.iterdir()] == [first.digest]


def test_an_experiment_needs_no_checkout_and_is_copied_with_its_options(tmp_path):
    taken = take_snapshot(tmp_path / "out", EXPERIMENT, tmp_path)
    assert taken.cwd is None
    assert taken.code["source"] == code_version(EXPERIMENT)["source"]
    options = taken.source / "experiments" / "fewshot" / "options.yaml"
    assert options.read_bytes() == (EXPERIMENTS / "fewshot" / "options.yaml").read_bytes()
    assert not list(taken.source.rglob("*.pyc"))


@pytest.fixture
def blobs(checkout):
    """An experiment of one's own in the checkout, and a run of it."""
    folder = write_experiment(checkout / "blobs")
    (folder / "task.py").write_text("x = 1\n")
    return make_sweep(experiment="./blobs").runs[0]


def test_the_checkout_of_an_experiment_elsewhere_is_copied_as_that_of_a_command(
    tmp_path, checkout, blobs
):
    before = code_version(blobs, cwd=checkout)
    taken = take_snapshot(tmp_path / "out", blobs, checkout)
    (checkout / "blobs" / "task.py").write_text("x = 2\n")
    assert taken.cwd is not None
    assert (taken.cwd / "blobs" / "task.py").read_text() == "x = 1\n"
    assert (taken.source / "experiments" / "runtime").is_dir()
    assert taken.description.startswith("papergrid and the checkout of the experiment")
    assert taken.code["source"] == before["source"]
    assert taken.code["source"] != code_version(blobs, cwd=checkout)["source"]
    assert take_snapshot(tmp_path / "out", blobs, checkout).digest != taken.digest


def test_an_experiment_that_would_bypass_the_copy_is_refused(tmp_path, checkout, blobs):
    in_place = replace(blobs, experiment=str(checkout / "blobs"))
    with pytest.raises(UsageError, match="would be run where it lies"):
        take_snapshot(tmp_path / "out", in_place, checkout)
    (checkout.parent / ".gitignore").write_text("task.py\n")
    with pytest.raises(UsageError, match=r"blobs/task\.py is ignored by git"):
        take_snapshot(tmp_path / "out", blobs, checkout)
    write_experiment(tmp_path / "blobs")
    outside = replace(blobs, experiment="../../blobs")
    with pytest.raises(UsageError, match="lies outside of the checkout"):
        take_snapshot(tmp_path / "out", outside, checkout)


@pytest.mark.parametrize("damage", [lambda p: p.write_text("echo three\n"), lambda p: p.unlink()])
def test_a_copy_that_was_changed_is_refused(tmp_path, checkout, damage):
    taken = take_snapshot(tmp_path / "out", COMMAND, checkout)
    damage(taken.cwd / "train.sh")
    with pytest.raises(RecordError, match=r"work/sub/train\.sh changed\): move its folder away"):
        load_snapshot(tmp_path / "out", taken.digest)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("sh", "{root}/sub/train.sh"), "write it relative to"),
        (("sh", "../../outside.sh"), "lies outside of the checkout"),
        (("sh", "../data/large.bin"), "is ignored by git"),
    ],
)
def test_a_command_that_would_bypass_the_copy_is_refused(tmp_path, checkout, words, told):
    (tmp_path / "outside.sh").write_text("echo\n")
    command = tuple(word.replace("{root}", str(checkout.parent)) for word in words)
    with pytest.raises(UsageError, match=told):
        take_snapshot(tmp_path / "out", replace(COMMAND, command=command), checkout)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def generated(checkout):
    """Code in the checkout that git ignores: a file, a folder with data, a link to it."""
    (checkout.parent / ".gitignore").write_text("data/\ngen*\n")
    (checkout / "generated.py").write_text("x = 1\n")
    folder = checkout / "gen tools"
    folder.mkdir()
    (folder / "a.py").write_text("y = 1\n")
    (folder / "b.yaml").write_text("z: 1\n")
    (folder / "large.bin").write_bytes(b"0")
    (checkout / "gen_link").symlink_to("gen tools")
    return ["generated.py", "gen tools", "gen_link", "../module.py"]


@pytest.mark.parametrize("run", [COMMAND, EXPERIMENT], ids=["command", "experiment"])
def test_code_that_the_study_names_is_copied_though_git_ignores_it(
    tmp_path, checkout, generated, run
):
    before = code_version(run, cwd=checkout, named=generated)
    taken = take_snapshot(tmp_path / "out", run, checkout, generated)
    assert taken.cwd is not None
    (checkout / "generated.py").write_text("x = 2\n")
    (checkout / "gen tools" / "a.py").write_text("y = 2\n")
    assert (taken.cwd / "generated.py").read_text() == "x = 1\n"
    assert (taken.cwd / "gen_link" / "a.py").read_text() == "y = 1\n"
    assert names(taken.cwd / "gen tools") == ["a.py", "b.yaml"]
    assert taken.code["source"] == before["source"]
    again = take_snapshot(tmp_path / "out", run, checkout, generated)
    assert again.digest != taken.digest


def test_a_module_that_the_command_imports_is_copied_though_git_ignores_it(
    tmp_path, checkout, generated
):
    (checkout / "train.py").write_text("import generated\n")
    run = replace(COMMAND, command=("python", "train.py"))
    taken = take_snapshot(tmp_path / "out", run, checkout, [])
    assert taken.cwd is not None
    assert (taken.cwd / "generated.py").read_text() == "x = 1\n"
    assert not (taken.cwd / "gen tools").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../../outside.py", "lies outside of the checkout"),
        ("{root}/module.py", "write it relative to"),
        ("out/shared.py", "lies in the output folder"),
        ("far.py", "lies outside of the checkout"),
    ],
)
@pytest.mark.parametrize("run", [COMMAND, EXPERIMENT], ids=["command", "experiment"])
def test_code_that_cannot_be_copied_is_refused_by_name(tmp_path, checkout, run, name, said):
    (tmp_path / "outside.py").write_text("x = 1\n")
    (checkout / "far.py").symlink_to(tmp_path / "outside.py")
    (checkout / "out").mkdir()
    (checkout / "out" / "shared.py").write_text("x = 1\n")
    name = name.replace("{root}", str(checkout.parent))
    with pytest.raises(UsageError, match=said) as refused:
        take_snapshot(checkout / "out", run, checkout, [name])
    assert f"`code:` of the study: {name} " in str(refused.value)
    assert [path.name for path in (checkout / "out").iterdir()] == ["shared.py"]


def test_a_link_back_into_the_checkout_is_refused_and_one_to_data_is_kept(tmp_path, checkout):
    (checkout / "far").symlink_to("/usr")
    taken = take_snapshot(tmp_path / "out", COMMAND, checkout)
    assert (taken.cwd / "far").readlink().as_posix() == "/usr"
    (checkout / "back").symlink_to(checkout / "train.sh")
    with pytest.raises(UsageError, match="link relatively"):
        take_snapshot(tmp_path / "out", COMMAND, checkout)


def test_a_folder_that_is_no_checkout_is_refused_with_the_fix(tmp_path):
    (tmp_path / "train.sh").write_text("echo\n")
    with pytest.raises(UsageError, match="`git init`"):
        take_snapshot(tmp_path / "out", COMMAND, tmp_path)


def test_bulk_is_refused_and_its_largest_folders_are_named(tmp_path, checkout):
    sparse = checkout / "weights.bin"
    with sparse.open("wb") as file:
        file.truncate(snapshot_files.LARGEST_BYTES + 1)
    with pytest.raises(UsageError, match=r"the largest: sub \(256.0 MiB\).*\.gitignore"):
        take_snapshot(tmp_path / "out", COMMAND, checkout)


def test_a_checkout_within_the_checkout_is_copied_too(tmp_path, checkout):
    inner = checkout / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / "model.py").write_text("y = 2\n")
    taken = take_snapshot(tmp_path / "out", COMMAND, checkout)
    assert (taken.cwd / "inner" / "model.py").read_text() == "y = 2\n"


@pytest.mark.parametrize("text", ["{}", '{"schema": 1, "files": []}', "", "[]"])
def test_a_record_that_is_none_is_refused_by_name(tmp_path, checkout, text):
    taken = take_snapshot(tmp_path / "out", COMMAND, checkout)
    record = tmp_path / "out" / "code" / taken.digest / "snapshot.json"
    record.write_text(text)
    with pytest.raises(RecordError, match=r"snapshot\.json.*move its folder away"):
        load_snapshot(tmp_path / "out", taken.digest)


@pytest.mark.parametrize("digest", ["../../etc", "0123456789abcdef", ""])
def test_a_name_that_is_no_snapshot_is_refused(tmp_path, digest):
    with pytest.raises(UsageError, match="snapshot"):
        load_snapshot(tmp_path, digest)


def test_the_jobs_of_an_array_run_the_frozen_copy(tmp_path):
    array = Array(
        name="array-1", resources=Resources(), request=SlurmRequest(), tasks=(("run-fold0",),)
    )
    planned = SlurmSubmission(
        id="sub", study="s", output=tmp_path, cwd=tmp_path, arrays=(array,), snapshot="0" * 16
    )
    command = array_job(planned, array).command
    assert str(tmp_path / "code" / ("0" * 16) / "papergrid") in command
    assert command[command.index("--snapshot") + 1] == "0" * 16
    assert "--snapshot" not in array_job(replace(planned, snapshot=None), array).command

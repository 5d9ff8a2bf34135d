"""Files below an output folder are written in one place, and their names spelled in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("merge", "orchestrator", "replicate", "experiments")

WRITERS = {
    "merge/storage/disk.py": "the one place",
    "orchestrator/machine/process.py": "opens the logs that a started command writes",
    "orchestrator/doctor/folder.py": "tries whether hard links work",
    "orchestrator/doctor/trials.py": "tries what other operations do on this file system",
    "orchestrator/doctor/meeting.py": "removes its folder only where it is empty",
    "orchestrator/s3/download.py": "empties the part that open_appending has opened",
    "orchestrator/plan/snapshot.py": "fills the temporary folder of publish_folder",
    # Not below an output folder:
    "orchestrator/bucket_claims/states.py": "a temporary folder",
    "orchestrator/sync/plan.py": "a temporary folder",
    "replicate/cli/main.py": "/dev/null",
    "replicate/views/terminal.py": "/dev/null",
    "orchestrator/machine/cache_folder.py": "a cache folder for a user without a home",
    "experiments/runtime/write_options.py": "options.yaml in the source tree",
    "experiments/saliency/prepare.py": "archives below a data root",
    "experiments/saliency/hdf5.py": "a file below a data root, made whole or not at all",
    "experiments/saliency/beacons.py": "generated images in a folder of the cache",
}
"""Modules that change files by other means than merge.storage, and why."""
DATA_ROOTS = ("experiments/datasets/", "experiments/fewshot/prepare/", "experiments/backbones/")
"""Write below a data root or the cache, where a folder of 12,000 images is made durable at once."""

PATH_METHODS = re.compile(
    "write_text|write_bytes|unlink|rename|mkdir|rmdir|touch|symlink_to|hardlink_to|truncate"
)
FUNCTIONS = re.compile(
    r"os\.(replace|rename|renames|link|symlink|unlink|remove|removedirs|mkdir|makedirs|rmdir|fsync"
    r"|truncate|mkfifo)|shutil\.(rmtree|copy\w*|move)|tempfile\.\w+"
)
NAMES = re.compile(
    r"(claim|request)-.*|.*\(claim\|request\).*|result\.aside.*|\.merge-index|\.merge\.lock|\.doctor|\.probe-|"
    r"(sweep|run|result|attempt|env|error|stop|submission|snapshot|hashes|episode_counts"
    r"|replication_results|merged_results)\.json|events\.jsonl|(stdout|stderr)\.log|(last|best)\.pt"
    r"|\.sync|panels|tensorboard|training\.log|metrics\.json|model_info\.txt|by-hand"
)
SPELLING = {
    "merge/storage/paths.py": "the runs and the whole",
    "merge/storage/attempt_paths.py": "the attempts",
    "merge/storage/control_paths.py": "what the control plane keeps beside them",
    "merge/results/legacy.py": "names of files of the original script",
    "experiments/fewshot/options.py": "an option has the name of its folder",
    "experiments/runtime/check.py": "a package has the name of its folder",
}

ROOMS_WITH_A_CLOCK = (
    "merge/",
    *(
        f"orchestrator/{room}/"
        for room in ("runs", "bucket_claims", "local", "slurm", "servers", "sync")
    ),
)
OWN_TIME = {
    "merge/storage/clock.py": "the clock of this host",
    "orchestrator/slurm/node_launcher.py": "polls a child process",
}
"""Modules that ask for the time themselves, and why."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def changes_files(call: ast.Call) -> bool:
    """Whether a call, by its looks, changes files itself."""
    name = ast.unparse(call.func)
    if FUNCTIONS.fullmatch(name):
        return True
    if name == "os.open":
        return re.search(r"O_(WRONLY|RDWR|CREAT)", ast.unparse(call)) is not None
    if name == "open" or name.endswith(".open"):
        return any(re.fullmatch("[rbt+]*[wxa+][rbt+]*", text) for text in texts_in(call))
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr == "replace":
        # Path.replace has one argument, str.replace two.
        return len(call.args) == 1 and not call.keywords
    is_of_the_seam = name.split(".")[-2].lower().endswith("disk")
    return not is_of_the_seam and PATH_METHODS.fullmatch(call.func.attr) is not None


def texts_in(node: ast.AST) -> list[str]:
    found = (one.value for one in ast.walk(node) if isinstance(one, ast.Constant))
    return [text for text in found if isinstance(text, str)]


def test_only_the_seam_changes_files_below_an_output_folder():
    found: dict[str, list[str]] = {}
    for name, tree in modules():
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        changing = [ast.unparse(call) for call in calls if changes_files(call)]
        if changing and not name.startswith(DATA_ROOTS):
            found[name] = changing
    assert {name: calls for name, calls in found.items() if name not in WRITERS} == {}
    # A module that needs its exception no longer loses it.
    assert set(WRITERS) == set(found)


def test_names_of_files_below_an_output_folder_are_spelled_in_the_modules_of_paths_alone():
    found = {
        f"{name}: {text!r}"
        for name, tree in modules()
        if name not in SPELLING
        for text in literals(tree)
        if NAMES.fullmatch(text)
    }
    assert found == set()


def literals(tree: ast.Module) -> Iterator[str]:
    """Texts of a module, without its docstrings."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings:
            yield node.value


def test_claims_heartbeats_and_merges_get_their_time_from_the_clock_that_is_passed_in():
    found = {
        name
        for name, tree in modules()
        if name.startswith(ROOMS_WITH_A_CLOCK)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in ("time.time", "time.monotonic", "time.sleep")
    }
    assert found == set(OWN_TIME)

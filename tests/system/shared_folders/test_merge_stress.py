"""Many processes complete runs in one output folder while others merge it without pause."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
from support.grids import make_grid, make_result, write_sweep

from merge.records.sweep import Run, Sweep
from merge.results.view import rebuild
from merge.storage.json_files import write_json_exclusive
from merge.storage.paths import SweepPaths

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

NUM_RUNS = 2000
NUM_WRITERS = 32
NUM_MERGERS = 4


def finish_runs(output: Path, runs: tuple[Run, ...], is_partly_seen) -> None:
    for index, run in enumerate(runs):
        # The second half waits for a reader of the first, however slow the machine merges.
        assert index < len(runs) // 2 or is_partly_seen.wait(60)
        path = SweepPaths(output).run(run.path).result
        assert write_json_exclusive(path, make_result(run, 0.5).to_json())


def merge_without_pause(output: Path) -> None:
    while True:
        rebuild(output)


def kill_mergers(mergers: list, output: Path, context, rng: random.Random) -> None:
    """SIGKILL one merger, wherever it is, and start another in its place."""
    victim = rng.randrange(len(mergers))
    os.kill(mergers[victim].pid, signal.SIGKILL)
    mergers[victim].join()
    mergers[victim] = context.Process(target=merge_without_pause, args=(output,), daemon=True)
    mergers[victim].start()


def folds_in(view: bytes) -> set[tuple[str, str]]:
    """Cell and fold of each result that a view counts; ValueError where it is torn."""
    results = json.loads(view)["results"]
    return {(cell, fold) for cell, entry in results.items() for fold in entry["folds"]}


def start_all(sweep: Sweep, output: Path, context, is_partly_seen) -> tuple[list, list]:
    writers = [
        context.Process(
            target=finish_runs, args=(output, sweep.runs[start::NUM_WRITERS], is_partly_seen)
        )
        for start in range(NUM_WRITERS)
    ]
    mergers = [
        context.Process(target=merge_without_pause, args=(output,), daemon=True)
        for _ in range(NUM_MERGERS)
    ]
    for process in (*mergers, *writers):
        process.start()
    return writers, mergers


@pytest.mark.parametrize("kills", [False, True], ids=["undisturbed", "mergers are killed"])
def test_no_result_is_lost_and_no_reader_sees_a_torn_or_shrinking_view(tmp_path, kills):
    sweep = make_grid(cells=tuple(f"cell{i}" for i in range(NUM_RUNS // 4)))
    paths = write_sweep(tmp_path, sweep)
    rebuild(tmp_path)
    # fork: 36 interpreters would spend CI's seconds on their imports.
    context = multiprocessing.get_context("fork")
    rng = random.Random(0)
    is_partly_seen = context.Event()
    writers, mergers = start_all(sweep, tmp_path, context, is_partly_seen)
    seen: set[tuple[str, str]] = set()
    num_sizes = num_kills = 0
    last_kill, pause_s = time.monotonic(), 0.05
    try:
        end = time.monotonic() + 60
        is_written = False
        while not is_written or (len(seen) < NUM_RUNS and time.monotonic() < end):
            is_written = not any(writer.is_alive() for writer in writers)
            counted = folds_in(paths.results.read_bytes())
            assert seen <= counted
            num_sizes += counted > seen
            seen = counted
            # Where kills are wanted, two come before all is written, however fast that is.
            if seen and (num_kills > 1 or not kills):
                is_partly_seen.set()
            if kills and not is_written and time.monotonic() - last_kill > pause_s:
                kill_mergers(mergers, tmp_path, context, rng)
                num_kills += 1
                # Ever rarer: where merging is slow, a merger must live long enough for it.
                last_kill, pause_s = time.monotonic(), 1.1 * pause_s
    finally:
        for process in (*mergers, *writers):
            process.kill()
            process.join()
    assert [writer.exitcode for writer in writers] == [0] * NUM_WRITERS
    assert num_sizes > 1
    assert len(seen) == NUM_RUNS
    assert not kills or num_kills > 1
    merged = rebuild(tmp_path)
    assert merged.is_complete
    assert len(folds_in(paths.results.read_bytes())) == NUM_RUNS

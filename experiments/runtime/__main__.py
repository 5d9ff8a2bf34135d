"""Train one run: `python -m experiments.runtime NAME_OR_FOLDER`, or the same under torchrun.

NAME is a folder of `experiments/`; text with a `/` is a folder anywhere. The run is described
by the environment of the run contract (docs/run-contract.md).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from experiments.runtime.allocator import let_segments_grow
from experiments.runtime.entry import run_trainer
from experiments.runtime.experiment import find_experiment
from experiments.runtime.run_context import RunContext
from experiments.runtime.stop import StopRequest
from merge.errors import UsageError


def train(words: Sequence[str], context: RunContext, stop: StopRequest) -> None:
    """Train the experiment that the one argument names."""
    if len(words) != 1:
        raise UsageError("name one experiment: python -m experiments.runtime NAME_OR_FOLDER")
    experiment = find_experiment(words[0], Path.cwd())
    if context.device_kind == "cuda":
        let_segments_grow(os.environ)
    # Imported late, so that a stop request during the import of torch is not lost.
    from experiments.runtime.session import train_experiment

    train_experiment(experiment, context, stop)


def main() -> NoReturn:
    """Train, and end the process with the exit code of the run contract."""
    is_main = os.environ.get("RANK", "0") == "0"
    level = logging.INFO if is_main else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stdout, format="%(asctime)s %(message)s")
    run_trainer(lambda context, stop: train(sys.argv[1:], context, stop))


if __name__ == "__main__":
    main()

"""Start one few-shot run: `torchrun ... -m experiments.fewshot`, or `python -m` for one process.

What to run is told by the environment of the run contract.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from experiments.runtime.entry import run_trainer
from experiments.runtime.run_context import RunContext
from experiments.runtime.stop import StopRequest


def train(context: RunContext, stop: StopRequest) -> None:
    # Imported late, so that a stop request during the import of torch is not lost.
    from experiments.fewshot.session import train_fewshot

    train_fewshot(context, stop)


def main() -> NoReturn:
    is_main = os.environ.get("RANK", "0") == "0"
    level = logging.INFO if is_main else logging.WARNING
    logging.basicConfig(level=level, stream=sys.stdout, format="%(asctime)s %(message)s")
    run_trainer(train)


if __name__ == "__main__":
    main()

"""One evaluation of all lists, with the model that is tested, over all ranks."""

from __future__ import annotations

from collections.abc import Mapping

from experiments.runtime.declared import DeclaredMetrics
from experiments.runtime.evaluate import evaluate
from experiments.runtime.progress import Evaluation
from experiments.runtime.setup import Setup
from experiments.runtime.task import Sums, Task


def evaluate_lists(setup: Setup, epoch: int) -> Evaluation:
    """Evaluate after `epoch` epochs of training; all ranks call it and get the same.

    UsageError: wrong names of metrics. NonFiniteError: a metric is NaN or infinite.
    """
    return evaluation_of(setup.task, setup.declared, epoch, _evaluated(setup))


def evaluation_of(
    task: Task, declared: DeclaredMetrics, epoch: int, states: Mapping[str, Sums]
) -> Evaluation:
    """The metrics of an evaluation from the tallies of its lists.

    UsageError: wrong names of metrics. NonFiniteError: a metric is NaN or infinite.
    """

    def checked(lists: Mapping[str, Sums]) -> dict[str, float]:
        # The first evaluation is made before training: a wrong name costs no epoch.
        return declared.check(task.metrics(lists), task.selection)

    chosen_on = task.validation_list
    tested = {name: state for name, state in states.items() if name != chosen_on}
    validation = {} if chosen_on is None else checked({chosen_on: states[chosen_on]})
    return Evaluation(epoch, checked(tested), states, validation)


def _evaluated(setup: Setup) -> dict[str, Sums]:
    options = setup.task.options.runtime
    with setup.learner.tested_model() as model:
        return {
            name: evaluate(
                setup.task,
                name,
                model,
                ranks=setup.ranks,
                precision=setup.precision,
                num_workers=setup.context.num_workers,
                loader_timeout_s=options.loader_timeout_s,
                stop=setup.stop,
            )
            for name in setup.task.lists()
        }

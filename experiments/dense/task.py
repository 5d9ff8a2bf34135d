"""Segmentation, detection or classification as a task of the runtime."""

from __future__ import annotations

from experiments.dense.models.published import check_outputs
from experiments.dense.options import Options
from experiments.dense.sources import open_images
from experiments.dense.tasks.base import DenseTask
from experiments.dense.tasks.classification import ClassificationTask
from experiments.dense.tasks.detection import DetectionTask
from experiments.dense.tasks.segmentation import SegmentationTask
from experiments.runtime.run_context import RunContext

_TASKS: dict[str, type[DenseTask]] = {
    "segmentation": SegmentationTask,
    "detection": DetectionTask,
    "classification": ClassificationTask,
}


def open_task(options: Options, context: RunContext) -> DenseTask:
    """Open the data set. UsageError: options do not fit each other. DataError: it is missing."""
    options.check()
    images = open_images(options, context.data_root, context.cache_dir)
    check_outputs(options, images)
    return _TASKS[options.task](options, context, images)

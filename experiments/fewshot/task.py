"""Few-shot segmentation as a task of the runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from experiments.fewshot import result
from experiments.fewshot.canvas import Rgb
from experiments.fewshot.data import FewShotData, open_data
from experiments.fewshot.faster import make_faster
from experiments.fewshot.feature_cache import FeatureCache
from experiments.fewshot.loading import EvalDataset, EvalItem, TrainBatch, TrainDataset, collate
from experiments.fewshot.metrics import Counts
from experiments.fewshot.model import build_method
from experiments.fewshot.models.base import FewShotModel, Output
from experiments.fewshot.models.losses import IGNORED, loss_terms
from experiments.fewshot.options import Options
from experiments.fewshot.panels import write_panels
from experiments.fewshot.predict import Predictor
from experiments.fewshot.showcase import show_episodes
from experiments.fewshot.tally import EpisodeTally
from experiments.runtime.precision import choose_precision
from experiments.runtime.progress import Evaluation
from experiments.runtime.run_context import RunContext
from experiments.runtime.stages import ParameterGroup, Stage
from experiments.runtime.task import Selection, Task, Term
from merge.results.statistics import mean
from merge.storage.atomic import write_bytes
from merge.storage.json_files import Json, compact_json


class FewShotTask(Task):
    """Trains on episodes of the base classes, tests lists of episodes of the fold's classes."""

    selection = Selection("miou", "max")
    options: Options
    mean_rgb: Rgb
    """What the backbone subtracts: the colour of padding. Known once the model is built."""

    def __init__(self, options: Options, context: RunContext, data: FewShotData) -> None:
        super().__init__(options, context)
        self.data = data
        self.features = FeatureCache(options.test.feature_cache_mb, options.runtime.eval_chunk)
        self._new_parts: tuple[str, ...] = ()
        self._computed_with: tuple[str, ...] = ()
        self._test: dict[str, EvalDataset] = {}

    def build_model(self, device: torch.device) -> FewShotModel:
        """The method on its backbone; a backbone with a weight file is frozen."""
        model = build_method(self.options, self.context.weights)
        precision = choose_precision(self.options.runtime.amp, device)
        self._computed_with = make_faster(model, self.options.training, precision)
        self.mean_rgb = model.mean_rgb
        parts = {name.partition(".")[0] for name, _ in model.named_parameters()}
        self._new_parts = tuple(sorted(parts - {"backbone"}))
        return model

    def stages(self) -> Sequence[Stage]:
        """One stage; all but the backbone may learn at a rate of its own."""
        runtime, factor = self.options.runtime, self.options.training.head_rate_factor
        groups = (ParameterGroup(parts=self._new_parts, rate_factor=factor),)
        return [
            Stage(
                epochs=runtime.epochs,
                optimiser=self.options.optimiser,
                groups=groups if factor != 1 else (),
            )
        ]

    def num_train_items(self) -> int:
        """Episodes in an epoch."""
        return self.data.episodes_per_epoch

    def train_data(self, epoch: int) -> TrainDataset:
        """The episodes that are drawn for this epoch."""
        return self.data.train_dataset(epoch)

    def collate(self, items: Sequence[Any]) -> TrainBatch:
        """Episodes of equal shot and size, stacked."""
        return collate(items)

    def weights(self, batch: TrainBatch) -> dict[str, int]:
        """Cross entropy is a mean over the pixels that count, Dice one over episodes."""
        num_pixels = int((batch.target != IGNORED).sum())
        return {"pixels": num_pixels, "episodes": len(batch.target)}

    def forward(self, model: nn.Module, batch: TrainBatch) -> Output:
        """Logits of the queries."""
        self.features.make_room(batch.target.device)
        fill = self.mean_rgb
        output: Output = model(
            batch.query.painted(fill), batch.support.painted(fill), batch.support_mask
        )
        return output

    def loss(self, output: Output, batch: TrainBatch) -> list[Term]:
        """Cross entropy and, by option, Dice, of the prediction and the auxiliary ones."""
        return loss_terms(output, batch.target, self.options.training.dice_weight)

    def frozen(self, model: nn.Module) -> Mapping[str, Tensor]:
        """The backbone's state, unless the backbone is trained."""
        backbone = cast(FewShotModel, model).backbone
        return backbone.state_dict(prefix="backbone.") if backbone.is_frozen else {}

    def lists(self) -> tuple[str, ...]:
        """One list of test episodes for each test seed, which is its name."""
        return tuple(str(seed) for seed in self.options.test_seeds)

    def eval_data(self, name: str) -> EvalDataset:
        """The episodes of one test seed."""
        if name not in self._test:
            datasets = self.data.test_datasets()
            self._test = dict(zip(self.lists(), datasets, strict=True))
        return self._test[name]

    def eval_order(self, name: str) -> list[int]:
        """Episodes of a class together: they share images, so the cache of features serves."""
        episodes = self.eval_data(name).episodes
        return sorted(range(len(episodes)), key=lambda index: episodes[index].class_id)

    def tally(self, name: str) -> EpisodeTally:
        """The counts of each episode of a list."""
        episodes = self.data.test_lists[self.lists().index(name)]
        return EpisodeTally(episodes, self.data.test_split.class_ids, self.options.num_iterations)

    def begin_evaluation(self, model: nn.Module) -> None:
        """Drop the features of a backbone that has trained since they were computed."""
        self.features.begin(cast(FewShotModel, model))

    def predict(self, model: nn.Module, item: EvalItem, device: torch.device) -> Counts:
        """The counts of one episode."""
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(
        self, model: nn.Module, items: Sequence[EvalItem], device: torch.device
    ) -> list[Counts]:
        """The counts of episodes that are predicted together."""
        return self._predictor(model, device).counts(items)

    def _predictor(self, model: nn.Module, device: torch.device) -> Predictor:
        fill_rgb = self.data.test_fill_rgb(self.mean_rgb)
        return Predictor(cast(FewShotModel, model), device, self.features, fill_rgb)

    def identity(self, model: nn.Module) -> dict[str, str]:
        """A run goes on only with the same weights, data and image lists."""
        lists = (self.data.train_split.pair_list_hash, self.data.test_split.pair_list_hash)
        return {
            "weights": cast(FewShotModel, model).backbone.weights_id,
            "data": self.data.source.fingerprint(),
            "image lists": " ".join(lists),
        }

    def describe(self, evaluation: Evaluation) -> dict[str, Json]:
        """IoU and counts by class, the bootstrap over episodes, the spread over test seeds."""
        # What an untrained model scores is no result, so it has no interval.
        has_interval = evaluation.epoch > 0
        details = result.describe(evaluation.summary(), self._counts(evaluation), has_interval)
        return {**details, **self._by_iteration(evaluation)}

    def details(self, model: nn.Module) -> dict[str, Json]:
        """Protocol, lists and data, and the backbone's weights."""
        weights = cast(FewShotModel, model).backbone.weights_id
        how: dict[str, Json] = {"computed_with": list(self._computed_with)}
        return {
            **result.data_details(self.data),
            "weights": weights,
            **(how if self._computed_with else {}),
        }

    def finish(self, model: nn.Module, reported: Evaluation, device: torch.device) -> None:
        """Draw panels and write the counts of each test episode."""
        self.features.begin(cast(FewShotModel, model))
        dataset = self.eval_data(self.lists()[0])
        rows = show_episodes(self.data, dataset, self._predictor(model, device))
        if rows:
            write_panels(self.context.panels / "test.png", rows)
        counts = zip(self.lists(), self._counts(reported), strict=True)
        record: dict[str, Json] = {name: each.to_json() for name, each in counts}
        write_bytes(self.context.attempt.per_item_counts, compact_json(record))

    def _by_iteration(self, evaluation: Evaluation) -> dict[str, Json]:
        if self.options.num_iterations == 1:
            return {}
        lists = [
            [counts.total().miou() for counts in self.tally(name).by_iteration(state)]
            for name, state in evaluation.states.items()
        ]
        return {"miou_by_iteration": [mean(column) for column in zip(*lists, strict=True)]}

    def _counts(self, evaluation: Evaluation) -> list[result.EpisodeCounts]:
        return [self.tally(name).counts(state) for name, state in evaluation.states.items()]


def open_task(options: Options, context: RunContext) -> FewShotTask:
    """Open the data set and draw the test lists. DataError: it is missing or too small."""
    return FewShotTask(options, context, open_data(options, context))

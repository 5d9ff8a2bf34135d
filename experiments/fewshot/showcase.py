"""The test episodes that are drawn as panels: classes in turn, in the order of the test list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from experiments.datasets.class_names import class_name
from experiments.datasets.labels import Bytes
from experiments.fewshot.data import FewShotData
from experiments.fewshot.episodes.bam import Episode
from experiments.fewshot.episodes.transforms import binary_mask
from experiments.fewshot.loading import EvalDataset, EvalItem
from experiments.fewshot.metrics import episode_counts
from experiments.fewshot.panels import PanelRow
from experiments.fewshot.predict import Predictor


def show_episodes(
    data: FewShotData,
    dataset: EvalDataset,
    predictor: Predictor,
) -> list[PanelRow]:
    """`num_panels` episodes of `dataset`, a test list, with the model's predictions."""
    rows = []
    for index in choose_episodes(dataset.episodes, data.options.test.num_panels):
        item = dataset[index]
        prediction_HW = predictor.mask(item)
        hits, union = episode_counts(prediction_HW, item.truth)[:2].tolist()
        class_id = item.episode.class_id
        images = [data.images.read(name) for name in item.episode.supports]
        supports = [(image_HW3, binary_mask(labels, class_id)) for image_HW3, labels in images]
        row = PanelRow(
            supports=tuple(supports),
            query=_query_image(data, item),
            truth=item.truth,
            prediction=prediction_HW,
            class_name=class_name(data.options.data.dataset, class_id),
            iou=hits / union if union else None,
        )
        rows.append(row)
    return rows


def choose_episodes(episodes: Sequence[Episode], num_episodes: int) -> list[int]:
    """Indices of `num_episodes` episodes: the first of each class, then the second, and so on."""
    seen: Counter[int] = Counter()
    ranked = []
    for index, episode in enumerate(episodes):
        ranked.append((seen[episode.class_id], index))
        seen[episode.class_id] += 1
    return sorted(index for _, index in sorted(ranked)[:num_episodes])


def _query_image(data: FewShotData, item: EvalItem) -> Bytes:
    """The query at the size of its truth, uint8 RGB HW3."""
    if data.options.counts_at_original_size:
        return data.images.read(item.episode.query)[0]
    height, width = item.truth.shape
    image_HW3: Bytes = item.query.pixels[:, :height, :width].permute(1, 2, 0).numpy()
    return image_HW3

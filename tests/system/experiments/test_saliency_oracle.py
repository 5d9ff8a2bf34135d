"""The metrics and the centre bias of `saliency` beside pysaliency, which defines them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.oracles import ask_oracle

from experiments.saliency.centre_bias import CentreBias, Pool
from experiments.saliency.metrics import METRICS, Fixated, auc, blurred, scores
from experiments.saliency.points import cells_of, normalised

pytestmark = pytest.mark.system

BANDWIDTH, EPS, BLUR_PX = 0.05, 1e-3, 3.0

ORACLE = """
import sys, types

# pysaliency asks for torch when it is imported, and needs nothing of it here.
torch = types.ModuleType("torch")
torch.Tensor = type("Tensor", (), {})
sys.modules["torch"] = torch

import numpy as np
import pysaliency
from pysaliency.baseline_utils import CrossvalidatedBaselineModel
from pysaliency.metrics import CC, MIT_KLDiv, SIM
from pysaliency.models import Model, ShuffledAUCSaliencyMapModel
from pysaliency.saliency_map_models import SaliencyMapModel


def answer():
    given = np.load(sys.argv[1])
    images = [given[f"image{i}"] for i in range(3)]
    stimuli = pysaliency.Stimuli(images)
    points = [given[f"points{i}"] for i in range(3)]
    n = np.repeat(np.arange(3), [len(each) for each in points])
    x, y = np.concatenate(points).T
    fixations = pysaliency.Fixations.create_without_history(x, y, n)
    bandwidth, eps = float(sys.argv[2]), float(sys.argv[3])
    baseline = CrossvalidatedBaselineModel(stimuli, fixations, bandwidth, eps=eps, caching=False)

    class Given(Model):
        def _log_density(self, stimulus):
            return given[f"log_density{int(stimulus[0, 0, 0])}"]

    class Density(SaliencyMapModel):
        def _saliency_map(self, stimulus):
            return np.exp(model.log_density(stimulus))

    model, density = Given(caching=False), Density(caching=False)
    ratio = ShuffledAUCSaliencyMapModel(model, baseline)
    pairs = [(given[f"expected{i}"], given[f"empirical{i}"]) for i in range(3)]
    gain = model.log_likelihoods(stimuli, fixations) - baseline.log_likelihoods(stimuli, fixations)
    return {
        "baseline": [baseline.log_density(s).tolist() for s in stimuli],
        "ig": [gain[n == i].mean() / np.log(2) for i in range(3)],
        "auc": [density.AUCs(stimuli, fixations)[n == i].mean() for i in range(3)],
        "sauc": [ratio.sAUCs(stimuli, fixations)[n == i].mean() for i in range(3)],
        "nss": [density.NSSs(stimuli, fixations)[n == i].mean() for i in range(3)],
        "cc": [CC(*each) for each in pairs],
        "kl": [MIT_KLDiv(*each) for each in pairs],
        "sim": [SIM(*each) for each in pairs],
    }
"""


def log_density(kind: str, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A prediction with ties, one of a single peak, or noise."""
    width, height = size
    values = {
        "steps": np.repeat(np.arange(height), width).reshape(height, width) // 5 / 2.0,
        "peak": -np.hypot(*np.meshgrid(np.arange(width) - 9, np.arange(height) - 7)),
        "noise": rng.standard_normal((height, width)),
    }[kind]
    return values - np.log(np.exp(values).sum())


def test_the_metrics_and_the_centre_bias_are_those_of_pysaliency(tmp_path: Path):
    rng = np.random.default_rng(4)
    sizes = [(40, 30), (33, 48), (48, 36)]
    numbers = zip((7, 12, 1), sizes, strict=True)
    points = [rng.uniform(0.01, 1, (number, 2)) * size for number, size in numbers]
    # Several fixations in one pixel, each of which counts.
    points[1] = np.concatenate([points[1], points[1][:3] // 1 + 0.5])
    fractions = [normalised(each, size) for each, size in zip(points, sizes, strict=True)]
    pool = Pool.of(fractions, range(3))
    given, ours, baselines = {}, [], []
    for i, (size, kind) in enumerate(zip(sizes, ("steps", "peak", "noise"), strict=True)):
        num_others = sum(map(len, points)) - len(points[i])
        # pysaliency adds `eps` to the sum of the kernels of all fixations, not to their density.
        uniform = EPS / ((1 - EPS) * num_others + EPS)
        truth = Fixated(
            fixations=cells_of(points[i], size),
            others=pool.cells_without(i, size),
            log_baseline=CentreBias(pool, BANDWIDTH, uniform).log_density(i, size),
            blur_px=BLUR_PX,
        )
        predicted = log_density(kind, size, rng)
        counts = np.zeros(size[::-1])
        for x, y in points[i]:
            counts[int(y), int(x)] += 1
        image = np.full((*size[::-1], 3), i, np.uint8)
        given |= {f"image{i}": image, f"points{i}": points[i], f"log_density{i}": predicted}
        given[f"expected{i}"] = blurred(np.exp(predicted), BLUR_PX)
        given[f"empirical{i}"] = blurred(counts, BLUR_PX)
        ours.append(scores(predicted, truth))
        baselines.append(truth.log_baseline)
    np.savez(tmp_path / "cases.npz", **given)
    theirs = ask_oracle(ORACLE, tmp_path / "cases.npz", str(BANDWIDTH), str(EPS))
    for name, column in zip(METRICS, np.transpose(ours), strict=True):
        np.testing.assert_allclose(column, theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)
    for mine, other in zip(baselines, theirs["baseline"], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-9)


def test_auc_is_the_area_that_scikit_learn_finds():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(1)
    values = rng.integers(0, 12, (9, 11)).astype(float)
    fixations = rng.integers(0, 99, 30)
    labels = np.repeat([1, 0], [30, 99])
    expected = roc_auc_score(labels, np.concatenate([values.ravel()[fixations], values.ravel()]))
    assert auc(values, fixations, values.ravel()) == pytest.approx(expected, abs=1e-12)

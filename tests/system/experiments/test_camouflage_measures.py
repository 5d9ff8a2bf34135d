"""The measures of camouflage against PySODMetrics, which the field measures with.

Where the library has no number (NaN, for an object in the last row or column), there is nothing to
compare with: its paper's definition gives a part without pixels the weight 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.oracles import ask_oracle

from experiments.camouflage.measures.scores import image_scores, mean_scores
from experiments.camouflage.tally import ImageTally

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

ORACLE = """
import sys, numpy as np, py_sod_metrics as m
def answer():
    cases = np.load(sys.argv[1])
    kinds = dict(s=m.Smeasure, e=m.Emeasure, w=m.WeightedFmeasure, m=m.MAE)
    rows = {}
    def scores(names):
        each = {name: kind() for name, kind in kinds.items()}
        for name in names:
            for measure in each.values():
                measure.step(pred=cases[name + ".map"], gt=cases[name + ".truth"])
        e = each["e"].get_results()["em"]
        return {
            "s_alpha": float(each["s"].get_results()["sm"]),
            "mae": float(each["m"].get_results()["mae"]),
            "weighted_f": float(each["w"].get_results()["wfm"]), "e_adaptive": float(e["adp"]),
            "e_mean": float(e["curve"].mean()), "e_max": float(e["curve"].max()),
        }
    names = sorted({key.rpartition(".")[0] for key in cases.files})
    one = {name: scores([name]) for name in names}
    return {"each": one, "together": scores(sorted(n for n in names if n.startswith("random")))}
"""


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Maps and masks of 0 and 255, by name."""
    rng = np.random.default_rng(12)
    square = np.zeros((41, 58), np.uint8)
    square[9:22, 30:49] = 255
    noise = rng.integers(0, 256, square.shape).astype(np.uint8)
    nothing, everything = np.zeros_like(square), np.full_like(square, 255)
    pixel, hole = nothing.copy(), everything.copy()
    pixel[20, 30], hole[20, 30] = 255, 0
    made = {
        "perfect": (square, square),
        "inverted": (255 - square, square),
        "noise": (noise, square),
        "black": (nothing, square),
        "white": (everything, square),
        "grey": (np.full_like(square, 77), square),
        "empty mask": (noise, nothing),
        "empty mask, black": (nothing, nothing),
        "full mask": (noise, everything),
        "full mask, white": (everything, everything),
        "one pixel": (noise, pixel),
        "all but one pixel": (noise, hole),
        "narrow range": (rng.integers(90, 97, square.shape).astype(np.uint8), square),
    }
    for number in range(12):
        height, width = rng.integers(5, 70, size=2)
        rows, columns = np.mgrid[:height, :width]
        centre = rng.uniform(0.3, 0.7, size=2) * (height, width)
        distance = np.hypot(rows - centre[0], columns - centre[1])
        truth = (distance < rng.uniform(0.2, 0.5) * min(height, width)).astype(np.uint8) * 255
        blurred = truth * rng.uniform(0.3, 0.9) + rng.uniform(0, 80, truth.shape)
        made[f"random {number}"] = (blurred.clip(0, 255).astype(np.uint8), truth)
    return made


def test_every_measure_is_that_of_the_library(tmp_path):
    made = cases()
    arrays = {
        f"{name}.{part}": array
        for name, pair in made.items()
        for part, array in zip(("map", "truth"), pair, strict=True)
    }
    np.savez(tmp_path / "cases.npz", **arrays)
    theirs = ask_oracle(ORACLE, tmp_path / "cases.npz")
    rows = {name: image_scores(found, truth > 128) for name, (found, truth) in made.items()}
    assert theirs["each"].keys() == rows.keys()
    for name, expected in theirs["each"].items():
        assert_equal(mean_scores(rows[name][None]), expected, name)
    together = np.array([row for name, row in rows.items() if name.startswith("random")])
    assert_equal(mean_scores(together), theirs["together"], "together")


def assert_equal(ours, expected, name):
    for measure, value in expected.items():
        assert ours[measure] == pytest.approx(value, rel=0, abs=1e-9), (name, measure)


@pytest.mark.data
def test_the_published_figures_of_three_pairs_to_the_last_digits(real_data):
    folder: Path = real_data / "sod-metrics"
    if not folder.is_dir():
        pytest.skip(f"real data: {real_data} has no folder sod-metrics")
    paths = sorted((folder / "masks").iterdir())
    tally = ImageTally(len(paths))
    for place, path in enumerate(paths):
        tally._rows[place] = image_scores(grey(folder / "preds" / path.name), grey(path) > 128)
    published = {
        "s_alpha": 0.9029761578759272,
        "weighted_f": 0.5579812753638986,
        "mae": 0.03705558476661653,
        "e_mean": 0.9566258293508704,
        "e_max": 0.9669544828922699,
        "e_adaptive": 0.9408760066970617,
    }
    assert_equal(tally.metrics(tally.state()), published, "three pairs")


def grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"))

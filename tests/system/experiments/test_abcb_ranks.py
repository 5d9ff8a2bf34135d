"""Two gloo ranks that share a batch of `abcb` against one process that has all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.ranks import TrialRun
from torch import Tensor

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SCRIPT = """
import functools
from experiments.runtime.entry import record_failure, run_trainer

def train(context, stop):
    import torch
    from experiments.fewshot.canvas import whole
    from experiments.fewshot.loading import TrainBatch
    from experiments.fewshot.model import build_method
    from experiments.fewshot.options import Options
    from experiments.runtime import distributed
    from experiments.runtime.options import build
    from experiments.runtime.seeds import seed_everything
    from support.abcb import balance
    from support.fewshot import new_learner

    config = build(Options, context.config)
    on_error = functools.partial(record_failure, context)
    with distributed.process_group("cpu", timeout_s=200, on_error=on_error) as ranks:
        seed_everything(config.runtime.seed, "model")
        model = build_method(config)
        learner = new_learner(model, config, ranks)
        generator = torch.Generator().manual_seed(0)
        batch, side = config.runtime.global_batch, config.images.image_size
        images = torch.rand(batch, 2, 3, side, side, generator=generator) * 255
        masks = torch.zeros(batch, 2, side, side, dtype=torch.uint8)
        for b in range(batch):
            masks[b, :, 8 * b : 8 * b + 24, 8:40] = 1
            masks[b, 0, side - 12 * b :] = 255
        # So that every image has cells of both kinds, and all three steps run.
        with torch.no_grad():
            balance(model, model(images[:, 0], images[:, 1:], masks[:, 1:]))
        own = slice(ranks.rank, None, ranks.world_size)
        parts = whole(images[own, 0]), whole(images[own, 1:])
        part = TrainBatch(*parts, masks[own, 1:], masks[own, 0])
        counted = int((part.target != 255).sum())
        total = int(distributed.all_reduce_sum(torch.tensor(counted), ranks))
        of_rank = {"pixels": counted * ranks.world_size / total, "episodes": 1.0}
        learner.step(part, shares_of_rank=of_rank, lr=0.0)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
        torch.save(gradients, context.attempt.root / f"gradients{ranks.rank}.pt")
        distributed.barrier(ranks)

run_trainer(train)
"""

CONFIG = {
    "method": "abcb",
    "abcb_channels": 16,
    "abcb_num_heads": 2,
    "abcb_neck_dropout": 0.0,  # ranks draw the same channels for other episodes
    "abcb_initialisation": "random",  # all parts have gradients from the first step on
    "image_size": 64,
    "global_batch": 4,
}


def test_two_ranks_with_half_the_batch_each_have_the_gradients_of_the_whole(
    tmp_path: Path,
) -> None:
    alone, first, second = *_gradients(tmp_path, 1), *_gradients(tmp_path, 2)
    assert {name.partition(".")[0] for name in alone} == {"neck", "qp", "sm", "ic"}
    largest = max(float(whole.norm()) for whole in alone.values())
    for name, whole in alone.items():
        assert torch.equal(first[name], second[name]), name
        error = (first[name] - whole).norm()
        # Some gradients are 0 but for rounding: a softmax does not see a shift of all its keys.
        assert error < 1e-3 * whole.norm() + 1e-6 * largest, (name, float(error))


def _gradients(folder: Path, world_size: int) -> list[dict[str, Tensor]]:
    run = TrialRun(folder / f"of{world_size}", folder / "cache").write_spec(CONFIG)
    script = folder / "ranks.py"
    script.write_text(SCRIPT)
    ranks = run.start(1, world_size, str(script))
    assert ranks.wait(timeout_s=300) == 0, ranks.output()
    paths = [run.attempt(1) / f"gradients{rank}.pt" for rank in range(world_size)]
    return [torch.load(path, weights_only=True) for path in paths]

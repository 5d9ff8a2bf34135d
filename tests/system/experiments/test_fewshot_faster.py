"""torch.compile and channels-last: two gloo ranks train, save and go on as they do without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.ranks import TrialRun

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SCRIPT = """
import functools
from experiments.runtime.entry import record_failure, run_trainer

def train(context, stop):
    import torch
    from experiments.fewshot.options import Options
    from experiments.runtime import distributed
    from experiments.runtime.options import build

    config = build(Options, context.config)
    on_error = functools.partial(record_failure, context)
    with distributed.process_group("cpu", timeout_s=400, on_error=on_error) as ranks:
        first = new_learner(config, ranks)
        step(first, ranks, 0)
        path = context.attempt.root / f"state{ranks.rank}.pt"
        torch.save(first.state_dict(), path)
        step(first, ranks, 1)
        second = new_learner(config, ranks)
        second.load_state_dict(torch.load(path, weights_only=True))
        step(second, ranks, 1)
        out = {"undisturbed": first.state_dict()["model"], "resumed": second.state_dict()["model"]}
        out["graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        conv = first.model.neck.spread.weight
        out["is_channels_last"] = conv.is_contiguous(memory_format=torch.channels_last)
        torch.save(out, context.attempt.root / f"out{ranks.rank}.pt")
        distributed.barrier(ranks)

def new_learner(config, ranks):
    import torch
    from torch import nn
    from experiments.fewshot.faster import make_faster
    from experiments.fewshot.models.abcb.model import Abcb
    from experiments.fewshot.options import AbcbOptions
    from experiments.backbones.build import Backbone
    from experiments.runtime.precision import Precision
    from support import fewshot

    torch.manual_seed(0)
    stages = [nn.Conv2d(3, 8, 3, stride=4, padding=1)]
    stages.append(nn.Sequential(nn.ReLU(), nn.Conv2d(8, 128, 3, stride=2, padding=1)))
    backbone = Backbone("resnet18", stages, (2,), "two frozen convolutions")
    sizes = {"channels": 16, "num_heads": 2, "initialisation": "random"}
    # The correlation neck takes minutes to compile on a CPU.
    options = AbcbOptions(**sizes, neck="convolution")
    model = Abcb(backbone, options)
    make_faster(model, config.training, Precision("off", ranks.device))
    return fewshot.new_learner(model, config, ranks)

def step(learner, ranks, seed):
    import torch
    from experiments.fewshot.canvas import whole
    from experiments.fewshot.loading import TrainBatch

    generator = torch.Generator().manual_seed(2 * seed + ranks.rank)
    images = torch.rand(2, 2, 3, 64, 64, generator=generator) * 255
    masks = (torch.rand(2, 2, 64, 64, generator=generator) < 0.5).to(torch.uint8)
    masks[:, :, :32] = 1
    batch = TrainBatch(whole(images[:, 0]), whole(images[:, 1:]), masks[:, 1:], masks[:, 0])
    learner.step(batch, shares_of_rank={"pixels": 1.0, "episodes": 1.0}, lr=0.01)

run_trainer(train)
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights after both steps without any option."""
    weights: dict[str, torch.Tensor] = _run(tmp_path_factory.mktemp("plain"), {})["undisturbed"]
    return weights


@pytest.mark.parametrize("option", ["compile", "channels_last"])
def test_a_faster_model_keeps_its_state_names_resumes_bit_for_bit_and_computes_the_same(
    tmp_path: Path, plain: dict[str, torch.Tensor], option: str
) -> None:
    out = _run(tmp_path, {option: "on"})
    assert (out["graphs"] > 0, out["is_channels_last"]) == (
        option == "compile",
        option == "channels_last",
    )
    assert list(out["undisturbed"]) == list(plain)
    for name, value in plain.items():
        assert torch.equal(out["undisturbed"][name], out["resumed"][name]), name
        torch.testing.assert_close(out["undisturbed"][name], value, rtol=1e-3, atol=1e-5)


def test_without_a_compiler_the_error_names_what_to_install(tmp_path: Path) -> None:
    run = TrialRun(tmp_path / "run", tmp_path / "cache").write_spec({"compile": "on"})
    script = tmp_path / "ranks.py"
    script.write_text(SCRIPT)
    caches = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"), "CXX": "no-such-compiler"}
    ranks = run.start(1, 1, str(script), **caches)
    assert ranks.wait(timeout_s=300) == 2, ranks.output()
    assert run.error(1)["kind"] == "config"
    assert "install a C++ compiler" in run.error(1)["message"]


def _run(folder: Path, options: dict[str, str]) -> dict[str, object]:
    run = TrialRun(folder / "run", folder / "cache").write_spec({"method": "abcb", **options})
    script = folder / "ranks.py"
    script.write_text(SCRIPT)
    ranks = run.start(1, 2, str(script), TORCHINDUCTOR_CACHE_DIR=str(folder / "inductor"))
    assert ranks.wait(timeout_s=500) == 0, ranks.output()
    outs = [torch.load(run.attempt(1) / f"out{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, value in outs[0]["undisturbed"].items():
        assert torch.equal(value, outs[1]["undisturbed"][name]), name
    whole: dict[str, object] = outs[0]
    return whole

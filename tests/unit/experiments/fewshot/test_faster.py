"""Which fast paths are on for a device and a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support.fewshot import fewshot_options, new_method, task_without_data
from torch import nn

from experiments.fewshot import faster, result
from experiments.fewshot.faster import make_faster
from experiments.fewshot.models.base import FewShotModel
from experiments.fewshot.options import TrainingOptions
from experiments.runtime.precision import Precision
from merge.errors import UsageError

CPU = Precision("off", torch.device("cpu"))
CUDA = torch.device("cuda")


def _scratch(method: str) -> FewShotModel:
    return new_method(method, "resnet18", from_scratch=True, abcb_channels=8, abcb_num_heads=1)


def test_on_a_cpu_nothing_changes_by_default() -> None:
    model = _scratch("abcb")
    assert make_faster(model, TrainingOptions(), CPU) == ()
    assert model.encoder is model.backbone


@pytest.mark.parametrize(
    ("method", "is_frozen", "chosen"),
    [
        ("abcb", True, ("channels_last", "constant_backbone", "fixed_shapes", "compile")),
        ("abcb", False, ("channels_last", "fixed_shapes", "compile")),
        ("prototype", True, ("channels_last", "constant_backbone", "compile")),
    ],
)
def test_on_cuda_all_that_fits_the_model_is_on(
    method: str, is_frozen: bool, chosen: tuple[str, ...]
) -> None:
    model = _scratch(method)
    model.backbone.is_frozen = is_frozen
    assert faster._chosen(model, TrainingOptions(), CUDA) == chosen
    off = TrainingOptions(
        channels_last="off", constant_backbone="off", fixed_shapes="off", compile="off"
    )
    assert faster._chosen(model, off, CUDA) == ()


def test_a_constant_of_a_trained_backbone_is_refused() -> None:
    with pytest.raises(UsageError, match=r"constant_backbone=on, .* set it to auto"):
        make_faster(_scratch("prototype"), TrainingOptions(constant_backbone="on"), CPU)


def test_a_kernel_that_does_not_work_ends_the_run_and_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("Failed to find C compiler\nmore")

    monkeypatch.setattr(faster, "front_histogram", fails)
    with pytest.raises(UsageError, match=r"find C compiler\): install .* fixed_shapes=off"):
        make_faster(_scratch("abcb"), TrainingOptions(fixed_shapes="on"), CPU)


def test_a_constant_backbone_is_no_part_of_the_state() -> None:
    torch.manual_seed(0)
    model = _scratch("prototype")
    names = list(model.state_dict())
    model.backbone.is_frozen = True
    model.backbone.eval()
    images = torch.rand(1, 3, 33, 33) * 255
    with torch.no_grad():
        before = model.encode(images)
        make_faster(model, replace(TrainingOptions(), constant_backbone="on"), CPU)
        after = model.encode(images)
    assert list(model.state_dict()) == names
    assert isinstance(model.encoder, nn.Module)
    assert model.encoder is not model.backbone
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_a_result_names_what_was_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result, "data_details", lambda _: {})
    task = task_without_data(fewshot_options(method="prototype"))
    model = _scratch("prototype")
    assert set(task.details(model)) == {"weights"}
    task._computed_with = ("compile",)
    assert task.details(model)["computed_with"] == ["compile"]

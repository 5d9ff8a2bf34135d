"""Panels that a person looks at: each cell in its place, each mask in its own cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from experiments.fewshot.panels import PanelRow, draw_panels, write_panels
from merge.errors import StorageError

COLUMN_PX = 232


def square(height: int, width: int, corner: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[corner[0] : corner[0] + 20, corner[1] : corner[1] + 20] = 1
    return image, mask


@pytest.fixture
def row() -> PanelRow:
    query, truth = square(60, 90, (10, 10))
    truth[:2] = 255
    return PanelRow(
        supports=(square(80, 50, (5, 5)),),
        query=query,
        truth=truth,
        prediction=truth == 1,
        class_name="red striped disc",
        iou=0.5,
    )


def changed_columns(first: PanelRow, second: PanelRow) -> set[int]:
    before, after = (np.asarray(draw_panels([shown])) for shown in (first, second))
    columns = np.nonzero((before != after).any(axis=(0, 2)))[0]
    return {int(column) // COLUMN_PX for column in columns}


def test_panels_are_written_as_one_png_with_a_row_an_episode(tmp_path, row):
    path = tmp_path / "panels" / "fold0.png"
    write_panels(path, [row, row, row])
    with Image.open(path) as three, draw_panels([row]) as one:
        assert three.format == "PNG"
        assert three.width == one.width == 4 * COLUMN_PX + 8
        assert 2 < three.height / one.height < 3
    assert [file.name for file in path.parent.iterdir()] == ["fold0.png"]


def test_each_part_of_an_episode_shows_in_its_own_column(row):
    none = np.zeros_like(row.prediction)
    assert changed_columns(row, row) == set()
    assert changed_columns(row, replace(row, supports=(square(80, 50, (50, 25)),))) == {0}
    assert changed_columns(row, replace(row, truth=none.astype(np.uint8))) == {2}
    assert changed_columns(row, replace(row, prediction=none)) == {3}
    assert changed_columns(row, replace(row, query=255 - row.query)) == {1, 2, 3}


def test_captions_name_the_class_and_the_iou(row):
    assert changed_columns(row, replace(row, class_name="a class with a very long name" * 9)) == {0}
    assert changed_columns(row, replace(row, iou=None)) == {3}


@pytest.mark.parametrize("shots", [2, 5, 10])
def test_all_shots_share_the_support_cell(row, shots):
    more = replace(row, supports=row.supports * shots)
    fewer = replace(row, supports=row.supports * (shots - 1))
    assert draw_panels([more]).size == draw_panels([row]).size
    assert changed_columns(more, fewer) == {0}


def test_a_panel_without_episodes_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no episode"):
        write_panels(tmp_path / "empty.png", [])


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path, row):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match=r"panel\.png"):
        write_panels(tmp_path / "file" / "panel.png", [row])

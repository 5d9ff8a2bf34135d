"""Actions on data sets are declared beside the experiments, and a wrong file is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from merge.errors import StudyError
from replicate.catalogue import ActionFlag, data_actions


def write_actions(experiments: Path, name: str, document: object) -> None:
    folder = experiments / name
    folder.mkdir(parents=True)
    text = document if isinstance(document, str) else json.dumps(document)
    (folder / "actions.json").write_text(text)


def test_every_experiment_adds_its_actions(tmp_path):
    flags = {"size": {"help": "s", "needed": True}}
    write_actions(tmp_path, "a", {"list": {"module": "show", "help": "h", "flags": flags}})
    write_actions(tmp_path, "b", {"count": {"module": "count", "help": "h"}})
    found = data_actions(tmp_path)
    assert {name: action.experiment for name, action in found.items()} == {
        "list": "a",
        "count": "b",
    }
    assert found["list"].flags == {"size": ActionFlag(help="s", needed=True)}


def test_two_actions_of_one_name_are_refused(tmp_path):
    for name in ("a", "b"):
        write_actions(tmp_path, name, {"list": {"module": "show", "help": "h"}})
    with pytest.raises(StudyError, match="experiment 'a' has an action 'list' too"):
        data_actions(tmp_path)


@pytest.mark.parametrize(
    "document", ["{", [], {"list": {}}, {"list": {"module": "m", "help": "h", "flagz": {}}}]
)
def test_a_wrong_file_is_named(tmp_path, document):
    write_actions(tmp_path, "a", document)
    with pytest.raises(StudyError, match=r"actions\.json"):
        data_actions(tmp_path)


def test_the_actions_of_papergrid_start_modules_that_are_there():
    experiments = Path(__file__).parents[3] / "experiments"
    actions = data_actions()
    assert {"episodes", "verify"} <= actions.keys()
    for action in actions.values():
        folder = experiments / action.experiment
        module = folder / action.module
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()

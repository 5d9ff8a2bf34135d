"""Actions on data sets are declared beside the experiments, and a wrong file is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from merge.errors import StudyError, UsageError
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


def test_an_action_of_several_experiments_goes_to_the_one_whose_data_sets_are_named(tmp_path):
    for name, datasets in (("a", ["cats", "dogs"]), ("b", ["birds"])):
        flags = {"datasets": {"many": True}, f"only-{name}": {"switch": True}}
        action = {"module": "show", "help": "h", "flags": flags, "datasets": datasets}
        write_actions(tmp_path, name, {"list": action})
    action = data_actions(tmp_path)["list"]
    assert action.flags.keys() == {"datasets", "only-a", "only-b"}
    assert action.flags["datasets"].help == "cats, dogs, birds"
    assert action.for_datasets(["dogs", "cats"]).experiment == "a"
    assert action.for_datasets(["birds"]).flags.keys() == {"datasets", "only-b"}
    with pytest.raises(UsageError, match="did you mean 'birds'"):
        action.for_datasets(["bird"])
    with pytest.raises(UsageError, match="experiments a and b"):
        action.for_datasets(["cats", "birds"])


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
    for action in (part for each in actions.values() for part in each.parts or (each,)):
        folder = experiments / action.experiment
        module = folder / action.module
        assert module.with_suffix(".py").is_file() or (module / "__main__.py").is_file()

"""Files that hosting sites and citation tools read are what their schemas ask for."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
GITHUB = ROOT / ".github"

_SCHEMAS = {
    "vendor.citation-file-format": [ROOT / "CITATION.cff"],
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.github-issue-forms": [
        GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("bug", "feature")
    ],
    "vendor.github-workflows": sorted((GITHUB / "workflows").glob("*.yml")),
    "custom.github-workflows-require-timeout": sorted((GITHUB / "workflows").glob("*.yml")),
}
_PINNED = re.compile(r"[\w-]+(/[\w-]+)+@[0-9a-f]{40}")


@pytest.mark.parametrize("schema", _SCHEMAS)
def test_files_meet_their_schema(schema):
    words = ["check_jsonschema", "--builtin-schema", schema, "--default-filetype", "yaml"]
    done = subprocess.run(
        [sys.executable, "-m", *words, *map(str, _SCHEMAS[schema])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_citation_is_of_this_version_and_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    for key, name in (("title", "name"), ("version", "version"), ("license", "license")):
        assert citation[key] == project[name]
    assert citation["abstract"] == project["description"]


def workflows() -> list[dict]:
    files = (GITHUB / "workflows").glob("*.yml")
    return [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]


def test_every_action_of_a_workflow_is_pinned_to_a_commit():
    steps = [step for flow in workflows() for job in flow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert used
    assert [name for name in used if not _PINNED.fullmatch(name)] == []


def test_workflows_may_only_read_and_call_targets_that_make_has():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split())
    called = set()
    for flow in workflows():
        assert flow["permissions"] == {"contents": "read"}
        for job in flow["jobs"].values():
            lines = "\n".join(step.get("run", "") for step in job["steps"])
            called |= set(re.findall(r"^make ([\w-]+)", lines, re.MULTILINE))
    assert called <= targets
    assert {"check", "test", "services"} <= called


def test_every_hook_of_pre_commit_is_a_tool_of_the_pinned_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pre_commit",
            "validate-config",
            str(ROOT / ".pre-commit-config.yaml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    tools = [Path(hook["entry"].split()[0]) for hook in hooks]
    assert {str(tool.parent) for tool in tools} == {".venv/bin"}
    assert [
        tool.name for tool in tools if not (Path(sys.executable).parent / tool.name).exists()
    ] == []

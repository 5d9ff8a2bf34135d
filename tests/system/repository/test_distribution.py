"""A release: what its wheel and sdist hold, and that the installed wheel works in any folder."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NAME = f"papergrid-{PROJECT['version']}"
PACKAGES = ("replicate", "orchestrator", "merge", "experiments")

pytestmark = [pytest.mark.system]


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """The folder with both archives; the wheel is built from the sdist, as an index would do."""
    folder = tmp_path_factory.mktemp("dist")
    words = ["-m", "build", "--no-isolation", "--outdir", str(folder)]
    run(sys.executable, *words, cwd=ROOT)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{NAME}-py3-none-any.whl",
        f"{NAME}.tar.gz",
    ]
    return folder


@pytest.fixture(scope="module")
def wheel(built) -> Path:
    return built / f"{NAME}-py3-none-any.whl"


def run(*words: str | Path, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def package_files() -> set[str]:
    """All files of the four packages that git does not ignore, by their names below the root."""
    words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *PACKAGES]
    listed = run("git", *words, cwd=ROOT)
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def test_the_wheel_holds_the_four_packages_whole_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    inside = {name for name in names if not name.startswith(f"{NAME}.dist-info/")}
    assert inside == package_files()
    for package in PACKAGES:
        assert f"{package}/py.typed" in inside
    for folder in ("replicate/studies", "replicate/published"):
        for file in (ROOT / folder).glob("*.yaml"):
            assert f"{folder}/{file.name}" in inside
    assert f"{NAME}.dist-info/licenses/LICENSE" in names
    for extra in PROJECT["optional-dependencies"]:
        assert f"Provides-Extra: {extra}" in metadata


def test_the_sdist_holds_sources_and_documents_but_no_tests_benchmarks_or_outputs(built):
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert package_files() <= names
    assert {"README.md", "LICENSE", "CITATION.cff", "docs/studies.md", "pyproject.toml"} <= names
    folders = {name.split("/")[0] for name in names if "/" in name}
    assert folders == {*PACKAGES, "docs", "examples"}


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The `bin` of a fresh environment: the wheel, and beside it what these tests run on."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    words = ["-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    run(sys.executable, *words, "--no-deps", "--no-index", "--quiet", wheel, cwd=folder)
    # A plain path: its own .pth files are not read, so the editable papergrid in it stays unseen.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def test_the_installed_command_plans_the_demo_from_another_folder(installed, tmp_path):
    assert "usage: replicate" in run(installed / "replicate", "--help", cwd=tmp_path)
    plan = json.loads(
        run(installed / "replicate", "plan", "--study", "demo", "--json", cwd=tmp_path)
    )
    assert plan["num_runs"] == 8
    where = run(
        installed / "python", "-c", "import replicate; print(replicate.__file__)", cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(installed.parent)

"""How to start a Python process that imports papergrid's packages, not foreign ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_SOURCE = Path(__file__).resolve().parent.parent.parent
_INSTALLED = ("site-packages", "dist-packages")
_RUN_MODULE = (
    "import runpy, sys; _, source, module, *words = sys.argv; sys.path.insert(0, source); "
    "sys.argv = [module, *words]; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)


def source_root() -> Path | None:
    """Folder from which to import papergrid's packages; None if they are installed."""
    # site-packages in front of sys.path would shadow modules of the standard library.
    return None if _SOURCE.name in _INSTALLED else _SOURCE


def training_install(python: str) -> str:
    """The command that adds what trainings need to the environment of `python`."""
    if (_SOURCE / "pyproject.toml").is_file():
        return f"{python} -m pip install '{_SOURCE}[train]'"
    from importlib import metadata  # 20 ms that only an error needs

    # Installed from a file that need not be there any more: the packages by their names.
    try:
        required = metadata.requires("papergrid") or []
    except metadata.PackageNotFoundError:
        required = []
    names = [text.partition(";")[0].strip() for text in required if "extra == 'train'" in text]
    return f"{python} -m pip install {' '.join(map(repr, names)) or 'torch torchvision timm'}"


def import_variables(inherited: Mapping[str, str], source: Path | None) -> dict[str, str]:
    """Variables for a process that imports papergrid's packages, from `source` if given."""
    # A folder named `experiments` in the current directory must not shadow papergrid's.
    variables = {"PYTHONSAFEPATH": "1"}
    if source:
        known = inherited.get("PYTHONPATH")
        variables["PYTHONPATH"] = f"{source}:{known}" if known else str(source)
    return variables


def module_words(python: str, source: Path | None, module: str) -> tuple[str, ...]:
    """The command that runs papergrid's `module`, imported from `source` if given.

    The folder is an argument, not PYTHONPATH: commands of a study would inherit a variable.
    """
    # -P: a folder named `replicate` in the current directory must not shadow papergrid's. -u: a log
    # must show a line when it is printed.
    if source is None:
        return (python, "-P", "-u", "-m", module)
    return (python, "-P", "-u", "-c", _RUN_MODULE, str(source), module)

"""How a process of ours is started so that it imports papergrid, and no folder of that name."""

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
    """What our packages must be imported from; None where they are installed and found anyway."""
    # The folder of installed packages, put first, would shadow standard modules.
    return None if _SOURCE.name in _INSTALLED else _SOURCE


def import_variables(inherited: Mapping[str, str], source: Path | None) -> dict[str, str]:
    """What a process needs in its environment to import our packages, from `source` if given."""
    # A folder named `experiments` where the person stands must not be taken for ours.
    variables = {"PYTHONSAFEPATH": "1"}
    if source:
        known = inherited.get("PYTHONPATH")
        variables["PYTHONPATH"] = f"{source}:{known}" if known else str(source)
    return variables


def module_words(python: str, source: Path | None, module: str) -> tuple[str, ...]:
    """The command that runs `module` of ours, imported from `source` if given.

    Where our packages lie is an argument, not a variable: a study's commands would inherit that.
    """
    # -P: a folder named `replicate` where the process starts must not be taken for ours.
    if source is None:
        return (python, "-P", "-u", "-m", module)
    return (python, "-P", "-u", "-c", _RUN_MODULE, str(source), module)

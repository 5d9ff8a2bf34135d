"""Libraries that define metrics, called in an environment of their own: their pins are not ours.

They are looked for in the environment that PAPERGRID_TEST_ORACLES names (default `.venv-oracles`,
which `make test` makes).
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

_DEFAULT_ENVIRONMENT = Path(__file__).parents[2] / ".venv-oracles"
_REPORT = "\nimport json as _json\nprint('\\n' + _json.dumps(answer()))\n"


def ask_oracle(source: str, *words: str | Path, timeout_s: float = 300) -> Any:
    """What `answer()` of the Python text `source` returns there, as JSON; `words` are sys.argv[1:].

    The test is skipped where the environment is not there.
    """
    folder = Path(os.environ.get("PAPERGRID_TEST_ORACLES") or _DEFAULT_ENVIRONMENT)
    python = folder / "bin" / "python"
    if not python.exists():
        pytest.skip(f"oracles: no Python in {folder} (make .venv-oracles/.setup-done)")
    done = subprocess.run(
        [str(python), "-c", source + _REPORT, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])

"""`python -m experiments.dense.verify`: what `replicate data verify` starts. No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.datasets.verify.findings import Findings
from experiments.datasets.verify.report import document, exit_code, lines
from experiments.dense.verify.checks import COUNTS, verify
from merge.errors import PapergridError
from merge.foreign_text import guarded_output

SCHEMA = 1
_ADVICE = "unpack what is missing or wrong again (docs/dense.md says from where)"


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copies that `argv` names, print what is found; the exit code."""
    arguments = _parse(argv)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    found = [Findings(name, arguments.limit) for name in dict.fromkeys(arguments.datasets)]
    try:
        for findings in found:
            root = arguments.data_root
            verify(findings.dataset, root, findings, is_deep=arguments.deep)
    except PapergridError as error:
        print(f"replicate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        print(json.dumps({"schema": SCHEMA, "datasets": [document(f) for f in found]}, indent=1))
    else:
        print("\n".join(line for findings in found for line in lines(findings, _ADVICE)))
    return exit_code(found)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    parser.add_argument("--datasets", nargs="+", required=True, choices=tuple(COUNTS))
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--deep", action="store_true")
    parser.add_argument("--limit", type=_limit, default=10)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(argv)


def _limit(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not 0 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

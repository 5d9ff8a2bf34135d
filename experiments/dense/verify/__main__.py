"""`python -m experiments.dense.verify`: what `replicate data verify` starts. No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.datasets.verify.command import add_common_flags, run_checks
from experiments.datasets.verify.findings import Findings
from experiments.dense.verify.checks import COUNTS, verify
from merge.foreign_text import guarded_output

_ADVICE = "to mend it: unpack what is missing or wrong again (docs/dense.md says from where)"


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copies that `argv` names, print what is found; the exit code."""
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    add_common_flags(parser, tuple(COUNTS), has_manifest=False)
    arguments = parser.parse_args(argv)

    def check(dataset: str, root: Path) -> Findings:
        findings = Findings(dataset, arguments.limit)
        verify(dataset, root, findings, is_deep=arguments.deep)
        return findings

    return run_checks(arguments, check, lambda _: _ADVICE)


if __name__ == "__main__":
    sys.exit(main())

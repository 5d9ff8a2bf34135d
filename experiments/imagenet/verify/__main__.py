"""`python -m experiments.imagenet.verify`: what `replicate data verify` starts. No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.datasets.verify.command import add_common_flags, run_checks
from experiments.datasets.verify.findings import Findings
from experiments.imagenet.verify.folders import verify_imagenet
from experiments.imagenet.verify.manifest import read_counts
from merge.foreign_text import guarded_output

_ADVICE = (
    "to mend it: unpack the archive of what is missing or broken again (docs/data.md); a subset on "
    "purpose has its own counts in a --manifest FILE"
)


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copy that `argv` names, print what is found; the exit code."""
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    add_common_flags(parser, ("imagenet",))
    arguments = parser.parse_args(argv)

    def check(dataset: str, root: Path) -> Findings:
        findings = Findings(dataset, arguments.limit)
        counts = read_counts(arguments.manifest)
        verify_imagenet(root, counts, findings, is_deep=arguments.deep)
        return findings

    return run_checks(arguments, check, lambda _: _ADVICE)


if __name__ == "__main__":
    sys.exit(main())

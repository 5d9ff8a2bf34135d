"""`python -m experiments.fewshot.verify`: what `replicate data verify` starts. No torch.

Exit codes: 0 all is well, 3 something is missing, 1 something is wrong (or both), 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.datasets.prepare.manifest import load_manifest
from experiments.datasets.verify.command import add_common_flags, run_checks
from experiments.datasets.verify.findings import Findings
from experiments.fewshot.verify.coco20i import verify_coco20i
from experiments.fewshot.verify.pascal5i import verify_pascal5i
from merge.foreign_text import guarded_output

_CHECKS = {"pascal5i": verify_pascal5i, "coco20i": verify_coco20i}
_ADVICE = (
    "to mend it: move the folder of what is wrong away, then `replicate prepare "
    "--datasets {dataset} --data-root DIR --download`; a subset on purpose has its own counts in a "
    "--manifest FILE"
)


@guarded_output()
def main(argv: Sequence[str] | None = None) -> int:
    """Verify the copies that `argv` names, print what is found; the exit code."""
    parser = argparse.ArgumentParser(prog="verify", usage=argparse.SUPPRESS, allow_abbrev=False)
    add_common_flags(parser, tuple(_CHECKS))
    arguments = parser.parse_args(argv)

    def check(dataset: str, root: Path) -> Findings:
        findings = Findings(dataset, arguments.limit)
        counts = load_manifest(arguments.manifest).of(dataset).counts
        _CHECKS[dataset](root, counts, findings, is_deep=arguments.deep)
        return findings

    return run_checks(arguments, check, lambda dataset: _ADVICE.format(dataset=dataset))


if __name__ == "__main__":
    sys.exit(main())

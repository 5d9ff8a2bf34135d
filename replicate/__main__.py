"""`python -m replicate` is the `replicate` command."""

from __future__ import annotations

import sys

from replicate.cli.main import main

sys.exit(main())

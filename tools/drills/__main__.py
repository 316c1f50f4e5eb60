"""python -m tools.drills TIER [DRILL...]: run drills, print their verdicts, keep the results in .lab/drills."""

from __future__ import annotations

import sys

from tools.drills.cli import main

sys.exit(main())

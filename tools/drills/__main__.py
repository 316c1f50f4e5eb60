"""python -m tools.drills rolling [DRILL...]: run drills, print their verdicts, keep the results in .lab/drills."""

from __future__ import annotations

import sys

from tools.drills.cli import main

sys.exit(main())

"""Paths of the repository and of real images at hand."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
REALDATA = Path(os.environ.get("CLIPDR_REALDATA", ROOT.parent / "shared" / "realdata"))

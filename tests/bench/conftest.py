"""Programs in bench/ import one another by name, as when they are run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "bench"))

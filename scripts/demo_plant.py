"""Write deploy/demo-plant/plant.toml, the plant of the demo stack: the simulated machines and the rig of `make smoke`.

With `--check`: exit code 1 if it is not what would be written.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from anomaly.domain import SECOND, Asset, Plant, Role, Tag
from pipelines.plant_file import write_plant
from pipelines.sources.simulator import Simulator

TARGET: Final = Path(__file__).parent.parent / "deploy" / "demo-plant" / "plant.toml"
HEAD: Final = """\
# The simulated plant of `make up`: made by scripts/demo_plant.py. Your own goes to plant/plant.toml (README, “From demo
# to plant”). `smoke/test/rig` is no machine: `make smoke` sends its readings, and nobody else.

"""
RIG: Final = Asset(
    "smoke/test/rig",
    "rigs",
    (
        Tag("load", unit="%", low=0.0, high=100.0),
        Tag("state", role=Role.MODE, running=(1.0,)),
    ),
    SECOND,
    "Test rig of make smoke",
)


def text() -> str:
    """The file."""
    simulated = Simulator(0, 0, 0).plant
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plant.toml"
        write_plant(Plant(simulated.name, (*simulated.assets, RIG), simulated.timezone), path)
        return HEAD + path.read_text(encoding="utf-8")


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text() else 1)
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(text(), encoding="utf-8")

"""Runs inside the dashboard's container: what the historian holds of the rig.

ask.py newest              time of its newest reading, ns (0: none)
ask.py scores SINCE UNTIL  times of its scores in [SINCE, UNTIL), ns
"""

import json
import sys

from pipelines import wiring
from pipelines.settings import Settings

ASSET = "smoke/test/rig"

reader = wiring.open_historian_reader(Settings())
if sys.argv[1] == "newest":
    span = reader.span(ASSET)
    print(json.dumps(span[1] if span else 0))
else:
    blocks = reader.scores(ASSET, int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps([int(time) for block in blocks for time in block.times]))

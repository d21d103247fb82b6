"""A simulated plant whose faults are known: for the demo, for tests, and for `plantwatch simulate`.

simulator = Simulator(seed=1, start_ns=1_767_571_200 * SECOND)
history = simulator.advance(simulator.live_from)      # 36 h without a fault, one block per asset
live = simulator.advance(simulator.now + 60 * SECOND) # the next minute
simulator.faults(simulator.now)                       # what really went wrong so far
"""

from pipelines.sources.simulator.faults import Fault, FaultKind
from pipelines.sources.simulator.plant import demo_plant
from pipelines.sources.simulator.simulator import Simulator
from pipelines.sources.simulator.truth import truth

__all__ = ["Fault", "FaultKind", "Simulator", "demo_plant", "truth"]

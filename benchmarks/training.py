"""A step of training of the small nets in `benchmarks.nets`, and how much faster it is."""

from __future__ import annotations

from benchmarks.nets import NETS
from benchmarks.nets.measure import STARTS, keep_memory, limited_to, measure
from fastact.bench.contenders import NATIVE


class TrainingStep:
    """A step in plain NumPy and with fastact, in one plot."""

    version = "1"
    timeout = 180
    param_names = ("net", "implementation")
    params = (tuple(NETS), NATIVE)

    def setup(self, net: str, implementation: str) -> None:
        keep_memory()
        self.run = STARTS[implementation](NETS[net])
        self.run.step()

    def time_step(self, net: str, implementation: str) -> None:
        self.run.step()


class TrainingRatio:
    """How many times longer plain NumPy takes, measured in turn on one thread."""

    version = "1"
    timeout = 180
    unit = "times"
    param_names = ("net",)
    params = (tuple(NETS),)
    rounds = 9

    def track_step(self, net: str) -> float:
        keep_memory()
        with limited_to(1):
            return measure(net, NETS[net], self.rounds, NATIVE).speedup()

"""Training steps whose products round their operands to bfloat16, on a CPU with a unit for them (AMX).

Every library keeps parameters and their updates in float32; beside them runs fastnn in float32.
"""

from racers import Fastnn, Torch
from workers import LeftOut
from workloads import WORKLOADS

ROWS = {f"bfloat16 {name}": name for name in WORKLOADS if name.startswith(("mnist 784-512-512-10", "wide"))}
SLACK = 4.0  # times what float32 runs may differ: PyTorch rounds outputs of layers, too


class FastnnRounded(Fastnn):
    def __init__(self, workload, threads):
        super().__init__(workload, threads)
        try:
            self.net = self.work.net(precision="bf16")
        except ValueError as error:
            raise LeftOut(str(error)) from None


class TorchRounded(Torch):
    """Under autocast, without a cache of rounded weights, which change at each step."""

    def objective(self, params, X, y):
        with self.torch.autocast("cpu", self.torch.bfloat16, cache_enabled=False):
            return super().objective(params, X, y)


RACERS = {"fastnn": FastnnRounded, "fastnn float32": Fastnn, "torch": TorchRounded}

"""What someone waits for before the first step: import, compilation, loading what was compiled."""

import shutil
from importlib.util import find_spec
from pathlib import Path

PREPARE = """
import numpy as np
import fastnn
X = np.random.default_rng(0).standard_normal((64, 8), np.float32)
net = fastnn.Sequential([fastnn.Dense(16, "tanh"), fastnn.Dense(1, "sigmoid")], seed=0)
"""
FIT = "net.fit(X, X[:, 0] > 0, optimizer=fastnn.SGD(0.1), epochs=1, batch_size=32, threads=1)"
EMPTY_CACHE = """
import os, tempfile
folder = tempfile.TemporaryDirectory()
os.environ["FASTNN_CACHE_DIR"] = folder.name
"""
# Over a stand-in for the driver, with no GPU; the loop is that of nets for classes
GPU = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import fake_driver
fake_driver.load(folder.name)
import numpy as np
import fastnn
from fastnn import kernels
from fastnn.kernels import tables
from fastnn.kernels.cuda import schedule, step, toolchain
layers = [fastnn.Dense(64, "relu"), fastnn.Dense(10, "softmax")]
structure = schedule.structure_of(fastnn.Sequential(layers).build(64).program, tables.TRAIN, kernels.ADAM)
"""
LOOP = """
loop = step.run_of(np.float32, {}, structure, True)
toolchain.Launch(loop, 1, 1, 0, (0,) * 10).loaded(toolchain.current_device())
"""


class _Fresh:
    """Each sample in an interpreter of its own."""

    version = "1"
    number = 1
    warmup_time = 0
    timeout = 300


class Import(_Fresh):
    rounds = 2
    repeat = (3, 5, 5.0)

    def timeraw_import(self):
        return "import fastnn"


class FirstFit(_Fresh):
    """Of a process, from its call to its end; the import is not in it."""

    rounds = 2
    repeat = (3, 5, 5.0)

    def setup(self):
        exec(PREPARE + FIT, {})  # fills the cache

    def timeraw_from_the_cache(self):
        return FIT, PREPARE


class FirstFitEver(_Fresh):
    """Where nothing was compiled before."""

    rounds = 1
    repeat = 1

    def timeraw_compiled(self):
        return FIT, EMPTY_CACHE + PREPARE


class LoopOfAGpu(_Fresh):
    """Compiled where nothing was before, for one block, for shards or for a grid."""

    rounds = 1
    repeat = 1
    params = [["block", "shards", "grid"]]
    param_names = ["loop"]

    def setup(self, loop):
        if find_spec("numba_cuda") is None or shutil.which("cc") is None:
            raise NotImplementedError("no numba-cuda, or no compiler of C, by which the stand-in for a driver is built")

    def timeraw_compiled(self, loop):
        return LOOP.format(repr(loop)), EMPTY_CACHE + GPU


class SecondArchitecture:
    version = "1"

    def track_compilations(self):
        """For another net, loss, activation and optimizer after a first fit: one loop serves all."""
        import numpy as np
        from numba.core import event

        import fastnn

        X = np.random.default_rng(0).standard_normal((64, 8), np.float32)
        first = fastnn.Sequential([fastnn.Dense(16, "tanh"), fastnn.Dense(1, "sigmoid")], seed=0)
        first.fit(X, X[:, 0] > 0, optimizer=fastnn.SGD(0.1), epochs=1, batch_size=32, threads=1)
        second = fastnn.Sequential([fastnn.Dense(7, "gelu"), fastnn.Dense(5, "relu"), fastnn.Dense(2)], seed=0)
        with event.install_recorder("numba:compile") as recorder:
            second.fit(X, X[:, :2], optimizer=fastnn.Adam(), epochs=1, batch_size=None, threads=1)
        return sum(what.is_start for _, what in recorder.buffer)

    track_compilations.unit = "compilations"

"""Imported in each process before the benchmarks: pinned threads, and caches that no other source can fill."""

import hashlib
import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


def _source_state():
    """Hash of the installed sources; asv's own ASV_COMMIT is missing with --python=same and wrong with -j."""
    package = Path(find_spec("fastnn").origin).parent
    kernels = package / "kernels"
    if not kernels.is_dir():  # an editable install leaves them where the repository has them
        kernels = package.parent / "kernels"
    digest = hashlib.sha256()
    for file in sorted({*package.rglob("*.py"), *kernels.rglob("*.py")}):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


CACHE = HERE / ".numba_cache" / _source_state()
os.environ["NUMBA_CACHE_DIR"] = str(CACHE)
os.environ["FASTNN_CACHE_DIR"] = str(CACHE / "fastnn")
os.environ["NUMBA_NUM_THREADS"] = "2"
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.append(str(HERE))  # workloads.py and its neighbours


class Timed:
    """What the timings share; a subclass has `make(*params)`, which gives what it times, data ready and compiled."""

    version = "1"  # raised by hand where the work changes; else every edit would drop the history
    rounds = 2  # processes, spread over the run
    repeat = (3, 10, 0.5)  # samples in a process: least, most, seconds
    sample_time = 0.02
    warmup_time = 0.1
    timer = time.process_time  # of the one thread that works: what else the machine does is not in it
    _ready = {}  # of the process: some runners call setup before every sample

    def setup(self, *params):
        key = type(self), *params
        if key not in self._ready:
            self._ready[key] = self.make(*params)
        self.ready = self._ready[key]

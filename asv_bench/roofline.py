"""The roofline: how fast the machine could make a step, by its arithmetic and its bandwidth as measured in the race.

The model. A step takes at least

- its operations (`Workload.flops`) at the peak of fused multiply-adds, or
- its bytes at the bandwidth of the level where they lie: the rows of the batch are read once; parameters, gradient and
  the optimizer's state are read once and written once, as fast as reading goes. What a step makes and uses again, such
  as activations, is not counted: blocks of rows keep it in the first cache.

whichever is longer. In full-batch training rows and state lie in the smallest level that holds all of them. Batches are
cut from a data set: they come from the level that holds the whole of it, while state lies in the level that holds state
and one batch. The caches of the cores in use add up where they are private. The peaks are reached in vectors of full
width, with enough independent sums to hide the latency; a part of a step that cannot do so (division, a narrow layer)
keeps it from its roofline however well it is written.
"""

import os
import threading
import time
from pathlib import Path

import numpy as np
from workers import LeftOut

SUMS = 12  # independent sums while reading
TRIAL_SECONDS = 0.006
TRIALS = 4  # of each measurement in a round; the best counts
LARGEST_SET = 1 << 30  # bytes


def caches(cores, root=Path("/sys/devices/system/cpu")):
    """{"L1": bytes, ...} of data caches, of all of these cores together."""
    found = {}
    for core in cores:
        for index in (root / f"cpu{core}" / "cache").glob("index*"):
            kind, level, size, shared = (
                (index / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
            if kind != "Instruction":
                number, unit = int(size.rstrip("KMG")), {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
                found[f"L{level}", shared] = number * unit.get(size[-1], 1)
    sizes = {}
    for (level, _), size in sorted(found.items()):
        sizes[level] = sizes.get(level, 0) + size
    return sizes


def working_sets(sizes):
    """{level: bytes} of arrays that lie in each level and in no inner one, memory included."""
    inner, sets = 0, {}
    for level, size in sizes.items():
        sets[level] = int((inner * size) ** 0.5) if inner else size // 2
        inner = size
    sets["memory"] = min(max(4 * inner, 1 << 27), LARGEST_SET)
    return sets


def home(size, sizes):
    """The smallest level that holds so many bytes."""
    return next((level for level, room in sizes.items() if size <= room), "memory")


def limit(work, sizes, measured):
    """{"us", "bound", ...} of a step, from cache sizes and the measured {"flops": a second, level: bytes a second}."""
    state, batch, rows = work.state_bytes(), work.data_bytes(work.batch), work.data_bytes(work.rows)
    data_level = home(rows + state, sizes)
    state_level = data_level if work.batch == work.rows else home(batch + state, sizes)
    arithmetic = 1e6 * work.flops() / measured["flops"]
    memory = 1e6 * (batch / measured[data_level] + 2 * state / measured[state_level])
    return {
        "us": max(arithmetic, memory),
        "bound": "arithmetic" if arithmetic >= memory else data_level if batch > 2 * state else state_level,
        "arithmetic_us": arithmetic,
        "memory_us": memory,
        "flops": work.flops(),
        "data_bytes": batch,
        "data_level": data_level,
        "state_bytes": 2 * state,
        "state_level": state_level,
    }


def _reader():
    """A compiled function that gives a number that depends on all that it read."""
    from numba import njit

    from fastnn.kernels.cpu.memory import address_of
    from fastnn.kernels.cpu.simd import lanes, load, splat, total

    # Sums by name, not in an array: they must stay in registers.
    names = [f"s{i}" for i in range(SUMS)]
    lines = [
        "def read(array, passes):",
        "    p = address_of(array)",
        *[f"    {name} = splat(array[0], p)" for name in names],
        "    for _ in range(passes):",
        "        for at in range(0, array.size, SUMS * lanes(p)):",
        *[f"            {name} = {name} + load(p + (at + {i} * lanes(p)))" for i, name in enumerate(names)],
        f"    return total({' + '.join(names)})",
    ]
    space = dict(address_of=address_of, lanes=lanes, load=load, splat=splat, total=total, SUMS=SUMS)
    exec("\n".join(lines), space)
    return njit(nogil=True)(space["read"])


def _aligned(count):
    """So many float32 of 0.5 from the start of a page."""
    room = np.empty(4 * count + 4096, np.uint8)
    at = -room.ctypes.data % 4096
    array = room[at : at + 4 * count].view(np.float32)
    array[:] = 0.5
    return array


class Roofline:
    """Measures peaks on the cores of its process, one thread on each."""

    def __init__(self):
        self.cores = sorted(os.sched_getaffinity(0))
        self.sizes = caches(self.cores)
        if not self.sizes:
            raise LeftOut("the system shows no cache sizes")
        from fastnn.kernels.cpu.peak import multiply_add

        self.multiply_add, self.read = multiply_add, _reader()
        unit = SUMS * 64  # a whole number of vectors of any width for each sum
        self.arrays = {
            level: [_aligned(max(1, size // (4 * unit * len(self.cores))) * unit) for _ in self.cores]
            for level, size in working_sets(self.sizes).items()
        }
        self.multiply_add(self.arrays["memory"][0], unit)
        self.read(self.arrays["memory"][0], 1)
        self.work = {"flops": self._enough(lambda count: self._multiply_adds(count), 1 << 20)}
        for level in self.arrays:
            self.work[level] = self._enough(lambda count, level=level: self._reads(level, count), 1)

    def cache_sizes(self):
        """{level: bytes}, of all cores of this process together."""
        return self.sizes

    def round(self):
        """{"flops": a second, level: bytes read a second}, each the best of some trials."""
        result = {"flops": self.arithmetic()}
        for level, arrays in self.arrays.items():
            seconds = min(self._reads(level, self.work[level]) for _ in range(TRIALS))
            result[level] = sum(array.nbytes for array in arrays) * self.work[level] / seconds
        return result

    def arithmetic(self):
        """Floating-point operations a second, the best of some trials."""
        seconds = min(self._multiply_adds(self.work["flops"]) for _ in range(TRIALS))
        return 2 * self.work["flops"] * len(self.cores) / seconds

    def _multiply_adds(self, count):
        return self._together([lambda: self.multiply_add(self.arrays["memory"][0], count)] * len(self.cores))

    def _reads(self, level, passes):
        return self._together([lambda array=array: self.read(array, passes) for array in self.arrays[level]])

    def _enough(self, seconds_of, amount):
        """An amount of work that takes TRIAL_SECONDS."""
        while (seconds := min(seconds_of(amount) for _ in range(TRIALS))) < TRIAL_SECONDS / 4:
            amount *= 4
        return max(1, round(amount * TRIAL_SECONDS / seconds))

    def _together(self, tasks):
        """Seconds until all are done, each on a core of its own, from the moment when all are ready."""
        if len(tasks) == 1:
            start = time.perf_counter()
            tasks[0]()
            return time.perf_counter() - start
        ready, begun, ended = threading.Barrier(len(tasks)), [], []

        def run(core, task):
            os.sched_setaffinity(0, [core])  # of this thread
            ready.wait()
            begun.append(time.perf_counter())
            task()
            ended.append(time.perf_counter())

        threads = [
            threading.Thread(target=run, args=(core, task)) for core, task in zip(self.cores, tasks, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return max(ended) - min(begun)

"""Which device a net with device="auto" takes: the GPU, for work above the measured break-even.

Nothing is guessed: without measurements on this machine and this card it is the CPU. `python -m fastnn devices` times
training steps and predictions of some nets on both, and keeps what it found beside the compiled kernels.
"""

import ctypes
import functools
import hashlib
import importlib.util
import json
import math
import platform
import time
from statistics import median
from typing import Any

import numpy as np

from . import backends
from ._version import __version__

KINDS, DTYPES = ("step", "prediction"), ("float32", "float64")
# From what takes a CPU microseconds to what takes it about a second
NETS = ((4, 8, 1), (64, 32, 10), (8, 64, 64, 1), (784, 128, 10), (784, 512, 512, 10), (1024, 1024, 1024, 10))
BATCHES = (32, 256, 2048, 16_384)
MOST_WORK = 1 << 37  # of a step that is timed
ROUNDS, TRIAL_SECONDS = 3, 0.1


def processor():
    """Name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@functools.cache
def gpu():
    """(Name of the first NVIDIA GPU that the driver shows, None), or (None, what is missing)."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        label = ctypes.create_string_buffer(100)
        if driver.cuInit(0) == 0 and driver.cuDeviceGetName(label, 100, 0) == 0:
            return label.value.decode(), None
        return None, "the NVIDIA driver shows none"
    return None, "no NVIDIA driver"


def chosen(device, work, kind, dtype, on_gpu):
    """The device for a plan of a net with this `device`.

    Parameters
    ----------
    device : str
        "cpu" and "cuda" are themselves.
    work : int
        Floating-point operations, as `Program.flops_per_sample` estimates those of a training step.
    kind : str
        "step", or "prediction" for all that is not training.
    dtype : dtype
        Of the net.
    on_gpu : bool
        Whether its data are there already.

    Returns
    -------
    str
        "cpu" or "cuda".
    """
    if device != "auto" or on_gpu:
        return "cpu" if device == "cpu" else "cuda"
    found, _ = thresholds()
    least = None if found is None else found[kind][dtype.name]
    return "cuda" if least is not None and work >= least and backends.gpu_works() else "cpu"


def thresholds():
    """({kind: {dtype: least work, or None where the CPU always won}}, None), or (None, what is missing)."""
    return _kept(backends.cache_folder())


def summary():
    """What device="auto" does here, in a line."""
    found, missing = thresholds()
    if found is None:
        return f"the CPU: {missing}"
    wins = {kind: found[kind]["float32"] for kind in KINDS if found[kind]["float32"] is not None}
    from_where = ", ".join(f"{work:.2g} flops a {kind}" for kind, work in wins.items())
    return f"the GPU from {from_where} in float32" if wins else "the CPU, which won wherever it was measured"


@functools.cache  # a process looks once, and asks the driver only where something may be found
def _kept(folder):
    if importlib.util.find_spec("numba_cuda") is None:
        return None, "no numba-cuda"
    not_measured = None, "not measured on this machine (python -m fastnn devices)"
    if folder is None or not any(folder.glob("devices-*.json")):
        return not_measured
    machine, missing = _machine()
    if machine is None:
        return None, missing
    try:
        content = json.loads(backends.read_own(_path(folder, machine)))
        found = {kind: {dtype: content["thresholds"][kind][dtype] for dtype in DTYPES} for kind in KINDS}
        suits = content["machine"] == machine
    except (OSError, ValueError, KeyError, TypeError):
        return not_measured
    for work in (work for each in found.values() for work in each.values()):
        suits = suits and (work is None or type(work) in (int, float) and 0 <= work < math.inf)
    return (found, None) if suits else not_measured


def _machine():
    """(What the measurements hold for, None), or (None, what is missing)."""
    card, missing = gpu()
    return (None, missing) if card is None else ({"GPU": card, "CPU": processor(), "fastnn": __version__}, None)


def _path(folder, machine):
    return folder / f"devices-{hashlib.sha256(json.dumps(machine).encode()).hexdigest()[:16]}.json"


def measure_devices(progress: bool = False) -> dict[str, Any]:
    """Time training steps and predictions on the CPU and on the GPU, and keep the work from which the GPU wins.

    Nets with device="auto" then take it for such work. It takes some minutes and wants an idle machine.
    Where kernels are kept (`FASTNN_CACHE_DIR`) there is then a file for this GPU, CPU and version of fastnn.

    Parameters
    ----------
    progress : bool
        Print what is found as a table, line by line.

    Returns
    -------
    dict
        "machine" (GPU, CPU, fastnn), "cases" (of each: "net", "batch", "dtype", "work" in floating-point operations of
        a step, and "step" and "prediction" with "cpu" and "cuda" in microseconds and "ratio", the first over the
        second) and "thresholds" ({"step", "prediction"}: {dtype: smallest work above which the GPU won in every
        case, or None}).

    Raises
    ------
    ImportError, RuntimeError
        Without numba-cuda, or a GPU.
    OSError
        Where the file cannot be written.
    """
    backends.check_gpu()
    folder, (machine, missing) = backends.cache_folder(), _machine()
    if machine is None:
        raise RuntimeError(f"no GPU to measure: {missing}")
    if folder is None:
        raise OSError("no folder to keep what is measured in: set FASTNN_CACHE_DIR")
    if progress:
        print("\n".join(f"{name:<10}{value}" for name, value in machine.items()))
        print(f"\n{'us on CPU / GPU':<36}{'flops':>10}{'step':>26}{'prediction':>26}")
    cases = []
    for dtype in DTYPES:
        for sizes in NETS:
            for batch in BATCHES:
                case = _case(sizes, batch, dtype)
                if case is not None:
                    cases.append(case)
                    if progress:
                        print(_line(case), flush=True)
    found = {kind: {dtype: least_work(cases, kind, dtype) for dtype in DTYPES} for kind in KINDS}
    result = {"machine": machine, "thresholds": found, "cases": cases}
    backends.write_own(_path(folder, machine), json.dumps(result, indent=1).encode())
    _kept.cache_clear()
    if progress:
        print()
        for kind in KINDS:
            for dtype, work in found[kind].items():
                print(f"{kind}, {dtype}: " + ("the CPU" if work is None else f"the GPU from {work:.3g} flops"))
    return result


def least_work(cases, kind, dtype):
    """The smallest work of a case from which the GPU won in every case, or None."""
    cases = [case for case in cases if case["dtype"] == dtype]
    lost = max((case["work"] for case in cases if case[kind]["ratio"] <= 1), default=0)
    return min((case["work"] for case in cases if case["work"] > lost), default=None)


def _case(sizes, batch, dtype):
    """One line of the measurements, or None where it would take too long."""
    from . import Adam, Dense, Sequential

    layers = [Dense(n, "relu") for n in sizes[1:-1]] + [Dense(sizes[-1])]
    nets = {d: Sequential(layers, dtype=dtype, device=d).build(sizes[0]) for d in ("cpu", "cuda")}
    work = batch * nets["cpu"].program.flops_per_sample
    if work > MOST_WORK:
        return None
    random = np.random.default_rng(0)
    X, y = (random.standard_normal((2 * batch, n), np.float32).astype(dtype) for n in (sizes[0], sizes[-1]))

    def steps(device, count):
        # two steps an epoch; those of a fit are timed without what comes before the first
        return nets[device].fit(X, y, Adam(1e-3), epochs=-(-count // 2), batch_size=batch).microseconds_per_step

    def predictions(device, count):
        start = time.perf_counter()
        for _ in range(count):
            nets[device].predict(X[:batch])
        return 1e6 * (time.perf_counter() - start) / count

    return {"net": "-".join(map(str, sizes)), "batch": batch, "dtype": dtype, "work": work} | {
        kind: _raced(way) for kind, way in zip(KINDS, (steps, predictions), strict=True)
    }


def _raced(way):
    """Times of `way(device, count)` on both devices in turns, and the median of their ratios."""
    counts = {}
    for device in ("cpu", "cuda"):
        way(device, 1)  # compiles
        counts[device] = max(1, int(1e6 * TRIAL_SECONDS / way(device, 1)))
    rounds = [{device: way(device, count) for device, count in counts.items()} for _ in range(ROUNDS)]
    times = {device: median(each[device] for each in rounds) for device in counts}
    return times | {"ratio": median(each["cpu"] / each["cuda"] for each in rounds)}


def _line(case):
    name = f"{case['net']}, {case['batch']:,}, {case['dtype']}"
    pairs = [f"{case[kind]['cpu']:,.0f} / {case[kind]['cuda']:,.0f} = {case[kind]['ratio']:.2f}" for kind in KINDS]
    return f"{name:<36}{case['work']:>10.2g}{pairs[0]:>26}{pairs[1]:>26}"

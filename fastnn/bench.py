"""How fast this machine trains and multiplies: a few numbers in under a minute, behind `python -m fastnn bench`.

A step is timed in fits of many, a product beside NumPy's in a process of its own, where NumPy has one thread as ours
has. Between them the machine's own peak is measured: multiply-adds in registers, on one core. Nothing is timed that has
not run before, so compilation is in no number; each is a median.
"""

import json
import os
import subprocess
import sys
import time
from statistics import median

import numpy as np

from . import backends, environment
from .workloads import WORKLOADS

NETS = ("planar 2-4-1", "digits 64-32-10", "housing 8-64-64-1", "mnist 784-128-10", "logistic 28-1")
SIZES = (64, 256, 1024)
TRIALS = 5
TRIAL_SECONDS = 0.2
# What the linear algebra that NumPy may be built with reads.
THREAD_VARIABLES = tuple(
    f"{name}_THREADS" for name in ("OPENBLAS_NUM", "MKL_NUM", "BLIS_NUM", "OMP_NUM", "VECLIB_MAXIMUM")
)


def run(threads=None):
    """Measure everything.

    Parameters
    ----------
    threads : int, optional
        Threads of the second time of each step; the first is on one.

    Returns
    -------
    dict
        "environment" (name: text), "peak_gflops" (one core, float32), "steps" (of each: "name", "us" {threads: time},
        "share" of the peak on one thread) and "products" (of each: "n", "fastnn" and "numpy" in GFLOP/s, "share").
    """
    counts = sorted({1, backends.thread_count("threads", threads)})
    steps, peaks = [], []
    for work in WORKLOADS.values():
        if work.net_name in NETS:
            us = {str(count): microseconds(work, count, peaks) for count in counts}
            steps.append({"name": work.name, "us": us, "flops": work.flops()})
    peak = median(peaks)
    for step in steps:
        step["share"] = step.pop("flops") / (step["us"]["1"] * 1e3) / peak
    return {
        "environment": dict(environment.facts()),
        "peak_gflops": peak,
        "steps": steps,
        "products": products_alone(),
    }


def microseconds(work, threads, peaks):
    """Time of a step, and the peak around it, which is added to `peaks`."""
    net, rule, (X, y) = work.net(), work.rule(), work.data()

    def fit(epochs):
        return net.fit(X, y, optimizer=rule, epochs=epochs, batch_size=work.batch, shuffle=False, threads=threads)

    fit(1)
    epochs = max(1, round(TRIAL_SECONDS / fit(1).seconds))
    times = []
    for _ in range(TRIALS):
        peaks.append(peak_gflops())
        times.append(fit(epochs).microseconds_per_step)
    return median(times)


def peak_gflops(count=1 << 28):
    """GFLOP/s of multiply-adds in registers on this core."""
    array = np.full(128, 0.5, np.float32)
    backends.multiply_add(array, 1 << 16)
    start = time.perf_counter()
    _, done = backends.multiply_add(array, count)
    return 2e-9 * done / (time.perf_counter() - start)


def products_alone():
    """What `products` gives in a process whose NumPy has one thread."""
    alone = os.environ | dict.fromkeys(THREAD_VARIABLES, "1")
    done = subprocess.run([sys.executable, "-m", __name__], env=alone, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def products():
    """Square products in float32 by size: GFLOP/s of ours and of NumPy, each called from Python, and our share."""
    rows, random = [], np.random.default_rng(0)
    for n in SIZES:
        A, B = random.standard_normal((2, n, n), np.float32)
        work, out = np.empty(backends.work_size(n, n, n), np.float32), np.empty((n, n), np.float32)
        ways = {
            "fastnn": lambda A=A, B=B, work=work, out=out: backends.matmul(A, B, work, out),
            "numpy": lambda A=A, B=B, out=out: np.matmul(A, B, out=out),
        }
        count = max(1, round(TRIAL_SECONDS / 2 / min(seconds(ways["fastnn"], 1) for _ in range(3))))
        speeds = {"peak": [], **{way: [] for way in ways}}
        for _ in range(TRIALS):
            speeds["peak"].append(peak_gflops())
            for way, multiply in ways.items():
                multiply()
                speeds[way].append(2e-9 * n**3 * count / seconds(multiply, count))
        peak, ours, theirs = (median(measured) for measured in speeds.values())
        rows.append({"n": n, "fastnn": ours, "numpy": theirs, "share": ours / peak})
    return rows


def seconds(call, count):
    """Time of so many calls."""
    start = time.perf_counter()
    for _ in range(count):
        call()
    return time.perf_counter() - start


def table(result):
    """The numbers as text."""
    facts, steps = result["environment"], result["steps"]
    counts = list(steps[0]["us"])
    headings = [f"{count} thread{'s' * (count != '1')}" for count in counts]
    lines = [
        f"fastnn {facts['fastnn']}, Python {facts['Python']}, NumPy {facts['numpy']}, Numba {facts['numba']}",
        f"{facts['processor']}, vectors of {facts['vector width']}",
        "",
        _line("us a step", *headings, "of peak"),
        *[_line(step["name"], *map(_number, step["us"].values()), f"{step['share']:.0%}") for step in steps],
        "",
        _line("GFLOP/s of a product, 1 thread", "fastnn", "NumPy", "of peak"),
        *[
            _line(f"{row['n']} x {row['n']}", _number(row["fastnn"]), _number(row["numpy"]), f"{row['share']:.0%}")
            for row in result["products"]
        ],
        "",
        f"The peak is {_number(result['peak_gflops'])} GFLOP/s: multiply-adds in registers on one core, float32.",
        "Shares are those of one thread. A step that waits for memory, such as the last, has a small one.",
    ]
    return "\n".join(lines)


def _line(name, *columns):
    return f"{name:<46}" + "".join(f"{column:>12}" for column in columns)


def _number(value):
    """Three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    print(json.dumps(products()))

"""Products of float32 matrices on a GPU, beside cuBLAS as torch calls it; what a launch costs; the memory's bandwidth.

Small products take less than their launch: torch captures many of them in a graph, of whose replays the time counts.
Operands change from product to product, so that small caches do not serve them. With `toy` all runs on the host.
"""

import time

import numpy as np
from workers import LeftOut

SIZES, TOY_SIZES = (256, 512, 1024, 2048, 4096, 8192), (4, 9)
TRIAL_SECONDS, TOY_SECONDS = 0.1, 0.0
SETS, SET_BYTES = 4, 256 << 20  # of operands, as long as they take no more than this together
IN_GRAPH = 20
WARM_SECONDS = 1.0  # until the clocks are up
CHECKED_ROWS = 16
# |result - right| / |right| that each precision may reach
ALLOWED = {"float32": 1e-5, "tf32": 2e-3, "bf16": 2e-2}
COPIED_BYTES = 4 << 30
WITHOUT_SPACE = "fastnn, mma.sync"  # which takes large products of lower precision that get no working space


class Bench:
    """Everything that is timed without a net, in one process."""

    def __init__(self, toy):
        try:
            from fastnn.kernels import cuda as kernels
            from fastnn.kernels.cuda import toolchain

            toolchain.check()
        except (ImportError, RuntimeError) as error:
            raise LeftOut(str(error)) from None
        from numba import cuda

        self.toy, self.cuda, self.kernels = toy, cuda, kernels
        try:
            import torch
        except ImportError:
            torch = None
        self.torch = torch if torch is not None and (toy or torch.cuda.is_available()) else None
        self.where, self.seconds = ("cpu", TOY_SECONDS) if toy else ("cuda", TRIAL_SECONDS)
        self.set_up = (None, None)

    def facts(self):
        """What the card says of itself, and the version of torch."""
        torch, facts = self.torch, {}
        if torch is not None:
            facts = {"torch": torch.__version__, "CUDA of torch": torch.version.cuda}
        if self.toy:
            return {"card": "none: toy sizes in the simulator", "compute capability": None, **facts}
        device = self.cuda.get_current_device()
        name = device.name.decode() if isinstance(device.name, bytes) else device.name
        capability = ".".join(map(str, device.compute_capability))
        return {"card": name, "compute capability": capability, "SMs": device.MULTIPROCESSOR_COUNT, **facts}

    def array(self, values):
        """On the device, by the library that is there."""
        if self.torch is not None:
            return self.torch.tensor(values, device=self.where)
        return np.array(values) if self.toy else self.cuda.to_device(values)

    def ours(self, array):
        """As our kernels take it: in the simulator from NumPy."""
        return array.numpy() if self.toy and self.torch is not None else array

    def host(self, array):
        """A copy on the host."""
        if self.torch is not None:
            return array.float().cpu().numpy()
        return array.copy() if self.toy else array.copy_to_host()

    def wait(self):
        """Wait for what was queued, by whomever."""
        self.cuda.synchronize()

    def stream(self):
        """That of torch, on which it may be capturing."""
        return 0 if self.torch is None or self.toy else self.torch.cuda.current_stream()

    def warm_up(self):
        """Multiply until the clocks are up."""
        until = time.perf_counter() + (0.0 if self.toy else WARM_SECONDS)
        runs = self.ways(TOY_SIZES[0] if self.toy else 4096, "float32")["fastnn"][1]
        while True:
            runs[0]()
            self.wait()
            if time.perf_counter() >= until:
                return

    def operands(self, n):
        """Sets of (A, B, C)."""
        if self.set_up[0] != n:
            self.set_up = (None, None)
            random, sets = np.random.default_rng(n), max(1, min(SETS, SET_BYTES // (12 * n * n)))
            made = [[self.array(random.standard_normal((n, n), np.float32)) for _ in range(3)] for _ in range(sets)]
            self.set_up = n, made
        return self.set_up[1]

    def ways(self, n, precision):
        """{way: (set of results, functions that multiply a set each) or why it is left out}."""
        sets, found = self.operands(n), {}
        ours = [[self.ours(array) for array in each] for each in sets]
        work = self.ours(self.array(np.zeros(max(4, self.kernels.work_size(n, n, n, precision)), np.float32)))
        spaces = {"fastnn": work} | ({} if precision == "float32" else {WITHOUT_SPACE: None})
        for way, space in spaces.items():
            mine = [
                lambda a=a, b=b, c=c, space=space: self.kernels.matmul(
                    a, b, space, c, stream=self.stream(), precision=precision
                )
                for a, b, c in ours
            ]
            found[way] = [c for _, _, c in sets], mine
        if self.torch is None:
            found["cuBLAS"] = "no torch here that sees a GPU"
            return found
        torch = self.torch
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        if precision == "bf16":  # operands in bfloat16 already, results too
            sets = [[array.bfloat16() for array in each] for each in sets]
        theirs = [lambda a=a, b=b, c=c: torch.mm(a, b, out=c) for a, b, c in sets]
        found["cuBLAS"] = [c for _, _, c in sets], theirs
        return found

    def product(self, n, precision, rounds):
        """{way: {"tflops": ..., "rounds": ..., "error": ...} or {"left_out" or "failed": why}} for n x n by n x n."""
        entries, ready = {}, {}
        A, B = (self.host(array) for array in self.operands(n)[0][:2])
        rows = np.linspace(0, n - 1, min(n, CHECKED_ROWS)).astype(int)
        right = A[rows].astype(np.float64) @ B.astype(np.float64)
        for way, made in self.ways(n, precision).items():
            if isinstance(made, str):
                entries[way] = {"left_out": made}
                continue
            results, runs = made
            results[0][...] = float("nan")
            runs[0]()
            self.wait()
            error = float(np.linalg.norm(self.host(results[0])[rows] - right) / np.linalg.norm(right))
            if not error <= ALLOWED[precision]:
                entries[way] = {"failed": f"the result is off by {error:.2g} of its norm"}
                continue
            entries[way] = {"error": error}
            ready[way] = self._timed(runs)
        times = {way: [] for way in ready}
        for _ in range(rounds):
            for way, timed in ready.items():
                times[way].append(2e-12 * n**3 / timed())
        for way, speeds in times.items():
            entries[way] |= {"tflops": float(np.median(speeds)), "rounds": speeds}
        return entries

    def _timed(self, runs):
        """A function that gives the seconds of one of the runs, which take turns."""
        each = IN_GRAPH if not self.toy else 2

        def burst():
            for i in range(each):
                runs[i % len(runs)]()

        for run in runs:
            run()
        if self.torch is not None and not self.toy:
            graph = self.torch.cuda.CUDAGraph()
            with self.torch.cuda.graph(graph):
                burst()
            burst = graph.replay
        return lambda: self.many(burst) / each

    def many(self, run):
        """Seconds of a call, from as many as take a while; the device is waited for before and after."""
        count = 1
        while True:
            self.wait()
            start = time.perf_counter()
            for _ in range(count):
                run()
            self.wait()
            seconds = time.perf_counter() - start
            if seconds >= self.seconds:
                return seconds / count
            count = max(count + 1, round(1.2 * count * self.seconds / max(seconds, 1e-9)))

    def launches(self, rounds):
        """{what: microseconds}: a launch that does next to nothing, in many ways."""
        n = 16
        make = {
            "Numba's arrays": lambda: np.zeros(n, np.float32) if self.toy else self.cuda.to_device(np.zeros(n, "f"))
        }
        if self.torch is not None:
            make["torch's tensors"] = lambda: self.ours(self.torch.zeros(n, device=self.where))
        ways = {}
        for kind, zeros in make.items():
            theta, grad = zeros(), zeros()
            ways[f"fastnn.kernels.cuda.sgd_update, {kind}"] = lambda theta=theta, grad=grad: self.kernels.sgd_update(
                theta, grad, 0.1, 0.0
            )
        if self.torch is not None:
            torch, x = self.torch, self.torch.zeros(n, device=self.where)
            ways["torch, x.add_(1)"] = lambda: x.add_(1)
            if not self.toy:
                x.add_(1)
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    for _ in range(100):
                        x.add_(1)
                ways["a graph of 100 x.add_(1), each"] = graph.replay
        result = {}
        for name, run in ways.items():
            run()
            share = 100 if name.startswith("a graph") else 1
            result[name] = float(np.median([1e6 * self.many(run) / share for _ in range(rounds)]))
        return result

    def bandwidth(self):
        """GB/s of a copy within the device, bytes read and written counted."""
        elements = (1 << 10) if self.toy else COPIED_BYTES // 4
        if self.torch is not None:
            source = self.torch.ones(elements, device=self.where)
            target = self.torch.empty_like(source)
            copy = target.copy_
        elif self.toy:
            return None
        else:
            source, target = (self.cuda.device_array(elements, np.float32) for _ in range(2))
            copy = target.copy_to_device
        copy(source)
        return float(np.median([2e-9 * 4 * elements / self.many(lambda: copy(source)) for _ in range(3)]))

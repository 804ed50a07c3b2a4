"""Square products in float32 on one core: fastnn's public kernel beside torch.mm, which calls MKL."""

import time

import numpy as np
from workers import need

ORDERS = ("NN", "NT", "TN")  # whether A and B are used as they are stored, or transposed
SIZES = (16, 32, 64, 96, 128, 160, 192, 256, 384, 512, 768, 960, 1024, 1536, 1920, 2048)
ODD_SIZES = (161, 257, 513, 1025)  # each is timed beside the next even one
TRIAL_SECONDS = 0.04
CHECKED_ROWS = 16


def name(n, order):
    return f"matmul {order} {n}"


def groups():
    """[(n, order), ...] that are timed in turn, group by group."""
    squares = [[(n, order)] for order in ORDERS for n in SIZES]
    return squares + [[(n, order), (n + 1, order)] for order in ORDERS for n in ODD_SIZES]


class Product:
    """A subclass has `ways(n, order)`: {name: function that multiplies so many times}, and the result in `out`."""

    def __init__(self):
        self.operands, self.counts = (None, None), {}

    def square(self, n):
        """(A, B), as stored; the same in every process."""
        if self.operands[0] != n:
            random = np.random.default_rng(n)
            self.operands = n, [random.standard_normal((n, n), np.float32) for _ in range(2)]
        return self.operands[1]

    def check(self, n, order):
        """Whether some rows of the product are right, whichever way it is made."""
        A, B = (array.astype(np.float64) for array in self.square(n))
        A, B = A.T if order[0] == "T" else A, B.T if order[1] == "T" else B
        rows = np.linspace(0, n - 1, CHECKED_ROWS).astype(int)
        right = A[rows] @ B
        for run in self.ways(n, order).values():
            self.clear()
            run(1)
            if not np.allclose(self.result()[rows], right, rtol=1e-4, atol=1e-5 * n**0.5):
                return False
        return True

    def round(self, n, order):
        """{way: GFLOP/s}."""
        result = {}
        for way, run in self.ways(n, order).items():
            key = n, order, way
            if key not in self.counts:
                run(1)
                seconds = min(self._seconds(run, 1) for _ in range(3))
                self.counts[key] = max(1, round(TRIAL_SECONDS / seconds))
            count = self.counts[key]
            result[way] = 2e-9 * n**3 * count / self._seconds(run, count)
        return result

    def _seconds(self, run, count):
        start = time.perf_counter()
        run(count)
        return time.perf_counter() - start


class Fastnn(Product):
    """Called from Python, and from a compiled loop."""

    def __init__(self):
        super().__init__()
        from numba import njit

        from fastnn.kernels.cpu import matmul, work_size

        @njit(nogil=True)
        def many(count, A, B, work, out):
            for _ in range(count):
                matmul(A, B, work, out)

        self.matmul, self.work_size, self.many = matmul, work_size, many
        self.sized = None

    def ways(self, n, order):
        if self.sized != n:
            self.sized, self.out = n, np.empty((n, n), np.float32)
            self.work = np.empty(self.work_size(n, n, n), np.float32)
        A, B = self.square(n)
        A, B = A.T if order[0] == "T" else A, B.T if order[1] == "T" else B
        matmul, many, work, out = self.matmul, self.many, self.work, self.out

        def from_python(count):
            for _ in range(count):
                matmul(A, B, work, out)

        return {"fastnn": from_python, "fastnn in @njit": lambda count: many(count, A, B, work, out)}

    def clear(self):
        self.out.fill(np.nan)

    def result(self):
        return self.out


class Torch(Product):
    def __init__(self):
        super().__init__()
        self.torch = need("torch")
        self.torch.set_num_threads(1)
        self.sized = None

    def ways(self, n, order):
        torch = self.torch
        if self.sized != n:
            self.sized, self.stored = n, [torch.tensor(array) for array in self.square(n)]
            self.out = torch.empty(n, n)
        A, B = self.stored
        A, B, out = A.t() if order[0] == "T" else A, B.t() if order[1] == "T" else B, self.out

        def from_python(count):
            for _ in range(count):
                torch.mm(A, B, out=out)

        return {"torch": from_python}

    def clear(self):
        self.out.fill_(float("nan"))

    def result(self):
        return self.out.numpy()


PRODUCTS = {"fastnn": Fastnn, "torch": Torch}

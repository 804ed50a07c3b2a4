"""Prediction with a small net, called from Python and from the user's compiled code, one class a library."""

import os
import tempfile
import time

import numpy as np
from workers import need
from workloads import WORKLOADS

NET = next(work for work in WORKLOADS.values() if work.label == "housing")
ROWS = {"one row": 1, "16,512 rows": 16_512}
COMPILED = "one row, in @njit"
TRIAL_SECONDS = 0.1


def name(row):
    return f"predict {'-'.join(map(str, NET.sizes))}, {row}"


class Server:
    """A subclass has `run(X)`, which gives the outputs."""

    def __init__(self, rows, threads):
        self.threads, self.weights = threads, NET.weights()
        self.X = np.random.default_rng(3).standard_normal((rows, NET.sizes[0]), np.float32)
        self.make()

    def outputs(self):
        return np.asarray(self.run(self.X), np.float64).ravel().tolist()

    def prepare(self):
        """Find the number of calls of a round."""
        self.count = 1
        while (seconds := self.seconds(self.count)) < TRIAL_SECONDS / 4:
            self.count *= 4
        self.count = max(1, round(self.count * TRIAL_SECONDS / seconds))

    def round(self):
        """Microseconds a call."""
        return 1e6 * self.seconds(self.count) / self.count

    def seconds(self, count):
        run, X = self.run, self.X
        start = time.perf_counter()
        for _ in range(count):
            run(X)
        return time.perf_counter() - start


class Fastnn(Server):
    def make(self):
        self.net = NET.net()

    def run(self, X):
        return self.net.predict(X, threads=self.threads)


class FastnnCompiled(Fastnn):
    """A loop in the user's @njit function; each call takes in what the last one gave."""

    def make(self):
        from numba import njit

        import fastnn

        super().make()
        apply = fastnn.apply

        @njit
        def loop(frozen, x, out, count):
            for _ in range(count):
                apply(frozen, x, out)
                x[0] = np.float32(0.5) * out[0]

        self.loop, self.frozen, self.out = loop, self.net.freeze(), np.empty(NET.sizes[-1], np.float32)

    def run(self, X):
        self.loop(self.frozen, X[0].copy(), self.out, 1)
        return self.out

    def seconds(self, count):
        x = self.X[0].copy()
        start = time.perf_counter()
        self.loop(self.frozen, x, self.out, count)
        return time.perf_counter() - start


class Onnxruntime(Server):
    """The file that `net.to_onnx` writes."""

    def make(self):
        runtime, _ = need("onnxruntime"), need("onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "net.onnx")
            NET.net().to_onnx(path)
            self.session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, X):
        return self.session.run(None, {"X": X})[0]


class Torch(Server):
    """Functions on tensors under inference_mode, relu in place."""

    def make(self):
        self.torch = torch = need("torch")
        torch.set_num_threads(self.threads)
        self.params, self.X = [torch.tensor(array) for array in self.weights], torch.tensor(self.X)
        self.linear = torch.nn.functional.linear

    def run(self, X):
        linear, (W1, b1, W2, b2, W3, b3) = self.linear, self.params
        with self.torch.inference_mode():
            return linear(linear(linear(X, W1, b1).relu_(), W2, b2).relu_(), W3, b3)


class Sklearn(Server):
    def make(self):
        kind = need("sklearn.neural_network").MLPRegressor
        self.net = kind(hidden_layer_sizes=NET.sizes[1:-1], activation=NET.hidden, max_iter=1, batch_size=2)
        self.net.fit(np.zeros((2, NET.sizes[0]), np.float32), np.zeros(2, np.float32))
        self.net.coefs_ = [W.T.copy() for W in self.weights[::2]]
        self.net.intercepts_ = list(self.weights[1::2])

    def run(self, X):
        return self.net.predict(X)


SERVERS = {"fastnn": Fastnn, "torch": Torch, "onnxruntime": Onnxruntime, "sklearn": Sklearn}

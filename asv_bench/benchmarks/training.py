"""Training small nets: the time of a fit, its kernels compiled beforehand."""

import numpy as np

import fastnn


class _Fit:
    """Times `fit` from the same weights each sample; a subclass makes the net, the data and the arguments."""

    version = "1"  # raised by hand: an edit that changes the work starts a new series
    rounds = 4
    repeat = (5, 10, 2.0)
    warmup_time = 0.1
    number = 2
    _ready = {}  # of the process: some runners call setup before every sample

    def setup(self):
        name = type(self).__name__
        if name not in self._ready:
            net, arguments = self.make()
            start = net.get_weights()
            net.fit(**arguments)  # compiles, or loads from the cache
            self._ready[name] = net, start, arguments
        self.net, start, self.arguments = self._ready[name]
        self.net.set_weights(start)


class PlanarFullBatch(_Fit):
    """2-4-1 with tanh on 400 points in the plane, gradient descent: 10,000 steps."""

    def make(self):
        rng = np.random.default_rng(0)
        X = rng.normal(size=(400, 2)).astype("float32")
        y = (X[:, 0] * X[:, 1] > 0).astype("float32")
        net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], seed=0)
        net.build(2)
        return net, dict(X=X, y=y, optimizer=fastnn.SGD(0.5), epochs=10_000, batch_size=None)

    def time_fit_10000_steps(self):
        self.net.fit(**self.arguments)


class DigitsMinibatch(_Fit):
    """64-32-10 with relu on 1,792 rows like the digits, SGD in batches of 32: 50 epochs of 56 steps."""

    def make(self):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 10, size=1792)
        centres = rng.uniform(0, 1, size=(10, 64))
        X = (centres[y] + rng.normal(0, 0.3, size=(1792, 64))).astype("float32")
        net = fastnn.Sequential([fastnn.Dense(32, "relu"), fastnn.Dense(10, "softmax")], seed=0)
        net.build(64)
        return net, dict(X=X, y=y, optimizer=fastnn.SGD(0.05), epochs=50, batch_size=32)

    def time_fit_2800_steps(self):
        self.net.fit(**self.arguments)

"""What the progress bar costs: the share of a fit that is spent in it."""

import contextlib
import io
import time

import numpy as np

import fastnn
from fastnn import progress


class ProgressBar:
    """Two fits of some seconds: one whose bar moves after each chunk of steps, one where it may after short epochs."""

    version = "1"
    params = ["planar, no validation", "digits, validation each epoch"]
    param_names = ["fit"]
    unit = "%"
    timeout = 60

    def setup(self, name):
        if not hasattr(getattr(progress, "Bar", None), "__enter__"):
            raise NotImplementedError("this commit has another progress bar")
        rng = np.random.default_rng(0)
        if name.startswith("planar"):
            X = rng.normal(size=(400, 2)).astype("float32")
            net = fastnn.Sequential([fastnn.Dense(4, "tanh"), fastnn.Dense(1, "sigmoid")], seed=0)
            arguments = dict(X=X, y=X[:, 0] > 0, epochs=2_000_000, batch_size=None)
        else:
            X, y = rng.uniform(size=(1792, 64)).astype("float32"), rng.integers(0, 10, size=1792)
            net = fastnn.Sequential([fastnn.Dense(32, "relu"), fastnn.Dense(10, "softmax")], seed=0)
            arguments = dict(X=X, y=y, epochs=5000, batch_size=32, validation_data=(X[:400], y[:400]))
        self.fit = lambda **changes: net.fit(**(arguments | dict(progress=True) | changes))
        with contextlib.redirect_stderr(io.StringIO()):
            self.fit(epochs=10)  # compiles, or loads from the cache

    def track_share_of_a_fit(self, name):
        """Time in the bar's methods by time of the fit, in per cent; looking at the clock counts, too."""
        original, timed = progress.Bar, _timed(progress.Bar)
        try:
            progress.Bar = timed
            with contextlib.redirect_stderr(io.StringIO()):
                start = time.perf_counter()
                self.fit()
                return 100 * timed.seconds / (time.perf_counter() - start)
        finally:
            progress.Bar = original


def _timed(bar):
    class Timed(bar):
        seconds = 0.0

    def counted(method):
        def call(self, *arguments):
            start = time.perf_counter()
            try:
                return method(self, *arguments)
            finally:
                Timed.seconds += time.perf_counter() - start

        return call

    for name in ("__init__", "__enter__", "start", "update", "__exit__"):
        setattr(Timed, name, counted(getattr(bar, name)))
    return Timed

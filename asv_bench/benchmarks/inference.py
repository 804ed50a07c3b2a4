"""Prediction with 8-64-64-1 on one thread."""

import numpy as np
import serving

from . import Timed

CALLS = 1000


class Predict(Timed):
    params = [list(serving.ROWS)]
    param_names = ["rows"]

    def make(self, rows):
        server = serving.Fastnn(serving.ROWS[rows], threads=1)
        server.outputs()
        return server

    def time_predict(self, rows):
        self.ready.run(self.ready.X)


class InsideNjit(Timed):
    """`fastnn.apply` in the user's own compiled function."""

    def make(self):
        server = serving.FastnnCompiled(1, threads=1)
        server.outputs()
        return server

    def time_1000_rows_one_by_one(self):
        self.ready.seconds(CALLS)


class Frozen(Timed):
    """`fastnn.apply` from Python."""

    def make(self):
        import fastnn

        net = serving.NET.net().freeze()
        x, out = np.ones(serving.NET.sizes[0], np.float32), np.empty(serving.NET.sizes[-1], np.float32)
        fastnn.apply(net, x, out)
        return lambda: fastnn.apply(net, x, out)

    def time_one_row(self):
        self.ready()

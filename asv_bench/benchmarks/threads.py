"""One thread and two, where two pay."""

import os
import time

import serving
from workloads import WORKLOADS

from . import Timed

NETS = {work.net_name: work for work in WORKLOADS.values() if work.cores == 2}
THREADS = [1, 2]


def need(threads):
    """Skip where the process may not use so many cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if cores < threads:
        raise NotImplementedError(f"this process may use {cores} core(s)")


class Training(Timed):
    timer = time.perf_counter
    params = [list(NETS), THREADS]
    param_names = ["net", "threads"]

    def make(self, name, threads):
        need(threads)
        work = NETS[name]
        net, rule, (X, y) = work.net(), work.rule(), work.data()

        def epoch():
            net.fit(X, y, optimizer=rule, epochs=1, batch_size=work.batch, shuffle=False, threads=threads)

        epoch()
        return epoch

    def time_epoch(self, name, threads):
        self.ready()


class Predict(Timed):
    """16,512 rows through 8-64-64-1."""

    timer = time.perf_counter
    params = [THREADS]
    param_names = ["threads"]

    def make(self, threads):
        need(threads)
        server = serving.Fastnn(max(serving.ROWS.values()), threads)
        server.outputs()
        return server

    def time_predict(self, threads):
        self.ready.run(self.ready.X)

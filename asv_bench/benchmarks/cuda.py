"""Training on a GPU; left out where there is none."""

import time

from workloads import WORKLOADS

from . import Timed

NETS = {work.net_name: work for work in WORKLOADS.values()}


def need_gpu():
    """Skip where this commit has no backend for it, or the machine no GPU."""
    try:
        from numba import cuda

        import fastnn.kernels.cuda  # noqa: F401
    except ImportError as error:
        raise NotImplementedError(f"no CUDA: {error}") from None
    if not cuda.is_available():
        raise NotImplementedError("no GPU")


class Training(Timed):
    timer = time.perf_counter
    params = [list(NETS)]
    param_names = ["net"]

    def make(self, name):
        need_gpu()
        work = NETS[name]
        net, rule, (X, y) = work.net(device="cuda"), work.rule(), work.data()

        def epoch():
            net.fit(X, y, optimizer=rule, epochs=1, batch_size=work.batch, shuffle=False)

        epoch()
        return epoch

    def time_epoch(self, name):
        self.ready()

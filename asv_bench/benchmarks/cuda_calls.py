"""What Python does for a call of the CUDA backend; over a stand-in for the driver, whether or not there is a GPU."""

from importlib.util import find_spec

import cuda_calls
import fake_driver

from . import CACHE, Timed


class Calls(Timed):
    """Microseconds of Python in a call of a public kernel, and in what a user does with a tiny net."""

    params = [
        [
            *("sgd_update", "adam_update", "activation_forward", "dense_forward", "dense_backward", "matmul"),
            *("loss_backward", "dropout", "embedding_gather", "predict", "partial_fit", "100 batches of a stream"),
        ]
    ]
    param_names = ["call"]

    def make(self, name):
        if find_spec("numba_cuda") is None:
            raise NotImplementedError("no numba-cuda")
        fake_driver.pretend(fake_driver.load(CACHE))
        call = (cuda_calls.kernels() | cuda_calls.nets())[name]
        call()
        return call

    def time_python(self, name):
        self.ready()

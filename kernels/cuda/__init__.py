"""The kernels on NVIDIA GPUs, under the names and with the arguments of `fastnn.kernels.cpu`.

They take device arrays of CuPy, PyTorch or Numba, copy nothing, and only queue their work: on the default stream, or
on the one that `stream` names. Where a kernel of the CPU gives back a number, its twin here writes it into an array of
the device. What they differ in stands in their docstrings.

This package can always be imported. Its names are looked up when they are first used, and then need numba-cuda
(ImportError says how to install it) and, to run, a GPU (RuntimeError says what is missing).
"""

import sys
from importlib import import_module
from types import ModuleType

PRECISIONS = "float32", "tf32", "bf16"  # what tensor cores round the operands of products to
_HOMES = {
    "activation_backward": "activations",
    "activation_forward": "activations",
    "adam_update": "updates",
    "check": "toolchain",
    "dense_backward": "dense",
    "dense_forward": "dense",
    "divide": "arrays",
    "divide_columns": "matrices",
    "dropout": "dropout",
    "execute": "driver",
    "execute_interruptibly": "driver",
    "first_not_finite": "matrices",
    "formulas_of": "formulas",
    "host_copy": "arrays",
    "input_gradient": "dense",
    "loss_backward": "losses",
    "loss_forward": "losses",
    "make_plan": "driver",
    "matmul": "matmul",
    "momentum_update": "updates",
    "permutation": "rng",
    "permuted": "rng",
    "rmsprop_update": "updates",
    "room_like": "arrays",
    "rows": "arrays",
    "sgd_update": "updates",
    "take_rows": "matrices",
    "weight_gradient": "dense",
    "work_size": "matmul",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_HOMES})


class _Package(ModuleType):
    """Keeps a function where a module has the same name, as `matmul`: Python would put the module there."""

    def __setattr__(self, name, value):
        if name not in _HOMES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .activations import activation_backward as activation_backward
    from .activations import activation_forward as activation_forward
    from .arrays import divide as divide
    from .arrays import empty_like as empty_like
    from .arrays import host_copy as host_copy
    from .arrays import rows as rows
    from .dense import dense_backward as dense_backward
    from .dense import dense_forward as dense_forward
    from .dense import input_gradient as input_gradient
    from .dense import weight_gradient as weight_gradient
    from .driver import make_plan as make_plan
    from .dropout import dropout as dropout
    from .formulas import formulas_of as formulas_of
    from .losses import loss_backward as loss_backward
    from .losses import loss_forward as loss_forward
    from .matmul import matmul as matmul
    from .matmul import work_size as work_size
    from .matrices import divide_columns as divide_columns
    from .matrices import first_not_finite as first_not_finite
    from .matrices import take_rows as take_rows
    from .order import epoch_key as epoch_key
    from .order import half_bits as half_bits
    from .order import permutation as permutation
    from .order import permuted as permuted
    from .toolchain import check as check
    from .updates import adam_update as adam_update
    from .updates import momentum_update as momentum_update
    from .updates import rmsprop_update as rmsprop_update
    from .updates import sgd_update as sgd_update

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
    "epoch_key": "order",
    "first_not_finite": "matrices",
    "formulas_of": "formulas",
    "half_bits": "order",
    "host_copy": "arrays",
    "input_gradient": "dense",
    "loss_backward": "losses",
    "loss_forward": "losses",
    "make_plan": "driver",
    "matmul": "matmul",
    "momentum_update": "updates",
    "permutation": "order",
    "permuted": "order",
    "rmsprop_update": "updates",
    "empty_like": "arrays",
    "rows": "arrays",
    "sgd_update": "updates",
    "take_rows": "matrices",
    "weight_gradient": "dense",
    "work_size": "matmul",
}

__all__ = list(_HOMES)


if not TYPE_CHECKING:  # where it would stand for any name

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

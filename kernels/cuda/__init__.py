"""The kernels on NVIDIA GPUs, under the names and with the arguments of `fastnn.kernels.cpu`.

They take device arrays of CuPy, PyTorch or Numba, copy nothing, and only queue their work: on the default stream, or
on the one that `stream` names. Where a kernel of the CPU gives back a number, its twin here writes it into an array of
the device. What they differ in stands in their docstrings.

This package can always be imported. Its names are imported when they are first used, and then need numba-cuda
(ImportError says how to install it) and, to run, a GPU (RuntimeError says what is missing). They are listed in the stub
beside this file, which type checkers read, too (scientific-python.org, SPEC 1).
"""

import pkgutil
import re
import sys
from importlib import import_module
from types import ModuleType

PRECISIONS = "float32", "tf32", "bf16"  # what tensor cores round the operands of products to
_LISTED = re.findall(
    r"^from \.(\w+) import (\w+) as", pkgutil.get_data(__name__, "__init__.pyi").decode(), re.MULTILINE
)
_MODULES = {name: module for module, name in _LISTED}

__all__ = list(_MODULES)


def __getattr__(name):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *_MODULES})


class _Package(ModuleType):
    """Keeps a function where a module has the same name, as `matmul`: Python would put the module there."""

    def __setattr__(self, name, value):
        if name not in _MODULES or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

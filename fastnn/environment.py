"""What this installation runs on, and compiling ahead of time."""

import platform
from collections.abc import Sequence
from importlib import metadata

import numpy as np
from numpy.typing import DTypeLike

from . import backends, devices
from ._version import __version__
from .errors import must_be


def _installed(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def facts():
    """What `show_versions` prints, as (name, value) pairs."""
    card, missing = devices.gpu()
    return [
        ("fastnn", __version__),
        ("Python", platform.python_version()),
        *[(name, _installed(name)) for name in ("numpy", "numba", "llvmlite")],
        ("system", platform.platform()),
        ("processor", devices.processor()),
        *backends.cpu_facts(),
        ("GPU", card or f"none found: {missing}"),
        ("numba-cuda", _installed("numba-cuda")),
        ("device='auto'", devices.summary()),
    ]


def show_versions() -> None:
    """Print the versions, the machine and what the kernels are compiled for."""
    for name, value in facts():
        print(f"{name:<20}{value}")


def warmup(dtype: DTypeLike | Sequence[DTypeLike] = ("float32", "float64")) -> None:
    """Compile everything that `fit` and `predict` need, or load it, so that later calls in any process start at once.

    Parameters
    ----------
    dtype : str or sequence of str
        float32, float64, or both.
    """
    names = [dtype] if isinstance(dtype, str | np.dtype | type) else list(dtype)
    for name in names:
        if np.dtype(name) not in (np.float32, np.float64):
            raise must_be("dtype", "'float32', 'float64' or both", dtype)
        backends.compile_all(name)

"""The disk cache of compiled kernels: one file for each kernel, signature and kind of GPU, beside those of the CPU.

numba-cuda's own cache does not see edits in other files, and distinguishes kernels that one function makes by pickling
what stands in their closures, which is other functions here. This one reads the closures, down to numbers and names,
and keeps nothing of what it cannot read. It stands on private names of numba-cuda: without them nothing is kept.
"""

import functools
import hashlib
import importlib.metadata
import pickle
from types import BuiltinFunctionType, FunctionType, SimpleNamespace

import numpy as np

from ..cache import cache_file, cache_folder, read_cache, write_cache

try:
    from numba.cuda import config, get_current_device
    from numba.cuda.cudadrv import driver, runtime
    from numba.cuda.dispatcher import CUDADispatcher, _Kernel
    from numba.cuda.serialize import dumps
except ImportError:
    _Kernel = None

KERNELS = __name__.removesuffix(".cuda.cache")  # the package whose sources stand in every key
PACKAGES = "numba-cuda", "cuda-core", "numba", "llvmlite", "numpy"  # that make the code, or write the file


def kept(dispatcher):
    """The same kernel, with a place in the cache."""
    private = "_reduce_states", "_rebuild"
    if all(hasattr(_Kernel, name) for name in private) and hasattr(dispatcher, "_cache"):
        dispatcher._cache = KernelCache(dispatcher)
    return dispatcher


class KernelCache:
    """Where numba-cuda looks for a kernel before it compiles, and keeps it afterwards."""

    def __init__(self, dispatcher):
        self._function, self._options = dispatcher.py_func, repr(sorted(dispatcher.targetoptions.items()))

    @property
    def cache_path(self):
        """The folder, as the dispatcher reports it."""
        return str(cache_folder())

    def _path(self, signature):
        try:
            key = fingerprint(self._function), str(signature), self._options, _gpu(), _versions()
        except (TypeError, importlib.metadata.PackageNotFoundError):
            return None
        return cache_file(f"{self._function.__module__}.{self._function.__qualname__}", *key)

    def load_overload(self, sig, target_context):
        """The compiled kernel for `sig` on the current GPU, or None."""
        return read_cache(self._path(sig), lambda states: _Kernel._rebuild(**states))

    def save_overload(self, sig, kernel):
        """Keep a compiled kernel."""
        if getattr(kernel, "launch_config_sensitive", False):
            return
        try:
            payload = dumps(kernel._reduce_states())
        except (pickle.PicklingError, RuntimeError):  # it was linked with files
            return
        write_cache(self._path(sig), payload)

    def enable(self):
        """Part of numba-cuda's interface."""

    def disable(self):
        """Part of numba-cuda's interface."""

    def flush(self):
        """Part of numba-cuda's interface."""


def fingerprint(function):
    """What tells a kernel's code from all others that the same sources make: whatever its closures hold.

    Parameters
    ----------
    function : function
        Of this package.

    Returns
    -------
    str
        Hexadecimal digits.

    Raises
    ------
    TypeError
        If something in a closure is neither a number, a name, a function of this package, nor made of them.
    """
    known = {}

    def read(value):
        if isinstance(value, CUDADispatcher):
            value = value.py_func
        if isinstance(value, FunctionType):
            if not f"{value.__module__}.".startswith(f"{KERNELS}."):
                raise TypeError(f"a function of {value.__module__}")
            if value not in known:
                held = [read(cell.cell_contents) for cell in value.__closure__ or ()]
                text = repr((value.__module__, value.__qualname__, value.__defaults__, held))
                known[value] = hashlib.sha256(text.encode()).hexdigest()
            return known[value]
        if isinstance(value, np.generic):
            return type(value).__name__, repr(value.item())
        if value is None or isinstance(value, (bool, int, float, str)):
            return type(value).__name__, repr(value)
        if isinstance(value, (type, BuiltinFunctionType)):
            return value.__module__, value.__qualname__
        if isinstance(value, (tuple, list)):
            return [read(each) for each in value]
        if isinstance(value, SimpleNamespace):
            return [(name, read(each)) for name, each in sorted(vars(value).items())]
        raise TypeError(f"a {type(value).__name__}")

    return read(function)


def _gpu():
    """What the machine code is made for, the linker, and the driver that has to load it."""
    capability = config.FORCE_CUDA_CC or get_current_device().compute_capability
    return capability, runtime.get_version(), driver.get_version()


@functools.cache
def _versions():
    return [importlib.metadata.version(package) for package in PACKAGES]

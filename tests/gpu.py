"""Arrays in the memory of a GPU, of any layout and between guards; in the simulator, in that of the host."""

import os
import sys
from types import SimpleNamespace

import numpy as np
from arrays import Placed

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0"
ALIGNED_GUARD = 64  # elements: the first one then stands at a multiple of 256 bytes


def missing():
    """Why no kernel can run here, or None."""
    try:
        from fastnn.kernels.cuda import toolchain

        toolchain.check()
    except (ImportError, RuntimeError) as error:
        return str(error)
    return None


class OnGpu:
    """Values as `Placed` lays them out, on the device; kernels get a pointer, as from any foreign library.

    The layouts "aligned" and "aligned_F" can be read 128 bits at a time, the others never.
    """

    def __init__(self, values, dtype, layout="C"):
        if layout.startswith("aligned"):
            self.placed = Placed(values, dtype, "F" if layout.endswith("F") else "C", guard=ALIGNED_GUARD)
        else:
            self.placed = Placed(values, dtype, layout)
        canvas, array = self.placed.canvas, self.placed.array
        if SIMULATED:
            self.memory, start = canvas, canvas.ctypes.data
        else:
            from numba import cuda

            self.memory = cuda.to_device(canvas)
            start = self.memory.__cuda_array_interface__["data"][0]
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "strides": array.strides,
            "data": (start + self.placed.offset * canvas.itemsize, False),
            "version": 3,
        }

    def read(self):
        """What stands there after all work that is queued, on the host; fails if the guards were written."""
        if not SIMULATED:
            self.memory.copy_to_host(self.placed.canvas)
        self.placed.assert_guarded()
        return self.placed.array

    def assert_unchanged(self):
        """Nothing has been written."""
        self.read()
        self.placed.assert_unchanged()


def blank(shape, dtype, layout="C"):
    """An output, NaN everywhere."""
    return OnGpu(np.full(shape, np.nan), dtype, layout)


class Foreign:
    """An array of another library on a GPU, as any may offer it; in the simulator, one of NumPy that says so."""

    def __init__(self, values):
        self.values = np.array(values)
        if SIMULATED:
            self.memory, facts = self.values, self.values.__array_interface__
        else:
            from numba import cuda

            self.memory = cuda.to_device(self.values)
            facts = self.memory.__cuda_array_interface__
        self.facts = {name: facts[name] for name in ("shape", "typestr", "strides", "data")} | {"version": 3}

    @property
    def __cuda_array_interface__(self):
        return self.facts

    @property
    def shape(self):
        return self.facts["shape"]

    def read(self):
        return self.values if SIMULATED else self.memory.copy_to_host()


class Tensor(Foreign):
    """What is known of PyTorch's: where the simulator has no others."""

    __module__ = "torch.stand_in"

    def new_empty(self, shape, dtype):
        return Tensor(np.full(shape, np.nan, dtype))


class CuPyArray(Foreign):
    """What is known of CuPy's, likewise."""

    __module__ = "cupy.stand_in"

    @classmethod
    def empty(cls, shape, dtype):
        return cls(np.full(shape, np.nan, dtype))


class StandIn:
    """A library of the simulator: its arrays are of `kind`, its module is there while a test runs."""

    def __init__(self, kind, monkeypatch):
        self.array = kind
        dtypes = {name: np.dtype(name) for name in ("float32", "float64")}
        if kind is not Foreign:
            module = SimpleNamespace(empty=getattr(kind, "empty", None), **dtypes)
            monkeypatch.setitem(sys.modules, kind.__module__.partition(".")[0], module)

    def read(self, array):
        return array if isinstance(array, np.ndarray) else array.read()

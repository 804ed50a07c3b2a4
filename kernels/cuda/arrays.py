"""Arrays that others made in the memory of the GPU: as rows for a plan, as copies on the host; results of their kind.

An array need not say on which stream it was last written (PyTorch's never do): so each function that reads one waits
until all that was queued on the GPU is done.
"""

import ctypes
import sys
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..annotations import DeviceArray
from .launch import ANY, Operand, empty, operand, to_device, to_host
from .matrices import first_not_finite, take_rows, warps_for
from .toolchain import SIMULATED, check, cuda


def on_device(array):
    """Whether an array stands in the memory of a GPU, as it says itself."""
    return type(array) is not np.ndarray and getattr(array, "__cuda_array_interface__", None) is not None


def address_of(array):
    """Where an array of the device begins."""
    return int(array.__cuda_array_interface__["data"][0])


class Rows:
    """Samples on the device, as a plan reads them: in its dtype, the columns of a row side by side.

    Parameters
    ----------
    place : Operand
        Where they stand.
    owner : device array
        Whose memory that is; kept alive.
    like : device array
        What the user gave: results for these rows are of its kind.
    """

    def __init__(self, place, owner, like):
        self.place, self.owner, self.like = place, owner, like
        self.shape, self.dtype, self.itemsize = place.shape, place.dtype, place.dtype.itemsize
        self.strides = tuple(step * self.itemsize for step in place.strides)

    @property
    def __cuda_array_interface__(self):
        facts = {"shape": self.shape, "typestr": self.dtype.str, "strides": self.strides}
        return facts | {"data": (self.place.address, False), "version": 3}

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, part):
        """A slice of the rows, in place; or those that an array of numbers on the host chooses, copied."""
        (m, n), (down, across) = self.shape, self.place.strides
        if not isinstance(part, slice):
            return _taken(self, self.dtype, self.like, part)
        chosen = range(m)[part]
        address = self.place.address + chosen.start * self.strides[0]
        return Rows(Operand(address, (len(chosen), n), (down * chosen.step, across), self.dtype), self.owner, self.like)

    def __array__(self, dtype=None, copy=None):
        return np.asarray(host_copy(self), dtype)

    def first_not_finite(self):
        """((row, column), the number as the user gave it) of the first NaN or infinity, or None."""
        m, n = self.shape
        found = to_device(np.zeros(warps_for(m * n), np.int64))
        first_not_finite(self, found)
        place = int(to_host(found).min())
        if place == m * n:
            return None
        given = operand("X", self.like, 2, ANY)
        (row, column), (down, across), size = divmod(place, n), given.strides, given.dtype.itemsize
        content = _content(given.address + size * (row * down + column * across), size, self.like)
        return (row, column), content.view(given.dtype)[0]


def uploaded(array: NDArray[Any]) -> Rows:
    """A matrix of the host, copied to the device.

    Parameters
    ----------
    array : array (m, n)
        Samples, in the dtype of the plans.

    Returns
    -------
    Rows
        Any number of plans may read them.
    """
    stored, columns = to_device(np.ascontiguousarray(array)), array.shape[1]
    facts = getattr(stored, "__cuda_array_interface__", None) or stored.__array_interface__
    return Rows(Operand(int(facts["data"][0]), array.shape, (columns, 1), array.dtype), stored, stored)


def rows(array: DeviceArray, dtype: DTypeLike) -> Rows:
    """A matrix of the device as rows: where it stands if it can be read so, else converted into new memory.

    Parameters
    ----------
    array : device array (m, n)
        Float32, float64, bool or integers, in any layout.
    dtype : dtype
        float32 or float64, that of the run.

    Returns
    -------
    Rows
        Its samples, after all that was queued on the GPU.
    """
    wait()
    place = operand("X", array, 2, ANY)
    if place.dtype == dtype and (place.strides[1] == 1 or place.shape[1] == 1):
        return Rows(place, array, array)
    return _taken(array, dtype, array)


def empty_like(rows: Rows, columns: int) -> Any:
    """Uninitialised memory for a result, of the kind that the user gave.

    Parameters
    ----------
    rows : Rows
        What the result is for.
    columns : int
        Of the result.

    Returns
    -------
    device array (m, columns), dtype of the rows
        A tensor for a tensor of PyTorch, on its device; CuPy's for CuPy's; Numba's for all others.
    """
    shape, name = (len(rows), columns), rows.dtype.name
    libraries = {kind.__module__.partition(".")[0] for kind in type(rows.like).__mro__}
    if "torch" in libraries:
        return rows.like.new_empty(shape, dtype=getattr(sys.modules["torch"], name))
    if "cupy" in libraries:
        return sys.modules["cupy"].empty(shape, dtype=name)
    return empty(shape[0] * columns, rows.dtype, "the result").reshape(shape)


def host_copy(array: DeviceArray) -> NDArray[Any]:
    """A copy on the host of any array of the device, whatever its dtype and strides.

    Parameters
    ----------
    array : device array
        Read after all that was queued on the GPU.

    Returns
    -------
    array
        Of the same shape and dtype.
    """
    wait()
    facts = array.__cuda_array_interface__
    shape, dtype, strides = tuple(facts["shape"]), np.dtype(facts["typestr"]), facts.get("strides")
    if 0 in shape:
        return np.empty(shape, dtype)
    if strides is None:
        strides = np.empty(shape, dtype).strides
    reach = [step * (length - 1) for step, length in zip(strides, shape, strict=True)]
    low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + dtype.itemsize
    content = _content(int(facts["data"][0]) + low, high - low, array)
    return np.ndarray(shape, dtype, content, -low, strides).copy()


def wait():
    """Until all work of the GPU is done, whoever queued it and wherever."""
    check()
    cuda.synchronize()


class _Bytes:
    def __init__(self, address, size, owner):
        self.owner = owner
        self.__cuda_array_interface__ = {
            "shape": (size,),
            "typestr": "|u1",
            "data": (address, True),
            "strides": None,
            "version": 3,
        }


def _content(address, size, owner):
    """The bytes at an address of the device."""
    if SIMULATED:
        return np.frombuffer(ctypes.string_at(address, size), np.uint8)
    return cuda.as_cuda_array(_Bytes(address, size, owner)).copy_to_host()


def _taken(source, dtype, like, order=None):
    """Rows copied into memory of their own: all of them, or those that `order` (k,), on the host, names."""
    m, n = source.__cuda_array_interface__["shape"]
    m = m if order is None else len(order)
    memory = empty(m * n, dtype, "X").reshape(m, n)
    chosen = None if order is None else to_device(np.ascontiguousarray(order, np.int64))
    take_rows(source, chosen, memory)
    wait()  # `chosen` goes
    return Rows(operand("X", memory, 2), memory, like)

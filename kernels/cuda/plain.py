"""What the simulator of numba-cuda runs in place of `intrinsics.py`: plain Python on host memory.

Names and meanings are those of the compiled primitives; numbers are NumPy's, in the dtype of the kernel, so that they
round as on the device.
"""

import math
import sys
import threading
import time

import numpy as np

_CELLS = {np.dtype(code).name: np.ctypeslib.as_ctypes_type(code) for code in "fdbhiqBHIQ"}
_lock = threading.Lock()


class Pointer:
    """Address of an element; `p + i` steps by elements, `p[i]` reads and writes: in its owner, where that is known."""

    __slots__ = ("address", "dtype", "owner")

    def __init__(self, address, dtype, owner=None):
        self.address, self.dtype, self.owner = int(address), np.dtype(dtype), owner

    def __add__(self, elements):
        return Pointer(self.address + int(elements) * self.dtype.itemsize, self.dtype, self.owner)

    def __getitem__(self, i):
        return self.dtype.type(self._cell(i).value)

    def __setitem__(self, i, value):
        self._cell(i).value = int(value) if self.dtype.kind in "iu" else float(value)

    def _cell(self, i):
        address = self.address + int(i) * self.dtype.itemsize
        if self.owner is not None and not 0 <= address - self.owner.ctypes.data < self.owner.nbytes:
            raise IndexError("beyond the shared memory of the block")
        return _CELLS[self.dtype.name].from_address(address)


def global_at(address, dtype):
    return Pointer(address, dtype)


def shared_memory(dtype, size):
    frame, manager = sys._getframe(1), threading.current_thread()._manager
    place = (frame.f_code.co_filename, frame.f_lineno)
    with _lock:
        held = manager.__dict__.setdefault("shared_memory", {})
        if place not in held:
            # as on the device, it holds anything: here NaN, so that who reads before anyone wrote shows
            held[place] = np.full(size or DYNAMIC // np.dtype(dtype).itemsize, np.nan, dtype)
    return Pointer(held[place].ctypes.data, dtype, held[place])


DYNAMIC = 48 << 10  # bytes of shared memory that a launch may add


def load4(pointer):
    _must_be_aligned(pointer)
    return pointer[0], pointer[1], pointer[2], pointer[3]


def store4(pointer, a, b, c, d):
    _must_be_aligned(pointer)
    pointer[0], pointer[1], pointer[2], pointer[3] = a, b, c, d


def _must_be_aligned(pointer):
    if pointer.address % 16:
        raise AssertionError(f"an access of 128 bits at address {pointer.address:#x}")


def opaque(value):
    return value


def quotient(a, b):
    return int(a) // int(b)


def atomic_add_release(pointer, value):
    cell = pointer._cell(0)
    with _lock:
        old = pointer.dtype.type(cell.value)
        cell.value = int(old + value)
        return old


def load_acquire(pointer, value):
    if threading.current_thread().abort:
        raise RuntimeError("another thread has failed")
    time.sleep(0)  # who waits lets the others go on
    return pointer.dtype.type(pointer._cell(0).value)


class _Warp:
    """Where the lanes of one warp meet."""

    def __init__(self, lanes):
        self.barrier, self.values = threading.Barrier(lanes), {}


def _exchanged(value):
    """(What every lane of the warp gave, own lane)."""
    thread = threading.current_thread()
    manager, warp, lane = thread._manager, thread.thread_id // 32, thread.thread_id % 32
    with _lock:
        warps = manager.__dict__.setdefault("warps", {})
        if warp not in warps:
            warps[warp] = _Warp(min(32, math.prod(manager._block_dim) - 32 * warp))
    warp = warps[warp]
    warp.values[lane] = value
    warp.barrier.wait(60)
    values = dict(warp.values)
    warp.barrier.wait(60)
    return values, lane


def lane_of(value, mask):
    values, lane = _exchanged(value)
    return values[lane ^ mask]


def exp(x):
    return np.exp(x)


def expm1(x):
    return np.expm1(x)


def log(x):
    return np.log(x)


def log1p(x):
    return np.log1p(x)


def tanh(x):
    return np.tanh(x)


def sqrt(x):
    return np.sqrt(x)


def erf(x):
    return type(x)(math.erf(x))

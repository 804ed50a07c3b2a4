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


def _copy(elements):
    """A copy that is made at the last moment, when it is waited for: until then there is NaN."""

    def copy(to, source, present):
        if source.address % (4 * elements) or to.address % (4 * elements):
            raise AssertionError(f"a copy of {4 * elements} bytes from {source.address:#x} to {to.address:#x}")
        for i in range(elements):
            to[i] = np.nan
        _queued().append((to, source, elements, present))

    return copy


copy1_async, copy4_async = _copy(1), _copy(4)


def _queued():
    """The copies of this thread that are under way."""
    return threading.current_thread().__dict__.setdefault("copies", [])


def await_copies():
    for to, source, elements, present in _queued():
        for i in range(elements):
            to[i] = source[i] if present else 0.0
    _queued().clear()


def outer4(sums, x, y):
    return tuple(sums[4 * i + j] + x[i] * y[j] for i in range(4) for j in range(4))


def viewed(pointer, dtype):
    return Pointer(pointer.address, dtype, pointer.owner)


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


class Meeting:
    """Where a number of threads wait for one another and exchange values.

    A `threading.Barrier` has them all wait for one lock once more, when they leave: twice as long for a warp.
    """

    def __init__(self, threads):
        self.threads, self.lock, self.broken = threads, threading.Lock(), False
        self.given, self.gates, self.all = {}, [], None

    def exchange(self, place, value=None):
        """What every thread gave, by its place, as soon as the last one has come."""
        gate = threading.Lock()
        gate.acquire()
        with self.lock:
            self.given[place] = value
            self.gates.append(gate)
            if len(self.given) == self.threads:
                # all have read what was exchanged before: they are here
                self.all, self.given = self.given, {}
                self._open()
        if not gate.acquire(timeout=PATIENCE) or self.broken:
            raise threading.BrokenBarrierError
        return self.all

    def abort(self):
        """Let nobody wait here, now or later."""
        with self.lock:
            self.broken = True
            self._open()

    def _open(self):
        gates, self.gates = self.gates, []
        for gate in gates:
            gate.release()


PATIENCE = 60  # seconds that a thread waits for another


def _exchanged(value):
    """(What every lane of the warp gave, own lane)."""
    thread = threading.current_thread()
    manager, warp, lane = thread._manager, thread.thread_id // 32, thread.thread_id % 32
    with _lock:
        warps = manager.__dict__.setdefault("warps", {})
        if warp not in warps:
            warps[warp] = Meeting(min(32, math.prod(manager._block_dim) - 32 * warp))
    return warps[warp].exchange(lane, value), lane


def lane_of(value, mask):
    values, lane = _exchanged(value)
    return values[lane ^ mask]


def lane_at(value, lane):
    return _exchanged(value)[0][int(lane)]


def peers_of(value):
    values, _ = _exchanged(int(value))
    return sum(1 << lane for lane, other in values.items() if other == value)


def popc(bits):
    return int(bits).bit_count()


def warp_barrier():
    _exchanged(None)


def tf32_of(x):
    bits = int(np.float32(x).view(np.uint32))
    # half a unit of the last of ten bits, away from zero: infinity stays, NaN becomes the one that the device makes
    return np.uint32(0x7FFFFFFF if np.isnan(x) else bits + 0x1000 & 0xFFFFE000)


def bf16_pair(low, high):
    return np.uint32(_bf16_of(low) | _bf16_of(high) << 16)


def _bf16_of(x):
    bits = int(np.float32(x).view(np.uint32))
    return 0x7FFF if np.isnan(x) else bits + 0x7FFF + (bits >> 16 & 1) >> 16


def _tf32_in(words):
    return (words & 0xFFFFE000).view(np.float32)


def _bf16_in(words):
    return np.stack([words << 16, words & 0xFFFF0000], axis=-1).view(np.float32).reshape(*words.shape[:-1], -1)


def _multiply_add(numbers_in):
    """Own part of A B + C from what the lanes hold, by the layouts of the PTX manual.

    Lane 4 g + t holds of A the words (g, t), (g + 8, t), (g, t + 4) and (g + 8, t + 4), of B the words t and t + 4 of
    column g, of C the columns 2 t and 2 t + 1 in the rows g and g + 8.
    """

    def multiply_add(*given):
        lanes, lane = _exchanged(given)
        if len(lanes) != 32:
            raise AssertionError("a matrix is multiplied by whole warps")
        g, t = lane // 4, lane % 4
        a, b = np.empty((2, 8), np.uint32), np.empty((2, 8), np.uint32)
        for i in range(4):
            a[0, i], a[1, i], a[0, i + 4], a[1, i + 4] = lanes[4 * g + i][:4]
            for column in range(2):
                b[column, i], b[column, i + 4] = lanes[4 * (2 * t + column) + i][4:6]
        products = numbers_in(a).astype(np.float64) @ numbers_in(b).astype(np.float64).T
        return tuple((np.array(given[6:], np.float64) + products.ravel()).astype(np.float32))

    return multiply_add


mma_tf32, mma_bf16 = _multiply_add(_tf32_in), _multiply_add(_bf16_in)


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

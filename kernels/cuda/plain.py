"""What the simulator of numba-cuda runs in place of `intrinsics.py`: plain Python on host memory.

Names and meanings are those of the compiled primitives; numbers are NumPy's, in the dtype of the kernel, so that they
round as on the device.
"""

import ctypes
import math
import sys
import threading
import time

import numpy as np

_CELLS = {np.dtype(code): np.ctypeslib.as_ctypes_type(code) for code in "fdbhiqBHIQ"}
_lock = threading.Lock()


class Pointer:
    """Address of an element; `p + i` steps by elements, `p[i]` reads and writes: in its owner, where that is known."""

    __slots__ = ("address", "dtype", "inside", "owner")

    def __init__(self, address, dtype, owner=None, inside=None):
        self.address, self.dtype, self.owner, self.inside = int(address), np.dtype(dtype), owner, inside
        if owner is not None and inside is None:
            self.inside = range(owner.ctypes.data, owner.ctypes.data + owner.nbytes)

    def __add__(self, elements):
        address = self.address + int(elements) * self.dtype.itemsize
        return type(self)(address, self.dtype, self.owner, self.inside)

    def __getitem__(self, i):
        return self.dtype.type(self._cell(i).value)

    def __setitem__(self, i, value):
        self._cell(i).value = int(value) if self.dtype.kind in "iu" else float(value)

    def _cell(self, i):
        address = self.address + int(i) * self.dtype.itemsize
        if self.inside is not None and address not in self.inside:
            raise IndexError("beyond the shared memory of the block")
        return _CELLS[self.dtype].from_address(address)


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


DYNAMIC = 227 << 10  # bytes of shared memory that a launch may add: what Hopper has for a block


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
        _queued()[-1].append((to, source, elements, present))

    return copy


copy1_async, copy4_async = _copy(1), _copy(4)


def _queued():
    """The copies of this thread that are under way, by groups; the last one is still open."""
    return threading.current_thread().__dict__.setdefault("copies", [[]])


def close_copies():
    _queued().append([])


def await_copies():
    close_copies()
    _await_groups(0)


def await_copies_but_two():
    _await_groups(2)


def _await_groups(left):
    """Until no more than so many closed groups are under way."""
    groups = _queued()
    while len(groups) - 1 > left:
        for to, source, elements, present in groups.pop(0):
            for i in range(elements):
                to[i] = source[i] if present else 0.0


def outer4(sums, x, y):
    return tuple(sums[4 * i + j] + x[i] * y[j] for i in range(4) for j in range(4))


def viewed(pointer, dtype):
    return Pointer(pointer.address, dtype, pointer.owner)


def _must_be_aligned(pointer):
    if pointer.address % 16:
        raise AssertionError(f"an access of 128 bits at address {pointer.address:#x}")


def opaque(value):
    return value


def turn_by_turn():
    pass


def near_reciprocal(x):
    return np.float32(1) / x


def near_reciprocal_root(x):
    return np.float32(1) / np.sqrt(x)


def fma(a, b, c):
    return np.float32(np.longdouble(a) * np.longdouble(b) + np.longdouble(c))


def quotient(a, b):
    return int(a) // int(b)


def log2_of(n):
    return np.int32(int(n).bit_length() - 1)


def atomic_add_release(pointer, value):
    cell = pointer._cell(0)
    with _lock:
        old = pointer.dtype.type(cell.value)
        cell.value = int(old + value)
        return old


def let_others_go_on():
    """For who waits until another thread has done something."""
    time.sleep(0)


def load_acquire(pointer, value):
    if threading.current_thread().abort:
        raise RuntimeError("another thread has failed")
    let_others_go_on()
    return pointer.dtype.type(pointer._cell(0).value)


class Meeting:
    """Where a number of threads wait for one another and exchange values.

    A `threading.Barrier` has them all wait for one lock once more, when they leave: twice as long for a warp.
    """

    def __init__(self, threads):
        self.threads, self.lock = threads, threading.Lock()
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
                gates, self.gates = self.gates, []
                for each in gates:
                    each.release()
        if not gate.acquire(timeout=PATIENCE):
            raise threading.BrokenBarrierError
        return self.all


PATIENCE = 60  # seconds that a thread waits for another


def _exchanged(value, threads=32):
    """(What every lane of the warp, or of so many threads, gave, own lane)."""
    thread = threading.current_thread()
    manager, group, lane = thread._manager, (threads, thread.thread_id // threads), thread.thread_id % threads
    with _lock:
        groups = manager.__dict__.setdefault("warps", {})
        if group not in groups:
            groups[group] = Meeting(min(threads, math.prod(manager._block_dim) - threads * group[1]))
    return groups[group].exchange(lane, value), lane


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


def shared_address(pointer):
    """Of a shared memory that begins at 16, so that nothing in it is aligned by chance."""
    base = 16
    for memory in _shared_pieces():
        if memory is pointer.owner:
            return np.int64(base + pointer.address - memory.ctypes.data)
        base += -(-memory.nbytes // 16) * 16
    raise AssertionError("no pointer to shared memory")


def _shared_pieces():
    with _lock:
        return list(threading.current_thread()._manager.shared_memory.values())


class _Barrier:
    """A barrier in shared memory; copies in bulk are made at the last moment, when somebody waits for them."""

    def __init__(self, count):
        self.count, self.missing, self.phase, self.expected, self.copies = count, count, 0, 0, []
        self.lock = threading.Lock()

    def arrive(self, number, expected=0):
        with self.lock:
            self.missing, self.expected = self.missing - number, self.expected + expected
            if self.missing < 0:
                raise AssertionError("more arrive at a barrier than it waits for")

    def queue(self, *copy):
        with self.lock:
            self.copies.append(copy)

    def await_phase(self, parity):
        thread, end = threading.current_thread(), time.monotonic() + PATIENCE
        while True:
            with self.lock:
                if self.phase % 2 != parity:
                    return
                if not self.missing and self.expected == sum(size for _, _, size in self.copies):
                    for copy in self.copies:
                        ctypes.memmove(*copy)
                    self.copies.clear()
                    self.phase, self.missing, self.expected = self.phase + 1, self.count, 0
                    return
            if thread.abort or time.monotonic() > end:
                raise RuntimeError("another thread has failed" if thread.abort else "a barrier that nobody opens")
            let_others_go_on()


def _barriers():
    return threading.current_thread()._manager.__dict__.setdefault("barriers", {})


def init_barrier(barrier, number):
    _barriers()[barrier.address] = _Barrier(int(number))


def publish_barriers():
    pass


def arrive(barrier, number):
    _barriers()[barrier.address].arrive(int(number))


def arrive_and_expect(barrier, size):
    _barriers()[barrier.address].arrive(1, int(size))


def await_phase(barrier, parity):
    _barriers()[barrier.address].await_phase(int(parity))


def copy_in_bulk(to, source, size, barrier):
    if source.address % 16 or shared_address(to) % 16 or size % 16:
        raise AssertionError(f"a copy of {size} bytes from {source.address:#x} to {shared_address(to):#x}")
    to._cell(size // to.dtype.itemsize - 1)  # which is still in the memory
    ctypes.memset(to.address, 0xFF, size)  # NaN, until it is there
    _barriers()[barrier.address].queue(to.address, source.address, int(size))


def _words_at(descriptor, lines):
    """The words (lines, 8) of one step along the sum that a descriptor names, by the PTX manual.

    Lines come in eights, whose distance is the stride; units of 16 bytes follow one another, or are the leading offset
    apart where nothing is swizzled. Swizzled, bits 4 to 6 of an address change with bits 7 to 9.
    """
    start, leading, stride = ((descriptor >> bit & 0x3FFF) << 4 for bit in (0, 16, 32))
    width = {0: 16, 1: 128, 2: 64, 3: 32}[descriptor >> 62 & 3]
    if descriptor >> 49 & 7:
        raise AssertionError("the simulator knows only patterns that begin at multiples of theirs")
    line, unit = np.arange(lines)[:, None], np.arange(2)
    places = start + line % 8 * width + line // 8 * stride + unit * (leading if width == 16 else 16)
    places ^= places >> 3 & width - 16
    base = 16
    for memory in _shared_pieces():
        if base <= start < base + memory.nbytes:
            if places.min() < base or places.max() + 16 > base + memory.nbytes:
                raise IndexError("a matrix reaches beyond the shared memory of the block")
            words = memory.view(np.uint32)[(places - base >> 2)[..., None] + np.arange(4)]
            return words.reshape(lines, 8)
        base += -(-memory.nbytes // 16) * 16
    raise IndexError("a matrix stands beyond the shared memory of the block")


def _panel_at(descriptor, lines):
    return np.hstack([_words_at(int(descriptor) + 2 * step, lines) for step in range(4)])


def _in_flight():
    """Products of the warpgroup that this thread is the first of."""
    return threading.current_thread().__dict__.setdefault("in_flight", [])


def _group_multiply_add(numbers_in):
    """Own part of sums + A B: lane 4 g + t of warp w holds columns 2 t and 2 t + 1 of each eight, in two rows.

    They are 16 w + g and the one eight further on, as the PTX manual lays them out.
    """

    def multiply_add(sums, a, b):
        given, place = _exchanged((a, b), 128)
        if len(given) != 128 or len(set(given.values())) != 1:
            raise AssertionError("a matrix is multiplied by whole warpgroups, which agree on it")
        if place == 0:
            panels = _panel_at(a, 64), _panel_at(b, 256)
            _in_flight().append((a, b, panels))
            product = numbers_in(panels[0]).astype(np.float64) @ numbers_in(panels[1]).astype(np.float64).T
        product = _exchanged(product if place == 0 else None, 128)[0][0]
        row, pair = place // 32 * 16 + place % 32 // 4, place % 4 * 2
        own = product.reshape(64, 32, 8)[[row, row + 8], :, pair : pair + 2]  # (half, eight columns, pair)
        return (np.asarray(sums, np.float64) + own.transpose(1, 0, 2).ravel()).astype(np.float32)

    return multiply_add


wgmma_tf32, wgmma_bf16 = _group_multiply_add(_tf32_in), _group_multiply_add(_bf16_in)


def _await_products(left):
    """Until then a product reads its panels: here, they must still be what they were."""

    def await_products():
        products = _in_flight()
        while len(products) > left:
            a, b, panels = products.pop(0)
            if not all(map(np.array_equal, panels, (_panel_at(a, 64), _panel_at(b, 256)))):
                raise AssertionError("shared memory was written while a product read it")

    return await_products


await_products, await_products_but_one = _await_products(0), _await_products(1)


def store_sums(pointer, sums, by_row, by_part):
    for at, value in enumerate(sums):
        eight, half, i = at // 4, at // 2 % 2, at % 2
        pointer[8 * half * by_row + eight // 8 * by_part + eight % 8 * 8 + i] = value


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

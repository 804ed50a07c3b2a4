"""What NUMBA_DISABLE_JIT=1 runs in place of the primitives of memory.py, simd.py, tile.py and amx.py: plain Python.

The kernels around them are ordinary Python then, for breakpoints and line coverage, a thousand times slower. Names
and meanings are those of the compiled primitives; a vector is a `Vector`, a mask an array of bool, a tile an array
(rows, vectors, lanes). Only a fused multiply-add rounds twice here.
"""

import ctypes
import operator
import threading
import time
from types import FunctionType

import numpy as np

from ..compiler import function_at
from ..options import lanes as lanes_of

# All memory as one buffer, so that an address is an offset; from 1 on, since NumPy takes 0 for no buffer.
_MEMORY = (ctypes.c_char * (1 << 62)).from_address(1)
_CELLS = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32, "int64": ctypes.c_int64}
_WIDE = {"f": np.float64, "i": np.int64}  # of what is read from memory: NumPy's, which divide by zero without raising

_lock = threading.Lock()


def replace_primitives(namespace):
    """Put the functions of this file in place of those in a module's namespace that have their names."""
    twins = {name: value for name, value in globals().items() if isinstance(value, FunctionType)}
    namespace.update({name: value for name, value in twins.items() if name in namespace})


# Memory ---------------------------------------------------------------------------------------------------------------


class Pointer:
    """Address of an element; `p + i` steps by elements, `p[i]` reads and writes."""

    __slots__ = ("address", "dtype", "owner")

    def __init__(self, address, dtype, owner=None):
        self.address, self.dtype, self.owner = int(address), dtype, owner

    def __add__(self, elements):
        return Pointer(self.address + int(elements) * self.dtype.itemsize, self.dtype, self.owner)

    def __getitem__(self, i):
        return _WIDE[self.dtype.kind](self._cell(i).value)

    def __setitem__(self, i, value):
        self._cell(i).value = int(value) if self.dtype.kind == "i" else value

    def _cell(self, i):
        return _CELLS[self.dtype.name].from_address(self.address + int(i) * self.dtype.itemsize)

    def view(self, shape, strides):
        """The array of this shape and these strides, in elements, that starts here."""
        if 0 in shape:
            return np.empty(shape, self.dtype)
        strides = [int(stride) * self.dtype.itemsize for stride in strides]
        return np.ndarray(shape, self.dtype, _MEMORY, self.address - 1, strides)

    def __repr__(self):
        return f"Pointer({self.address:#x}, {self.dtype})"


def address_of(array):
    return Pointer(array.__array_interface__["data"][0], array.dtype, array)


def pointer_at(address, like):
    return Pointer(address, like.dtype)


def retyped(pointer, like):
    return Pointer(pointer.address, like.dtype, pointer.owner)


def integers_at(address):
    return Pointer(address, np.dtype(np.int64))


def int32_at(address):
    return Pointer(address, np.dtype(np.int32))


def prefetch(pointer):
    pass


def hidden(integer):
    return integer


def plain(constant):
    return constant


def atomic_load(pointer):
    with _lock:
        return pointer[0]


def atomic_store(pointer, value):
    with _lock:
        pointer[0] = value


def atomic_add(pointer, value):
    with _lock:
        old = pointer[0]
        pointer[0] = old + value
        return old


def atomic_swap_if(pointer, expected, value):
    with _lock:
        found = pointer[0] == expected
        if found:
            pointer[0] = value
        return bool(found)


def pause():
    time.sleep(0)


def yield_core():
    time.sleep(1e-4)


def flush_denormals():
    return 0


def restore_float_control(control):
    pass


def call(address, args):
    function_at(address)(*args)


def call_real(address, args):
    return function_at(address)(*args)


def call_checked(address, args, failure):
    function_at(address)(*args)


def call_real_checked(address, args, failure):
    return function_at(address)(*args)


def stack_integer():
    return address_of(np.zeros(1, np.int64))


def hold(array):
    pass


# Vectors --------------------------------------------------------------------------------------------------------------


def _spread(value, dtype):
    """The lanes of a Vector, or a number as compiled code would cast it to the elements of one."""
    if isinstance(value, Vector):
        return value.lanes
    if dtype.kind == "f":
        return dtype.type(value)
    half = 1 << (8 * dtype.itemsize - 1)
    return dtype.type((int(value) + half) % (2 * half) - half)


def _operator(function, result=lambda lanes: Vector(lanes)):
    """(v ∘ other, other ∘ v)."""

    def forward(self, other):
        return result(function(self.lanes, _spread(other, self.dtype)))

    def backward(self, other):
        return result(function(_spread(other, self.dtype), self.lanes))

    return forward, backward


def _comparison(function):
    return _operator(function, result=np.asarray)[0]


class Vector:
    """An array that fills one register: numbers take its dtype, never the reverse."""

    __slots__ = ("lanes",)
    __array_ufunc__ = None  # NumPy's scalars leave the operation to the vector
    __hash__ = None

    def __init__(self, lanes):
        self.lanes = lanes

    @property
    def dtype(self):
        """Of an element."""
        return self.lanes.dtype

    __add__, __radd__ = _operator(operator.add)
    __sub__, __rsub__ = _operator(operator.sub)
    __mul__, __rmul__ = _operator(operator.mul)
    __truediv__, __rtruediv__ = _operator(operator.truediv)
    __lshift__, __rlshift__ = _operator(operator.lshift)
    __rshift__, __rrshift__ = _operator(operator.rshift)
    __and__, __rand__ = _operator(operator.and_)
    __or__, __ror__ = _operator(operator.or_)
    __xor__, __rxor__ = _operator(operator.xor)
    __lt__, __le__ = _comparison(operator.lt), _comparison(operator.le)
    __gt__, __ge__ = _comparison(operator.gt), _comparison(operator.ge)
    __eq__, __ne__ = _comparison(operator.eq), _comparison(operator.ne)

    def __neg__(self):
        return Vector(-self.lanes)

    def __repr__(self):
        return f"Vector({self.lanes})"


def _like_any(*values):
    """The values as vectors, of the type of those that are."""
    vector = next(value for value in values if isinstance(value, Vector))
    return [like(value, vector) for value in values]


def lanes(pointer):
    return lanes_of(8 * pointer.dtype.itemsize)


def splat(scalar, pointer):
    return Vector(np.full(lanes(pointer), scalar, pointer.dtype))


def lane_numbers(pointer):
    return Vector(np.arange(lanes(pointer), dtype=pointer.dtype))


def load(pointer):
    return Vector(pointer.view((lanes(pointer),), (1,)).copy())


def store(pointer, value):
    pointer.view(value.lanes.shape, (1,))[...] = value.lanes


def load_part(pointer, count):
    return load_strided(pointer, 1, count)


def store_part(pointer, value, count):
    store_strided(pointer, 1, value, count)


def load_strided(pointer, stride, count):
    result = np.zeros(lanes(pointer), pointer.dtype)
    count = max(0, min(count, result.size))
    result[:count] = pointer.view((count,), (stride,))
    return Vector(result)


def store_strided(pointer, stride, value, count):
    count = max(0, min(count, value.lanes.size))
    pointer.view((count,), (stride,))[...] = value.lanes[:count]


def like(number, v):
    return number if isinstance(number, Vector) else Vector(np.full_like(v.lanes, _spread(number, v.dtype)))


def select(mask, a, b):
    a, b = _like_any(a, b)
    return Vector(np.where(mask, a.lanes, b.lanes))


def fma(a, b, c):
    a, b, c = _like_any(a, b, c)
    return a * b + c


def absolute(v):
    return Vector(np.abs(v.lanes))


def sqrt(v):
    return Vector(np.sqrt(v.lanes))


def rint(v):
    return Vector(np.rint(v.lanes))


def bits(v):
    return Vector(v.lanes.view(f"i{v.dtype.itemsize}"))


def from_bits(v):
    return Vector(v.lanes.view(f"f{v.dtype.itemsize}"))


def to_int(v):
    return Vector(v.lanes.astype(f"i{v.dtype.itemsize}"))


def to_float(v):
    return Vector(v.lanes.astype(f"f{v.dtype.itemsize}"))


def copysign(magnitude, sign):
    magnitude, sign = _like_any(magnitude, sign)
    return Vector(np.copysign(magnitude.lanes, sign.lanes))


def horner(v, coefficients):
    terms = list(coefficients)
    result = like(terms.pop(), v)
    while terms:
        result = fma(result, v, terms.pop())
    return result


def total(v):
    values = v.lanes
    while values.size > 1:
        low, high = np.split(values, 2)
        values = low + high
    return np.float64(values[0])


def by_dtype(single, double):
    def chosen(v):
        return single(v) if v.dtype == np.float32 else double(v)

    chosen.__name__ = chosen.__qualname__ = single.__name__.strip("_").removesuffix("_single")
    return chosen


# Tiles ----------------------------------------------------------------------------------------------------------------


def _tile_at(tile, pointer, stride):
    """The memory of a tile whose rows are `stride` elements apart."""
    return pointer.view(tile.shape, (stride, tile.shape[2], 1))


def tile_zeros(pointer, rows, vectors):
    return np.zeros((rows, vectors, lanes(pointer)), pointer.dtype)


def tile_bias(tile, bias):
    return np.broadcast_to(bias.view((len(tile), 1, 1), (1, 0, 0)), tile.shape).copy()


def tile_load(tile, c, stride):
    return _tile_at(tile, c, stride).copy()


def tile_store(tile, c, stride):
    _tile_at(tile, c, stride)[...] = tile


def rank1(tile, a, stride, b):
    return tile + a.view((len(tile), 1, 1), (stride, 0, 0)) * _tile_at(tile[:1], b, 0)


def rank1_vector(tile, a, stride, vector):
    return tile + a.view((len(tile), 1, 1), (stride, 0, 0)) * vector.lanes


def tile_spill(tile):
    return address_of(tile.copy())


def tile_totals(tile):
    sums = [total(Vector(lanes)) for row in tile for lanes in row]
    return address_of(np.array(sums, tile.dtype))


def lane_products(tile, a, stride_a, b, stride_b):
    return lane_products_first(tile, a, stride_a, b, stride_b, tile.shape[2])


def lane_products_first(tile, a, stride_a, b, stride_b, count):
    rows, vectors, _ = tile.shape
    result = tile.copy()
    left = a.view((rows, 1, count), (stride_a, 0, 1))
    result[:, :, :count] += left * b.view((1, vectors, count), (0, stride_b, 1))
    return result


def transpose_square(source, stride, rows, columns, target, target_stride):
    target.view((columns, rows), (target_stride, 1))[...] = source.view((columns, rows), (1, stride))


# The tile unit --------------------------------------------------------------------------------------------------------


def configure_tiles():
    pass


def release_tiles():
    pass


def multiply_tiles(steps, a, b, c, stride, adds, ahead):
    rows, pairs = _halves(a, steps), _halves(b, steps).reshape(steps, 2, 16, 16, 2)
    left = rows.transpose(1, 2, 0, 3).reshape(32, 32 * steps)
    product = left @ pairs.transpose(0, 2, 4, 1, 3).reshape(32 * steps, 32)
    sums = c.view((32, 32), (stride, 1))
    sums[...] = product + sums if adds else product


def _halves(pointer, steps):
    """The lines of both tiles of each step, as float32."""
    halves = pointer.view((steps, 2, 16, 16), (512, 256, 16, 1)).view(np.uint16)
    return (halves.astype(np.uint32) << 16).view(np.float32)


def round_tile(source, stride, target, along, turned):
    lines = source.view((16, 32), (stride, 1)) if along else source.view((32, 16), (stride, 1)).T
    tiny = np.abs(lines) < np.finfo(np.float32).tiny  # denormal numbers are taken for zeros
    whole = np.where(tiny, np.copysign(np.float32(0.0), lines), lines).view(np.uint32)
    rounded = (whole + 0x7FFF + (whole >> 16 & 1)) >> 16
    rounded = np.where(np.isnan(lines), whole >> 16 | 0x40, rounded)
    pairs = rounded[:, ::2] | rounded[:, 1::2] << 16
    target.view((16, 16), (16, 1)).view(np.uint32)[...] = pairs if along != turned else pairs.T

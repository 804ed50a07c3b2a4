"""Test arrays of any layout, inside a guarded buffer.

`Placed` puts values into a 1-D canvas, between guards of NaN, with the strides of a layout. A kernel that
reads a neighbour spreads NaN into its result; one that writes a neighbour is caught by `assert_guarded`. Every
layout reaches a test's own compiled code as one Numba type, since each would cost a compilation: through `as_array`,
which makes the array from buffer, offset, shape and strides.
"""

import numpy as np
from numba import njit
from numpy.lib.stride_tricks import as_strided

DTYPES = ("float32", "float64")
# rows and columns apart, in elements, for an (m, n) array
LAYOUTS = ("C", "F", "padded", "sliced", "reversed", "reversed_F")
_GUARD = 37  # odd, so that nothing is aligned for a vector by luck


def _strides(shape, layout):
    """Strides in elements."""
    m, n = shape if len(shape) == 2 else (1, *shape)
    rows, columns = {
        "C": (n, 1),
        "F": (1, m),
        "padded": (n + 3, 1),
        "sliced": (2 * (3 * n + 1), 3),
        "reversed": (-(2 * n + 1), -2),
        "reversed_F": (-1, -(m + 2)),
    }[layout]
    if len(shape) == 1 and layout in ("F", "reversed_F"):
        columns = {"F": 1, "reversed_F": -1}[layout]
    return (rows, columns)[-len(shape) :]


class Placed:
    """Values in a canvas: `array` is a NumPy view, `spec` what the compiled `as_array` takes."""

    def __init__(self, values, dtype, layout="C", guard=_GUARD):
        values = np.asarray(values)
        steps = _strides(values.shape, layout)
        reach = [step * (length - 1) if length else 0 for step, length in zip(steps, values.shape, strict=True)]
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach)
        self.canvas = np.full(high - low + 1 + 2 * guard, np.nan, dtype=dtype)
        self.offset = guard - low
        size = self.canvas.itemsize
        self.spec = (self.canvas, self.offset, values.shape, tuple(step * size for step in steps))
        self.array = as_array.py_func(self.spec) if hasattr(as_array, "py_func") else as_array(self.spec)
        self.array[...] = values
        # a canvas of the same form, whose own elements are marked
        marks = np.zeros(len(self.canvas), dtype=np.int8)
        as_strided(marks[self.offset :], values.shape, steps)[...] = 1
        self.own = marks.astype(bool)
        self.before = self.canvas.copy()

    def assert_guarded(self):
        """Nothing but the array's own elements has been written."""
        assert np.array_equal(self.canvas[~self.own], self.before[~self.own], equal_nan=True), "wrote outside"

    def assert_unchanged(self):
        """Nothing at all has been written."""
        assert np.array_equal(self.canvas, self.before, equal_nan=True), "changed an input"


@njit
def as_array(spec):
    """The array of (canvas, offset, shape, strides in bytes); always of layout "A" for Numba."""
    canvas, offset, shape, strides = spec
    return as_strided(canvas[offset:], shape, strides)


def blank(shape, dtype, layout="C"):
    """An output: NaN everywhere, so that a kernel that reads it shows."""
    return Placed(np.full(shape, np.nan), dtype, layout)


def normal(seed, *shape, scale=1.0, dtype="float64"):
    """Normal values, the same on every machine, already rounded to dtype."""
    return (np.random.RandomState(seed).standard_normal(shape) * scale).astype(dtype)


def aligned(values):
    """A copy that starts at a multiple of 16 bytes, so that it is read 128 bits at a time."""
    room = np.empty(values.size + 16 // values.itemsize, values.dtype)
    start = -room.ctypes.data % 16 // values.itemsize
    copy = room[start : start + values.size].reshape(values.shape)
    copy[...] = values
    return copy

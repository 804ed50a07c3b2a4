"""What is done to data on the device before a run: checked, and brought into C order."""

import numpy as np

from ..annotations import DeviceArray, Stream
from .launch import ANY, operand, place, plane, run
from .primitives import global_at, lane_of
from .toolchain import cuda, device, for_each_real, kernel

THREADS = 256
# Estimates: warps of a grid at most, which fill the largest cards; numbers that a thread looks at, at least
WARPS, SHARE = 4096, 16


def warps_for(elements):
    """Elements of what `first_not_finite` writes for a matrix of so many."""
    return int(max(1, min(WARPS, elements // (32 * SHARE))))


@device
def smallest(value):
    """The smallest of a number in each of the 32 lanes of a warp; all must take part."""
    for mask in (16, 8, 4, 2, 1):
        other = lane_of(value, mask)
        value = other if other < value else value
    return value


@for_each_real
def check_of(real):
    """The kernel for one dtype. A thread goes `down` rows and `across` columns at a time, in rising order."""
    zero = real(0.0)

    @kernel(THREADS)
    def check(m, n, x, by_row, by_column, down, across, warps, out):
        p, found, thread = global_at(x, real), global_at(out, np.int64), cuda.grid(1)
        if thread >> 5 < warps:
            row, first = thread // n, m * n
            column = thread - row * n
            while row < m and first == m * n:
                value = p[row * by_row + column * by_column]
                if value - value != zero:
                    first = row * n + column
                row, column = row + down, column + across
                if column >= n:
                    row, column = row + 1, column - n
            first = smallest(first)
            if thread & 31 == 0:
                found[thread >> 5] = first

    return check


def first_not_finite(X: DeviceArray, out: DeviceArray, stream: Stream = 0) -> None:
    """Find NaN and infinity: the smallest number in `out` is the place row * n + column of the first, or m * n.

    Parameters
    ----------
    X : device array (m, n), float32 or float64
        Any strides.
    out : device array (k,), int64
        What each of k warps found; `matrices.warps_for(m * n)` is a good k.
    stream : stream, optional
        Where it is queued.
    """
    x, result = operand("X", X, 2), operand("out", out, 1, np.int64)
    (m, n), (warps,) = x.shape, result.shape
    down, across = divmod(32 * warps, n)
    threads = 32 * min(warps, THREADS // 32)
    shape = -(-32 * warps // threads), threads
    run(check_of(x.dtype), shape, stream, m, n, x.address, *x.strides, down, across, warps, result.address)


@for_each_real
def taking_of(real, source):
    """The kernel of `take_rows` from elements of type `source`."""

    @kernel(THREADS)
    def taking(m, n, x, by_row, by_column, order, out):
        p, q, target = global_at(x, source), global_at(order, np.int64), global_at(out, real)
        i, j = place()
        if i < m and j < n:
            row = q[i] if order != 0 else i
            target[i * n + j] = real(p[row * by_row + j * by_column])

    return taking


def take_rows(X: DeviceArray, order: DeviceArray | None, out: DeviceArray, stream: Stream = 0) -> None:
    """Bring rows into C order and into the dtype of `out`.

    Parameters
    ----------
    X : device array (k, n)
        Float32, float64, bool or integers, any strides.
    order : device array (m,), int64, or None
        Which rows; None for all.
    out : device array (m, n), float32 or float64
        In C order.
    stream : stream, optional
        Where it is queued.
    """
    x, y = operand("X", X, 2, ANY), operand("out", out, 2)
    source = np.uint8 if x.dtype == bool else x.dtype.type
    which = 0 if order is None else operand("order", order, 1, np.int64).address
    run(taking_of(y.dtype, source), plane(*y.shape), stream, *y.shape, x.address, *x.strides, which, y.address)


@for_each_real
def copying_of(real):
    """The kernel of `copy_rows`."""

    @kernel(THREADS)
    def copying(m, n, x, order, out):
        i, j = place()
        if i < m and j < n:
            at = global_at(order, np.int64)[i] * n + j
            global_at(out, real)[at] = global_at(x, real)[at]

    return copying


def copy_rows(X: DeviceArray, order: DeviceArray, out: DeviceArray, stream: Stream = 0) -> None:
    """Copy some rows of a matrix to the same places of another.

    Parameters
    ----------
    X : device array (k, n), float32 or float64
        In C order.
    order : device array (m,), int64
        Which rows.
    out : device array (k, n), dtype of X
        In C order; its other rows stay.
    stream : stream, optional
        Where it is queued.
    """
    x, which = operand("X", X, 2), operand("order", order, 1, np.int64)
    target, (m, n) = operand("out", out, 2, x.dtype), (which.shape[0], x.shape[1])
    run(copying_of(x.dtype), plane(m, n), stream, m, n, x.address, which.address, target.address)

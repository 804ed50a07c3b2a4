"""The user's own activations and losses: their scalar functions in loops whose addresses stand in the plan.

They are compiled when a plan first needs them, once for each dtype and process, and called a block at a time.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype, types
from numpy.typing import DTypeLike

from ..options import callback

Function = Callable[..., Any]


@functools.cache
def activation_addresses(f: Function, df: Function, dtype: DTypeLike) -> tuple[int, int]:
    """Addresses of the loops A = f(Z) and dZ *= df(Z), for `memory.call_activation`.

    Parameters
    ----------
    f, df : dispatcher
        f(z) and its derivative df(z), by @njit.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    tuple of int
        Valid in this process and its forks.
    """
    number = from_dtype(np.dtype(dtype))
    signature = types.void(*[types.CPointer(number)] * 2, *[types.intp] * 3)

    def forward(z, a, rows, columns, ld):
        for i in range(rows):
            for j in range(columns):
                a[i * ld + j] = f(z[i * ld + j])

    def slope(z, delta, rows, columns, ld):
        for i in range(rows):
            for j in range(columns):
                delta[i * ld + j] *= df(z[i * ld + j])

    return callback(forward, signature), callback(slope, signature)


@functools.cache
def loss_address(f: Function, df: Function, dtype: DTypeLike) -> int:
    """Address of the loop that sums w * f(A, y), and writes scale * w * df(A, y), for `memory.call_loss`.

    Parameters
    ----------
    f, df : dispatcher
        f(prediction, target) and its derivative by the prediction, by @njit.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    int
        Valid in this process and its forks.
    """
    numbers, size = types.CPointer(from_dtype(np.dtype(dtype))), types.intp
    signature = types.float64(
        size, size, numbers, size, numbers, size, size, numbers, size, types.float64, numbers, size
    )

    def summed(outputs, samples, a, ld, y, fs_y, ss_y, w, ss_w, scale, delta, ld_delta):
        mean = 1.0 / outputs
        result = 0.0
        for s in range(samples):
            weight = w[s * ss_w] if ss_w != 0 else 1.0
            each = 0.0
            for j in range(outputs):
                value, target = a[j * ld + s], y[j * fs_y + s * ss_y]
                each += f(value, target)
                if scale != 0.0:
                    delta[j * ld_delta + s] = df(value, target) * weight * (scale * mean)
            result += each * mean * weight
        return result

    return callback(summed, signature)

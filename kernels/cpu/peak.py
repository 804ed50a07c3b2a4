"""The most arithmetic that a core can do, for measuring: what the other kernels are held against."""

from ..compiler import jit
from ..options import EXACT
from .memory import address_of
from .simd import fma, lanes, load, splat, total

SUMS = 12  # independent sums: latency times units, on the machines of today


# EXACT: nothing may be reassociated.
@jit(EXACT, public=True)
def multiply_add(array, count):
    """Multiply and add in registers, as often as asked for.

    Parameters
    ----------
    array : array (n,), float32 or float64
        Where the numbers come from, consecutive; at least two registers and 12 elements.
    count : int
        Multiplications, each with an addition.

    Returns
    -------
    float, int
        A number that depends on all of them, and how many there were: the largest multiple of 12 registers in `count`.
    """
    p = address_of(array)
    x, y, steps = load(p), load(p + lanes(p)), count // (SUMS * lanes(p))
    # sums by name, not in an array: they must stay in registers
    s0, s1, s2, s3 = splat(array[0], p), splat(array[1], p), splat(array[2], p), splat(array[3], p)
    s4, s5, s6, s7 = splat(array[4], p), splat(array[5], p), splat(array[6], p), splat(array[7], p)
    s8, s9, s10, s11 = splat(array[8], p), splat(array[9], p), splat(array[10], p), splat(array[11], p)
    for _ in range(steps):
        s0, s1, s2, s3 = fma(s0, x, y), fma(s1, x, y), fma(s2, x, y), fma(s3, x, y)
        s4, s5, s6, s7 = fma(s4, x, y), fma(s5, x, y), fma(s6, x, y), fma(s7, x, y)
        s8, s9, s10, s11 = fma(s8, x, y), fma(s9, x, y), fma(s10, x, y), fma(s11, x, y)
    summed = s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9 + s10 + s11
    return total(summed), steps * SUMS * lanes(p)

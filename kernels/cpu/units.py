"""Kernels that other kernels call by their address: each compiled by itself, when a program first uses it.

So only what a net uses is compiled, each unit is cached by itself, and a new operation, activation, loss or rule leaves
the loop alone. A call costs some nanoseconds.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import from_dtype, types
from numpy.typing import DTypeLike

from ..compiler import address_in_plain_python, jit
from ..options import COMPILED
from ..symbols import address_of_kernel
from .memory import Pointer


class Unit:
    """A kernel with an address for each dtype.

    Parameters
    ----------
    function : callable
        In Python.
    math : frozenset of str
        Fastmath set.
    arguments : str
        Of the kernel, a letter each: i an integer, f a float64, I and R pointers to int64 and float64, P a pointer to
        the dtype.
    gives : bool
        Whether it gives a float64.
    """

    def __init__(self, function: Callable[..., Any], math: frozenset[str], arguments: str, gives: bool) -> None:
        self._kernel = jit(math, by_address=True)(function)
        self._arguments, self._result = arguments, types.float64 if gives else types.void
        self._addresses: dict[np.dtype[Any], int] = {}

    def address(self, dtype: DTypeLike) -> int:
        """Where the kernel for a dtype stands in this process; compiled, or loaded, when it is first asked for."""
        dtype = np.dtype(dtype)
        if dtype not in self._addresses:
            self._addresses[dtype] = self._compiled(dtype)
        return self._addresses[dtype]

    def _compiled(self, dtype):
        if not COMPILED:
            return address_in_plain_python(self._kernel)
        kinds = {"i": types.intp, "f": types.float64, "I": Pointer(types.int64), "R": Pointer(types.float64)}
        kinds["P"] = Pointer(from_dtype(dtype))
        return address_of_kernel(self._kernel, self._result(*[kinds[letter] for letter in self._arguments]))


def unit(math: frozenset[str], arguments: str, gives: bool = False) -> Callable[[Callable[..., Any]], Unit]:
    """Decorator that makes a function a Unit."""
    return lambda function: Unit(function, math, arguments, gives)

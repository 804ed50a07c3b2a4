"""The user's own activations and losses: loops around their scalar functions, called by address like units.

They are compiled when a program first needs them, once for each dtype, live as long as a linked program that has their
addresses, and are kept in no cache. What they raise ends the run, which raises it again.
"""

import ctypes
import pickle
import weakref

import numpy as np
from numba import from_dtype, types

from ..compiler import Loop

UNFIT = 1  # in the place of an address: arrays that do not belong together


class _Raised(ctypes.Structure):
    """What Numba leaves of an exception: a pickle of (class, arguments, place in the source)."""

    _fields_ = [("pickle", ctypes.c_void_p), ("size", ctypes.c_int32)]


def failure_at(address: int) -> BaseException:
    """The exception that a function of the user's own raised in compiled code.

    Parameters
    ----------
    address : int
        What a checked call of `memory.py` left, or UNFIT.

    Returns
    -------
    BaseException
        As it was raised, or a RuntimeError where its arguments are not known.
    """
    if address == UNFIT:
        return ValueError("table must be one that link gives, with arrays of the sizes that it names; got others")
    raised = _Raised.from_address(address)
    try:
        kind, arguments, _ = pickle.loads(ctypes.string_at(raised.pickle, raised.size))
        return kind(*arguments or ())
    except Exception:
        return RuntimeError("a function of the user's own raised an exception in compiled code")


class _Loops(list):
    """The loops of a pair for a dtype, and so the pair itself."""


_made: weakref.WeakValueDictionary = weakref.WeakValueDictionary()  # all that live, by the identity of their pair


def _loops(make, functions, dtype):
    """What `make` makes of a pair, once for each dtype."""
    key = make, *map(id, functions), dtype
    found = _made.get(key)
    if found is None:
        i, p = types.intp, types.CPointer(from_dtype(np.dtype(dtype)))
        found = _made[key] = _Loops(Loop(function, signature) for function, signature in make(*functions, i, p))
    return found


def activation_loops(functions, dtype):
    """The loops of a pair (f, df), whose addresses are those of `activations.addresses_of`.

    Parameters
    ----------
    functions : tuple of dispatcher
        f(z) and its derivative df(z), by @njit.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    list of Loop
        For A = g(Z) and for delta *= g'(Z).
    """
    return _loops(_activation, functions, dtype)


def _activation(f, df, i, p):
    def activate(alpha, outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a):
        for o in range(outputs):
            for s in range(samples):
                a[o * fs_a + s * ss_a] = f(z[o * fs_z + s * ss_z])

    def slope(alpha, outputs, samples, delta, z, a, ld):
        for o in range(outputs):
            for s in range(samples):
                delta[o * ld + s] *= df(z[o * ld + s])

    yield activate, types.void(types.float64, i, i, p, i, i, p, i, i)
    yield slope, types.void(types.float64, i, i, p, p, p, i)


def loss_loops(functions, dtype):
    """The loop of a pair (f, df), with the arguments of `losses.address_of_loss`.

    Parameters
    ----------
    functions : tuple of dispatcher
        f(prediction, target) and its derivative by the prediction, by @njit.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    list of Loop
        One.
    """
    return _loops(_loss, functions, dtype)


def _loss(f, df, i, p):
    real = types.float64

    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
        mean = 1.0 / outputs
        result = 0.0
        for s in range(samples):
            weight = w[s * ss_w] if ss_w != 0 else 1.0
            each = 0.0
            for o in range(outputs):
                value, target = z[o * fs_z + s * ss_z], y[o * fs_y + s * ss_y]
                each += f(value, target)
                if scale != 0.0:
                    dz[o * fs_dz + s * ss_dz] = df(value, target) * weight * (scale * mean)
            result += each * mean * weight
        return result

    yield summed, real(real, i, i, p, i, i, p, i, i, i, p, i, real, p, i, i)

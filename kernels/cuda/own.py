"""The user's own activations and losses on a GPU: their scalar functions compiled once more, for its threads.

Wherever a kernel is made for a code, a pair (f, df) may stand in its place; `key_of` gives what stands for a record.
Such a kernel is compiled in each process: the disk cache keeps nothing of functions that it does not know.

An exception would end the work of one thread only, of which nobody hears, and for which other blocks may wait: so
functions that raise are refused. Nothing else raises: as in NumPy, a division by zero gives infinity.
"""

import dis
import inspect
from types import CodeType

from ..formulas import OWN
from .formulas import formulas_of, found
from .toolchain import device, for_each_real, users_device


def key_of(record):
    """The user's pair of functions, or the code of an activation or a loss."""
    return record.functions or record.code


def codes_of(keys):
    """From each key to its code in the tables of a run: the user's pairs are numbered from OWN on."""
    pairs = [key for key in keys if isinstance(key, tuple)]
    return {key: OWN + pairs.index(key) if isinstance(key, tuple) else key for key in keys}


def _device_of(name, function, *reals):
    raising = next((each for each in _called(function) if _raises(each.__code__)), None)
    if raising is not None:
        given = f"{function.__name__}: {raising.__name__} has a raise or an assert, which ends a thread of a GPU unseen"
        raise ValueError(f"{name} must be functions that raise nothing on a GPU; got {given}")
    return users_device(name, function, *reals)


def _called(function):
    """A function of the user's own and all by @njit that it calls, in Python."""
    waiting, found = [function], []
    while waiting:
        function = waiting.pop()
        function = getattr(function, "py_func", function)
        if not inspect.isfunction(function) or function in found:
            continue
        found.append(function)
        used = inspect.getclosurevars(function)
        held = [*used.nonlocals.values(), *used.globals.values()]
        held += [getattr(each, name) for each in held for name in function.__code__.co_names if hasattr(each, name)]
        waiting += [each for each in held if hasattr(each, "py_func")]
    return found


def _raises(code):
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return any(each.opname == "RAISE_VARARGS" for each in dis.get_instructions(code)) or any(map(_raises, inner))


@for_each_real
def activation_of(real, key):
    """(g(alpha, z), g'(alpha, z, a)) of a code, or of the user's f(z) and df(z)."""
    if not isinstance(key, tuple):
        return found(formulas_of(real).activations, key, "an activation of single numbers")
    f, df = (_device_of("activation", function, real) for function in key)

    @device
    def activate(alpha, z):
        return real(f(z))

    @device
    def slope(alpha, z, a):
        return real(df(z))

    return activate, slope


@for_each_real
def loss_of(real, key):
    """f(param, z, y), giving (loss, derivative by z), of a code, or of the user's f(z, y) and df(z, y)."""
    if not isinstance(key, tuple):
        return found(formulas_of(real).losses, key, "a loss of single numbers")
    f, df = (_device_of("loss", function, real, real) for function in key)

    @device
    def loss(param, z, y):
        return real(f(z, y)), real(df(z, y))

    return loss

"""The user's own activations and losses on a GPU: their scalar functions compiled once more, for its threads.

Wherever a kernel is made for a code, a pair (f, df) may stand in its place; `key_of` gives what stands for a record.
Such a kernel is compiled in each process: the disk cache keeps nothing of functions that it does not know.
"""

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


@for_each_real
def activation_of(real, key):
    """(g(alpha, z), g'(alpha, z, a)) of a code, or of the user's f(z) and df(z)."""
    if not isinstance(key, tuple):
        return found(formulas_of(real).activations, key, "an activation of single numbers")
    f, df = (users_device("activation", function, real) for function in key)

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
    f, df = (users_device("loss", function, real, real) for function in key)

    @device
    def loss(param, z, y):
        return real(f(z, y)), real(df(z, y))

    return loss

"""The user's own activations and losses on a GPU: their scalar functions compiled once more, for its threads.

Wherever a kernel is made for a code, a pair (f, df) may stand in its place. Such a kernel is compiled in each process:
the disk cache keeps nothing of functions that it does not know.
"""

from .formulas import formulas_of
from .toolchain import device, for_each_real, users_device


@for_each_real
def activation_of(real, code):
    """(g(param, z), g'(param, z, a)) of a code, or of the user's f(z) and df(z)."""
    if not isinstance(code, tuple):
        return formulas_of(real).activations[code]
    f, df = (users_device("activation", function, real) for function in code)

    @device
    def activate(param, z):
        return real(f(z))

    @device
    def slope(param, z, a):
        return real(df(z))

    return activate, slope


@for_each_real
def loss_of(real, code):
    """f(param, z, y), giving (loss, derivative by z), of a code, or of the user's f(z, y) and df(z, y)."""
    if not isinstance(code, tuple):
        return formulas_of(real).losses[code]
    f, df = (users_device("loss", function, real, real) for function in code)

    @device
    def loss(param, z, y):
        return real(f(z, y)), real(df(z, y))

    return loss

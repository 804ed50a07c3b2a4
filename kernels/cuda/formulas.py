"""The formulas of `kernels.formulas` over the numbers of a GPU thread, by dtype.

The elementary functions are those of libdevice: at most 2 ulp for exp, expm1, log1p, tanh and erf by NVIDIA's manual.
"""

from types import SimpleNamespace

from numpy.typing import DTypeLike

from .. import formulas
from .primitives import erf, exp, expm1, log1p, sqrt, tanh
from .toolchain import device, for_each_real


@device
def _select(condition, a, b):
    return a if condition else b


@for_each_real
def formulas_of(real: DTypeLike) -> SimpleNamespace:
    """The namespace of `kernels.formulas.make` for one dtype, of functions that a kernel of your own can call.

    Parameters
    ----------
    real : dtype
        float32 or float64.

    Returns
    -------
    namespace
        `activations`, `losses` and the rest, as `kernels.formulas.make` gives them.
    """
    one = real(1.0)

    @device
    def like(number, value):
        return real(number)

    @device
    def absolute(x):
        return abs(x)

    @device
    def sigmoid(x):
        return one / (one + exp(-x))

    ops = SimpleNamespace(
        real=real,
        like=like,
        select=_select,
        absolute=absolute,
        sqrt=sqrt,
        exp=exp,
        expm1=expm1,
        log1p=log1p,
        tanh=tanh,
        sigmoid=sigmoid,
        erf=erf,
    )
    return formulas.make(ops, device)

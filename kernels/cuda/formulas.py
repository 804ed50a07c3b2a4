"""The formulas of `kernels.formulas` over the numbers of a GPU thread, by dtype.

The elementary functions are those of libdevice: at most 2 ulp for exp, expm1, log1p, tanh and erf by NVIDIA's manual.
"""

import operator
from types import SimpleNamespace

import numpy as np
from numpy.typing import DTypeLike

from ..formulas import ACTIVATIONS, LOSSES, RULES, made, operations_of
from .primitives import erf, exp, expm1, log1p, ratio, root, sqrt, tanh
from .toolchain import device, for_each_real


@device
def _select(condition, a, b):
    return a if condition else b


def divide_of(real):
    """a / b: in float32 without a branch."""
    return ratio if real is np.float32 else operator.truediv


@for_each_real
def formulas_of(real: DTypeLike) -> SimpleNamespace:
    """The formulas for one dtype, as functions that a kernel of your own can call.

    Parameters
    ----------
    real : dtype
        float32 or float64.

    Returns
    -------
    namespace
        `activations`, `losses` and `rules`: dictionaries from a code to what `kernels.formulas` says of it: (g(alpha,
        z), g'(alpha, z, a)), f(param, z, y), for gaussian f(param, z, v, y), f(theta, grad, first, second, decay, n).
        Softmax and cross_entropy, which look at a whole row, are not among them.
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

    operations = operations_of(
        real=real,
        like=like,
        select=_select,
        absolute=absolute,
        divide=divide_of(real),
        sqrt=root if real is np.float32 else sqrt,
        exp=exp,
        expm1=expm1,
        log1p=log1p,
        tanh=tanh,
        sigmoid=sigmoid,
        erf=erf,
        jit=device,
    )
    tables = dict(activations=ACTIVATIONS, losses=LOSSES, rules=RULES)
    return SimpleNamespace(
        **{name: {r.code: made(r, operations) for r in records if r.make} for name, records in tables.items()}
    )


def found(formulas, code, what):
    """The formula of a code.

    Parameters
    ----------
    formulas : dict
        Of `formulas_of`.
    code : int
        What the caller gave.
    what : str
        Whose code that is.

    Raises
    ------
    ValueError
        If there is none.
    """
    if code not in formulas:
        raise ValueError(f"code must be that of {what}, one of {', '.join(map(str, sorted(formulas)))}; got {code!r}")
    return formulas[code]

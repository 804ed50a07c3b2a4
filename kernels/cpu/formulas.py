"""The formulas of `kernels.formulas` over SIMD vectors."""

from ..compiler import jit
from ..formulas import made, operations_of
from ..options import EXACT
from .simd import absolute, like, select, sqrt
from .vmath import erf, exp, expm1, log1p, sigmoid, tanh

OPERATIONS = operations_of(
    real=float,
    like=like,
    select=select,
    absolute=absolute,
    sqrt=sqrt,
    exp=exp,
    expm1=expm1,
    log1p=log1p,
    tanh=tanh,
    sigmoid=sigmoid,
    erf=erf,
    jit=jit(EXACT),
)


def vector_formula(record):
    """The functions of a record over vectors."""
    return made(record, OPERATIONS)

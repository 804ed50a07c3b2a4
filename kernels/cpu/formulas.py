"""The formulas of `kernels.formulas` over SIMD vectors."""

from types import SimpleNamespace

from .. import formulas
from ..options import EXACT, jit
from .simd import absolute, like, select, sqrt
from .vmath import erf, exp, expm1, log1p, sigmoid, tanh

_OPS = SimpleNamespace(
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
)
VECTOR = formulas.make(_OPS, jit(EXACT))

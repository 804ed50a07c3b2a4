"""Elementary functions of SIMD vectors: straight-line code without branches, tables or calls.

Largest error found, in units in the last place (ulp): over every float32, and over dense and adversarial float64
samples (`docs/vmath.md`). The last two columns are for machines without a fused multiply-add.

    function  float32  float64  no fma: f32  and f64
    exp          0.93     0.93         1.19     1.22
    expm1        1.53     2.03         1.66     2.16
    log          0.88     0.90         0.90     1.00
    log1p        1.46     1.49         1.52     1.54
    tanh         2.57     2.64         2.61     2.60
    sigmoid      2.49     2.50         2.49     2.50
    erf          1.61     1.80         2.13     2.57

- exp: v = n log(2) + r with |r| <= log(2) / 2, e^r a polynomial, then 2^n in two factors, so that results below the
  smallest normal number are rounded once. Adding 1.5 * 2^(bits of the mantissa) rounds v / log(2) to n and leaves n in
  the low bits of the sum: no conversion, and NaN stays NaN.
- expm1: the same reduction, 2^n (e^r - 1) + (2^n - 1).
- tanh: t / (t + 1) with t = expm1(2 |v|) / 2.
- sigmoid: 1 / (1 + e^-v), numerator and denominator scaled so that nothing overflows before the result underflows.
- log: v = 2^k (1 + f) with sqrt(1/2) <= 1 + f <= sqrt(2), k log(2) + log1p(f), the latter a polynomial.
- log1p: k from 1 + v, but f = 2^-k v + (2^-k - 1), which does not see the rounding of 1 + v.
- erf: an odd polynomial near 0; beyond, 1 - p^8 with p a polynomial for the eighth root of erfc.

Infinities, NaN, the sign of zero, overflow and subnormal operands and results are as in IEEE 754's recommended
functions. `docs/vmath_coefficients.py` fits the polynomials.
"""

from functools import cache
from math import inf, nan
from typing import NamedTuple

from .. import coefficients
from ..annotations import Floats
from ..compiler import jit
from ..options import EXACT
from .memory import address_of
from .simd import (
    absolute,
    bits,
    by_dtype,
    copysign,
    fma,
    from_bits,
    horner,
    lanes,
    load_part,
    select,
    store_part,
)

# what `evaluate` computes
EXP, EXPM1, LOG, LOG1P, TANH, SIGMOID, ERF = range(7)

ERF_JOIN = 1.25  # from here on by the eighth root of erfc

LOG_2 = 0.6931471805599453


class _Format(NamedTuple):
    """What depends on the precision."""

    mantissa: int  # stored bits
    bias: int  # of the exponent
    root_half: int  # bits of sqrt(1/2)
    log_2: tuple  # in two parts: the first times any exponent is exact
    exp_domain: tuple  # beyond it exp rounds to 0 or inf
    saturation: float  # beyond it 1 + e^-v rounds to 1, and expm1(-v) to -1
    erf_end: float  # beyond it erf rounds to 1
    expm1: tuple  # coefficients
    log1p: tuple
    erf_near: tuple
    erf_far: tuple

    def shifter(self, bias):
        """Number that, added to a small number, rounds it to an integer n and leaves n + bias in its low bits."""
        return 1.5 * 2.0**self.mantissa + bias


_SINGLE = _Format(
    mantissa=23,
    bias=127,
    root_half=0x3F3504F3,
    log_2=(float.fromhex("0x1.62e4p-1"), 1.4286068e-06),
    exp_domain=(-104.0, 89.0),
    saturation=20.0,
    erf_end=4.0,
    expm1=coefficients.EXPM1_SINGLE,
    log1p=coefficients.LOG1P_SINGLE,
    erf_near=coefficients.ERF_NEAR_SINGLE,
    erf_far=coefficients.ERF_FAR_SINGLE,
)
DOUBLE = _Format(
    mantissa=52,
    bias=1023,
    root_half=0x3FE6A09E667F3BCD,
    log_2=(float.fromhex("0x1.62e42fefa38p-1"), 5.497923018708371e-14),
    exp_domain=(-746.0, 710.0),
    saturation=40.0,
    erf_end=6.0,
    expm1=coefficients.EXPM1_DOUBLE,
    log1p=coefficients.LOG1P_DOUBLE,
    erf_near=coefficients.ERF_NEAR_DOUBLE,
    erf_far=coefficients.ERF_FAR_DOUBLE,
)


def _both(define):
    """The function that `define` makes for each precision, as one."""
    single = define(_SINGLE)
    function = by_dtype(single, define(DOUBLE))
    function.__doc__ = getattr(single, "py_func", single).__doc__
    return function


@jit(EXACT)
def _clamp(v, low, high):
    """Limit v to [low, high]; NaN stays."""
    v = select(v < low, low, v)
    return select(v > high, high, v)


@cache
def _reduction(c, sign=1):
    high, low = (-sign * part for part in c.log_2)
    log2_e = sign / LOG_2

    @jit(EXACT)
    def reduce(v, shifter):
        """Integers with n + bias in their low bits, and r = v - sign n log(2)."""
        t = fma(v, log2_e, shifter)
        n = t - shifter
        return bits(t), fma(n, low, fma(n, high, v))

    return reduce


def _exp(c):
    reduce, tail, mantissa = _reduction(c), c.expm1, c.mantissa
    low, high = c.exp_domain
    shifter = c.shifter(2 * c.bias)

    @jit(EXACT)
    def exp(v):
        """e^v, within 1.3 ulp.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        n, r = reduce(_clamp(v, low, high), shifter)
        p = fma(fma(horner(r, tail), r, 1.0), r, 1.0)
        # 2^n in two factors; the bias is in n twice, so once in each
        half = (n >> 1) << mantissa
        return p * from_bits(half) * from_bits((n << mantissa) - half)

    return exp


def _expm1(c):
    reduce, mantissa = _reduction(c), c.mantissa
    minus_tail = tuple(-a for a in c.expm1)
    low, high = -c.saturation, c.exp_domain[1]
    shifter = c.shifter(c.bias - 1)

    @jit(EXACT)
    def expm1(v):
        """e^v - 1, within 2.3 ulp.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        n, r = reduce(_clamp(v, low, high), shifter)
        # signs are such that -0 comes out as -0
        minus_q = fma(r * r, horner(r, minus_tail), -r)
        # half the result: 2^n itself may overflow
        scale = from_bits(n << mantissa)
        half = fma(-scale, minus_q, -(0.5 - scale))
        return half + half

    return expm1


def _tanh(c):
    mantissa, end = c.mantissa, c.saturation / 2
    # expm1(2 r) / 2 = r + r^2 tail(r)
    tail = tuple(2.0 ** (k + 1) * a for k, a in enumerate(c.expm1))
    shifter, steps, step = c.shifter(c.bias), 2 / LOG_2, -LOG_2 / 2

    @jit(EXACT)
    def tanh(v):
        """Hyperbolic tangent, within 2.7 ulp; at most 1 in size, and odd.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        x = absolute(v)
        x = select(x > end, end, x)
        n = fma(x, steps, shifter)
        # log(2) in one part is enough: where n is large, tanh is flat
        r = fma(n - shifter, step, x)
        q = fma(r * r, horner(r, tail), r)
        scale = from_bits(bits(n) << mantissa)
        t = fma(scale, q, fma(scale, 0.5, -0.5))
        return copysign(t / (t + 1.0), v)

    return tanh


def _sigmoid(c):
    # n counts -v, which costs no negation; the polynomial is that of e^-r
    reduce, mantissa = _reduction(c, sign=-1), c.mantissa
    tail = tuple((-1) ** k * a for k, a in enumerate(c.expm1))
    low, high = c.exp_domain[0], c.saturation
    # e^-v reaches 2^(2 middle)
    middle = round(-low / LOG_2 / 2)
    unit, shifter = 2.0**-middle, c.shifter(c.bias - middle)

    @jit(EXACT)
    def sigmoid(v):
        """1 / (1 + e^-v), within 2.6 ulp.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        n, r = reduce(_clamp(v, low, high), shifter)
        p = fma(fma(horner(r, tail), r, -1.0), r, 1.0)
        return unit / fma(p, from_bits(n << mantissa), unit)

    return sigmoid


@cache
def _logarithm(c):
    high, low = (-part for part in c.log_2)
    tail, mantissa = c.log1p, c.mantissa
    field = 4 * c.bias + 3  # exponent and sign: without the sign, the shift would not be one instruction everywhere
    integer = (c.bias + mantissa) << mantissa  # bits of 2^mantissa, whose low bits count ones

    @jit(EXACT)
    def logarithm(v, i, zero, f):
        """log(v) for v = 2^k (1 + f), with k + zero - 2^mantissa in the exponent of i."""
        # -k and the negated log(2) give k = 0 a term of -0, which keeps the sign of f
        minus_k = zero - from_bits(((i >> mantissa) & field) | integer)
        y = fma(f * f, horner(f, tail), minus_k * low) + f
        y = fma(minus_k, high, y)
        y = select(v == inf, inf, y)
        y = select(v == 0.0, -inf, y)
        return select(v >= 0.0, y, nan)

    return logarithm


def _log(c):
    logarithm, mantissa, root_half = _logarithm(c), c.mantissa, c.root_half
    fraction = (1 << mantissa) - 1
    smallest_normal = 2.0 ** (1 - c.bias)
    lift = mantissa + 2
    lifting = 2.0**lift
    # exponents are counted from -lift, so that they stay positive for subnormal v
    zero = 2.0**mantissa + c.bias + lift
    lifted = (c.bias << mantissa) - root_half
    plain = lifted + (lift << mantissa)

    @jit(EXACT)
    def log(v):
        """Natural logarithm, within 1.1 ulp.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        i = select(v < smallest_normal, bits(v * lifting) + lifted, bits(v) + plain)
        f = from_bits((i & fraction) + root_half) - 1.0
        return logarithm(v, i, zero, f)

    return log


def _log1p(c):
    logarithm, mantissa = _logarithm(c), c.mantissa
    one = c.bias << mantissa
    offset = one - c.root_half
    zero = 2.0**mantissa + c.bias
    exponent = -(1 << mantissa)
    reciprocal = 2 * one + (2 << mantissa)

    @jit(EXACT)
    def log1p(v):
        """log(1 + v), within 1.6 ulp.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        u = v + 1.0
        i = bits(u) + offset
        # 2^-k by way of 2^(2 - k): below the smallest normal number no exponent stands for it
        scale = from_bits(reciprocal - (i & exponent)) * 0.25
        f = fma(v, scale, -(1.0 - scale))
        return logarithm(u, i, zero, f)

    return log1p


def _erf(c):
    near, far, end = c.erf_near, c.erf_far, c.erf_end

    @jit(EXACT)
    def erf(v):
        """Error function, within 2.7 ulp; at most 1 in size, and odd.

        Parameters
        ----------
        v : Vector of float32 or float64

        Returns
        -------
        Vector of the same type
        """
        x = absolute(v)
        root = horner(select(x > end, end, x), far)
        square = root * root
        fourth = square * square
        far_value = copysign(1.0 - fourth * fourth, v)
        return select(x < ERF_JOIN, fma(v, horner(v * v, near), v), far_value)

    return erf


exp = _both(_exp)
expm1 = _both(_expm1)
log = _both(_log)
log1p = _both(_log1p)
tanh = _both(_tanh)
sigmoid = _both(_sigmoid)
erf = _both(_erf)


def _over(function):
    @jit(EXACT)
    def run(x, out, n):
        for i in range(0, n, lanes(x)):
            store_part(out + i, function(load_part(x + i, n - i)), n - i)

    return run


_exp_over, _expm1_over, _log_over, _log1p_over = _over(exp), _over(expm1), _over(log), _over(log1p)
_tanh_over, _sigmoid_over, _erf_over = _over(tanh), _over(sigmoid), _over(erf)


@jit(EXACT, public=True)
def evaluate(code: int, x: Floats, out: Floats) -> None:
    """out[i] = f(x[i]) for the function f that `code` names; any other code leaves out as it is.

    Parameters
    ----------
    code : int
        EXP, EXPM1, LOG, LOG1P, TANH, SIGMOID or ERF of this module.
    x : array (n,), float32 or float64, contiguous
        Arguments.
    out : array (n,), contiguous, dtype of x
        Values; may be x.
    """
    source, target, n = address_of(x), address_of(out), x.size
    if code == EXP:
        _exp_over(source, target, n)
    elif code == EXPM1:
        _expm1_over(source, target, n)
    elif code == LOG:
        _log_over(source, target, n)
    elif code == LOG1P:
        _log1p_over(source, target, n)
    elif code == TANH:
        _tanh_over(source, target, n)
    elif code == SIGMOID:
        _sigmoid_over(source, target, n)
    elif code == ERF:
        _erf_over(source, target, n)

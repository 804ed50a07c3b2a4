"""Elementary functions of SIMD vectors: straight-line code without branches, tables or calls."""

from functools import cache
from math import inf, log, nan
from typing import NamedTuple

from ..options import EXACT, jit
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
    load_strided,
    select,
    store_strided,
)

EXP, EXPM1, LOG, LOG1P, TANH, SIGMOID, ERF = range(7)

EXPM1_SINGLE = (
    0.49999997,
    0.16666546,
    0.041667446,
    0.008366249,
    0.0013869691,
)
EXPM1_DOUBLE = (
    0.5000000000000006,
    0.1666666666666665,
    0.041666666666576264,
    0.008333333333360006,
    0.0013888888931380275,
    0.00019841269770679896,
    2.4801505633785898e-05,
    2.7557369081607548e-06,
    2.762587565224168e-07,
    2.506415287591741e-08,
)
LOG1P_SINGLE = (
    -0.49999988,
    0.33333325,
    -0.2500161,
    0.20002005,
    -0.16608411,
    0.14180854,
    -0.13248064,
    0.12912916,
    -0.076190166,
)
LOG1P_DOUBLE = (
    -0.5000000000000003,
    0.33333333333333043,
    -0.24999999999976436,
    0.20000000000082752,
    -0.16666666671183805,
    0.1428571427969933,
    -0.12499999614070696,
    0.11111111103157807,
    -0.10000017641865346,
    0.09090927092795746,
    -0.08332869416694269,
    0.07691443066049596,
    -0.07149884025522604,
    0.06685795101565258,
    -0.06194615330303571,
    0.05659950599555301,
    -0.05678041847236336,
    0.06526806216108896,
    -0.06003639683519617,
    0.026172295584940577,
)
ERF_NEAR_SINGLE = (
    0.12837917,
    -0.3761263,
    0.112836584,
    -0.0268595,
    0.005207503,
    -0.00083242665,
    0.00010318266,
    -7.4276754e-06,
)
ERF_FAR_SINGLE = (
    1.0014967,
    -0.14741902,
    -0.05798145,
    -0.014011626,
    0.01404192,
    -0.0027168468,
    0.00017220591,
)
ERF_NEAR_DOUBLE = (
    0.12837916709551256,
    -0.37612638903183476,
    0.1128379167094686,
    -0.026866170644150755,
    0.0052239776193265,
    -0.0008548326792936149,
    0.00012055327293112541,
    -1.4925553802207316e-05,
    1.6460952459743554e-06,
    -1.6355762855892873e-07,
    1.4743732098165148e-08,
    -1.2002032867206268e-09,
    8.490171630483296e-11,
    -4.6317341231275204e-12,
    1.412144286608274e-13,
)
ERF_FAR_DOUBLE = (
    0.9999978572950452,
    -0.1410317871931949,
    -0.06968365120084533,
    -0.001976242653259701,
    0.006424547321046665,
    0.00036121854645414036,
    -0.0006507210186855645,
    0.00016977768134358244,
    -3.9211602073155404e-05,
    1.012148405419752e-05,
    -1.9211417719571986e-06,
    2.09072380546007e-07,
    -8.77578542626292e-09,
    -5.485766017243396e-10,
    7.912497000289937e-11,
    -2.7060635754540987e-12,
)


class _Format(NamedTuple):
    """What depends on the precision."""

    mantissa: int  # stored bits of the mantissa
    bias: int  # of the exponent
    ln2_high: float  # times any exponent it is exact
    ln2_low: float
    exp_range: tuple  # beyond it exp is 0 or inf
    saturation: float  # beyond it expm1(-v) is -1, sigmoid is 1 and tanh(v / 2) is 1
    root_half: int  # bits of sqrt(1/2)
    expm1: tuple
    log1p: tuple
    erf_near: tuple
    erf_far: tuple
    erf_join: float
    erf_end: float  # beyond it erf is 1

    @property
    def shifter(self):
        """Adding it rounds to an integer, which then stands in the low bits."""
        return 1.5 * 2.0**self.mantissa


_SINGLE = _Format(
    mantissa=23,
    bias=127,
    ln2_high=float.fromhex("0x1.62e4p-1"),
    ln2_low=1.4286068e-06,
    exp_range=(-104.0, 89.0),
    saturation=20.0,
    root_half=0x3F3504F3,
    expm1=EXPM1_SINGLE,
    log1p=LOG1P_SINGLE,
    erf_near=ERF_NEAR_SINGLE,
    erf_far=ERF_FAR_SINGLE,
    erf_join=1.25,
    erf_end=4.0,
)
_DOUBLE = _Format(
    mantissa=52,
    bias=1023,
    ln2_high=float.fromhex("0x1.62e42fefa38p-1"),
    ln2_low=5.497923018708371e-14,
    exp_range=(-746.0, 710.0),
    saturation=40.0,
    root_half=0x3FE6A09E667F3BCD,
    expm1=EXPM1_DOUBLE,
    log1p=LOG1P_DOUBLE,
    erf_near=ERF_NEAR_DOUBLE,
    erf_far=ERF_FAR_DOUBLE,
    erf_join=1.5,
    erf_end=6.0,
)

LN2 = log(2)


def _both(define):
    chosen = by_dtype(define(_SINGLE), define(_DOUBLE))
    chosen.__doc__ = define.__doc__
    return chosen


@jit(EXACT)
def _clamp(v, low, high):
    """V within [low, high]; NaN stays."""
    v = select(v < low, low, v)
    return select(v > high, high, v)


@cache
def _reduction(c):
    high, low = -c.ln2_high, -c.ln2_low

    @jit(EXACT)
    def reduce(v, shifter):
        t = fma(v, 1.4426950408889634, shifter)
        n = t - shifter
        return bits(t), fma(n, low, fma(n, high, v))

    return reduce


@_both
def exp(c):
    """e^v."""
    reduce, coefficients, mantissa = _reduction(c), c.expm1, c.mantissa
    low, high = c.exp_range
    shifter = c.shifter + 2 * c.bias

    @jit(EXACT)
    def exp(v):
        t, r = reduce(_clamp(v, low, high), shifter)
        p = fma(fma(horner(r, coefficients), r, 1.0), r, 1.0)
        half = (t >> 1) << mantissa
        return p * from_bits(half) * from_bits((t << mantissa) - half)

    return exp


@_both
def expm1(c):
    """e^v - 1."""
    reduce, mantissa = _reduction(c), c.mantissa
    coefficients = tuple(-a for a in c.expm1)
    low, high = -c.saturation, c.exp_range[1]
    shifter = c.shifter + c.bias - 1

    @jit(EXACT)
    def expm1(v):
        t, r = reduce(_clamp(v, low, high), shifter)
        q = fma(r * r, horner(r, coefficients), -r)
        s = from_bits(t << mantissa)
        half = fma(-s, q, -(0.5 - s))
        return half + half

    return expm1


@_both
def sigmoid(c):
    reduce, mantissa = _reduction(c), c.mantissa
    low, high = -c.saturation, -c.exp_range[0]
    shift = 75 if mantissa == 23 else 538
    unit = 2.0**-shift
    coefficients = tuple((-1) ** k * unit * a for k, a in enumerate(c.expm1))
    shifter = c.shifter + c.bias - shift

    @jit(EXACT)
    def sigmoid(v):
        t, r = reduce(_clamp(-v, low, high), shifter)
        p = fma(fma(horner(r, coefficients), r, -unit), r, unit)
        return p / (p + from_bits(t << mantissa))

    return sigmoid


@_both
def tanh(c):
    coefficients, mantissa = tuple(2.0 ** (k + 1) * a for k, a in enumerate(c.expm1)), c.mantissa
    end = c.saturation / 2
    shifter = c.shifter + c.bias
    scale = 2 / LN2
    step = -LN2 / 2

    @jit(EXACT)
    def tanh(v):
        x = absolute(v)
        x = select(x > end, end, x)
        t = fma(x, scale, shifter)
        r = fma(t - shifter, step, x)
        q = fma(r * r, horner(r, coefficients), r)
        s = from_bits(bits(t) << mantissa)
        half = fma(s, q, fma(s, 0.5, -0.5))
        return copysign(half / (half + 1.0), v)

    return tanh


@cache
def _logarithm(c):
    coefficients = c.log1p
    high, low = -c.ln2_high, -c.ln2_low

    @jit(EXACT)
    def logarithm(v, minus_k, f):
        y = fma(f * f, horner(f, coefficients), minus_k * low) + f
        y = fma(minus_k, high, y)
        y = select(v == inf, inf, y)
        y = select(v == 0.0, -inf, y)
        return select(v >= 0.0, y, nan)

    return logarithm


@_both
def log(c):
    logarithm = _logarithm(c)
    mantissa, root_half = c.mantissa, c.root_half
    tiny, lift = 2.0 ** (1 - c.bias), mantissa + 2
    large = 2.0**lift
    offset = (c.bias << mantissa) - root_half + (lift << mantissa)
    lifted = offset - (lift << mantissa)
    fraction = (1 << mantissa) - 1
    exponent = 2 * c.bias + 257 if mantissa == 23 else 4095
    exponent = (1 << (9 if mantissa == 23 else 12)) - 1
    integer = (c.bias + mantissa) << mantissa
    zero = 2.0**mantissa + c.bias + lift

    @jit(EXACT)
    def log(v):
        i = select(v < tiny, bits(v * large) + lifted, bits(v) + offset)
        f = from_bits((i & fraction) + root_half) - 1.0
        minus_k = zero - from_bits(((i >> mantissa) & exponent) | integer)
        return logarithm(v, minus_k, f)

    return log


@_both
def log1p(c):
    logarithm = _logarithm(c)
    mantissa, root_half = c.mantissa, c.root_half
    one = c.bias << mantissa
    offset = one - root_half
    exponent = (2 << (62 - mantissa if mantissa == 52 else 31 - mantissa)) - 1
    high = exponent << mantissa
    integer = (c.bias + mantissa) << mantissa
    zero = 2.0**mantissa + c.bias
    four = 2 * one + (2 << mantissa)
    if mantissa == 52:
        exponent = 0xFFF
        high = 0xFFF << 52
        high -= 1 << 64
    else:
        exponent = 0x1FF
        high = 0x1FF << 23
        high -= 1 << 32

    @jit(EXACT)
    def log1p(v):
        u = v + 1.0
        i = bits(u) + offset
        minus_k = zero - from_bits(((i >> mantissa) & exponent) | integer)
        s = from_bits(four - (i & high)) * 0.25
        f = fma(v, s, -(1.0 - s))
        return logarithm(u, minus_k, f)

    return log1p


@_both
def erf(c):
    near, far, join, end = c.erf_near, c.erf_far, c.erf_join, c.erf_end

    @jit(EXACT)
    def erf(v):
        x = absolute(v)
        p = horner(select(x > end, end, x), far)
        p = p * p
        p = p * p
        return select(x < join, fma(v, horner(v * v, near), v), copysign(1.0 - p * p, v))

    return erf


def _over(function):
    @jit(EXACT)
    def run(x, out, n):
        for i in range(0, n, lanes(x)):
            v = function(load_strided(x + i, 1, n - i))
            store_strided(out + i, 1, v, n - i)

    return run


_exp_over, _expm1_over, _log_over, _log1p_over, _tanh_over, _sigmoid_over, _erf_over = (
    _over(f) for f in (exp, expm1, log, log1p, tanh, sigmoid, erf)
)


@jit(EXACT, public=True)
def evaluate(code, x, out):
    p, q, n = address_of(x), address_of(out), x.size
    if code == EXP:
        _exp_over(p, q, n)
    elif code == EXPM1:
        _expm1_over(p, q, n)
    elif code == LOG:
        _log_over(p, q, n)
    elif code == LOG1P:
        _log1p_over(p, q, n)
    elif code == TANH:
        _tanh_over(p, q, n)
    elif code == SIGMOID:
        _sigmoid_over(p, q, n)
    elif code == ERF:
        _erf_over(p, q, n)

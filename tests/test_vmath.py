"""Elementary functions: errors in ulp of the exact value, and every special case.

float32 is judged by the C library's functions in float64, float64 by mpmath.
"""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from arrays import blank, normal
from mpmath import mp
from numba import njit

from fastnn.kernels.cpu import memory, simd, vmath
from fastnn.kernels.cpu.vmath import ERF, EXP, EXPM1, LOG, LOG1P, SIGMOID, TANH, evaluate
from fastnn.kernels.options import FAST, is_x86

# as stated in the docstrings
BOUND = {EXP: 1.3, EXPM1: 2.3, LOG: 1.1, LOG1P: 1.6, TANH: 2.7, SIGMOID: 2.6, ERF: 2.7}
NAMES = {EXP: "exp", EXPM1: "expm1", LOG: "log", LOG1P: "log1p", TANH: "tanh", SIGMOID: "sigmoid", ERF: "erf"}
EVERY = pytest.mark.parametrize("code", [pytest.param(code, id=name) for code, name in NAMES.items()])
PATTERNS, BLOCK = 1 << 32, 1 << 20
INF, NAN = math.inf, math.nan
PRECISION = 200  # bits of the reference for float64

SPECIAL = {
    EXP: [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, INF), (-1e4, 0.0)],
    EXPM1: [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (NAN, NAN), (1e4, INF), (-1e4, -1.0)],
    LOG: [(1.0, 0.0), (0.0, -INF), (-0.0, -INF), (INF, INF), (-INF, NAN), (-1.0, NAN), (-1e-40, NAN), (NAN, NAN)],
    LOG1P: [(0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (INF, INF), (-INF, NAN), (-1.5, NAN), (NAN, NAN)],
    TANH: [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (30.0, 1.0), (-30.0, -1.0)],
    SIGMOID: [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (60.0, 1.0), (-1e4, 0.0)],
    ERF: [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (8.0, 1.0), (-8.0, -1.0)],
}
EXACT_VALUE = {
    EXP: mp.exp,
    EXPM1: mp.expm1,
    LOG: mp.log,
    LOG1P: mp.log1p,
    TANH: mp.tanh,
    SIGMOID: lambda v: 1 / (1 + mp.exp(-v)),
    ERF: mp.erf,
}


def values(code, x):
    out = np.full_like(x, NAN)
    evaluate(code, x, out)
    return out


@njit
def reference(code, x):
    """In float64; the error, some 1e-16, is nothing beside an ulp of float32."""
    if code == EXP:
        return math.exp(x)
    if code == EXPM1:
        return math.expm1(x)
    if code == LOG:
        return math.log(x)
    if code == LOG1P:
        return math.log1p(x)
    if code == TANH:
        return math.tanh(x)
    if code == SIGMOID:
        return 1.0 / (1.0 + math.exp(-x))
    return math.erf(x)


@njit
def largest_error(code, x, y):
    """Largest error of y = f(x) in ulp of float32, and where; inf where NaN or the sign of a zero is wrong."""
    limit, largest, at = 2.0**128, 0.0, 0
    for i in range(x.size):
        expected, actual = reference(code, np.float64(x[i])), np.float64(y[i])
        if math.isnan(expected) and math.isnan(actual):
            continue
        wrong_zero = actual == 0.0 and math.copysign(1.0, actual) != math.copysign(1.0, expected)
        if wrong_zero or math.isnan(expected) or math.isnan(actual):
            return math.inf, i
        # overflow counts as the number that would follow the largest
        expected, actual = min(max(expected, -limit), limit), min(max(actual, -limit), limit)
        exponent = max(math.frexp(expected)[1], -125)
        error = abs(actual - expected) * 2.0 ** (24 - exponent)
        if error > largest:
            largest, at = error, i
    return largest, at


def assert_within(code, x, y):
    error, at = largest_error(code, x, y)
    assert error <= BOUND[code], f"{NAMES[code]}({x[at]!r}) = {y[at]!r}: {error} ulp"


def sample_single():
    """Some two million patterns: every exponent's ends with their neighbours, the rest spread evenly."""
    ends = np.arange(512, dtype=np.uint32) << 23
    near = (ends[:, None] + np.arange(-500, 500, dtype=np.int32).astype(np.uint32)).ravel()
    spread = np.arange(1_500_000, dtype=np.uint64) * 2863 + 11  # an odd step: every mantissa bit varies
    return np.concatenate([near, spread.astype(np.uint32)]).view(np.float32)


@EVERY
def test_float32(code):
    x = sample_single()
    assert_within(code, x, values(code, x))


@pytest.mark.slow
@EVERY
def test_every_float32(code):
    for start in range(0, PATTERNS, BLOCK):
        x = (np.arange(BLOCK, dtype=np.uint32) + np.uint32(start)).view(np.float32)
        assert_within(code, x, values(code, x))


def sample_double(code):
    """Where range reductions, joins, rounding to 1, overflow and underflow are hard; and spread over the scales."""
    random = np.random.RandomState(code)
    half_steps = np.arange(-2160, 2060, 7) * 0.5 * math.log(2)
    split = np.sqrt(0.5) * 2.0 ** np.arange(-1021, 1024, 11)
    edges = np.array([0.25, 0.5, 1.0, 1.25, 2.0, 4.0, 6.0, 10.0, 20.0, 36.7, 40.0, 708.4, 709.78271289338, 745.1332])
    x = np.concatenate([half_steps, split, split - 1.0, edges, -edges])
    x = np.concatenate([x, np.nextafter(x, INF), np.nextafter(x, -INF)])
    for scale in (1e-320, 1e-310, 1e-300, 1e-17, 1e-8, 1e-3, 0.1, 0.5, 1.0, 3.0, 10.0, 100.0, 750.0, 1e300):
        x = np.append(x, random.uniform(-scale, scale, 150))
    near_one = 1.0 + random.uniform(-1.0, 1.0, 500) * 2.0 ** random.uniform(-52, 0, 500)
    x = np.concatenate([x, near_one, near_one - 1.0, -near_one])
    if code == LOG:
        return x[x > 0]
    return x[x > -1] if code == LOG1P else x


@EVERY
def test_float64(code):
    x = sample_double(code)
    with mp.workprec(PRECISION):
        for argument, actual in zip(x.tolist(), values(code, x).tolist(), strict=True):
            expected = EXACT_VALUE[code](mp.mpf(argument))
            exponent = max(mp.frexp(expected)[1], -1021)
            limit = mp.mpf(2) ** 1024
            error = abs(min(mp.mpf(actual), limit) - min(expected, limit)) * mp.mpf(2) ** (53 - exponent)
            assert error <= BOUND[code], f"{NAMES[code]}({argument!r}) = {actual!r}: {float(error)} ulp"


@EVERY
def test_special_values_are_exact(code, dtype):
    x, expected = np.array(SPECIAL[code], dtype=dtype).T.copy()
    actual = values(code, x)
    np.testing.assert_array_equal(actual, expected)
    known = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("code", [TANH, ERF])
def test_odd_functions_are_odd_and_stay_within_one(code, dtype):
    x = normal(1, 10_000, scale=10.0, dtype=dtype)
    y = values(code, x)
    np.testing.assert_array_equal(values(code, -x), -y)
    assert np.abs(y).max() == 1.0


@pytest.mark.parametrize("n", [0, 1, 3, 8, 16, 17, 33])
def test_evaluate_owns_its_edges(n, dtype):
    x, out = normal(n, n, dtype=dtype), blank((n,), dtype)
    evaluate(TANH, x, out.array)
    out.assert_guarded()
    np.testing.assert_array_equal(out.array, values(TANH, np.append(x, np.ones(16, dtype)))[:n])


@njit(fastmath=set(FAST))
def all_inlined(x, out):
    """Row `code` of out: that function of x, inside a function whose own arithmetic may be reordered."""
    source, n = memory.address_of(x), x.size
    target = memory.address_of(out)
    for i in range(0, n, simd.lanes(source)):
        v = simd.load_part(source + i, n - i)
        simd.store_part(target + (EXP * n + i), vmath.exp(v), n - i)
        simd.store_part(target + (EXPM1 * n + i), vmath.expm1(v), n - i)
        simd.store_part(target + (LOG * n + i), vmath.log(v), n - i)
        simd.store_part(target + (LOG1P * n + i), vmath.log1p(v), n - i)
        simd.store_part(target + (TANH * n + i), vmath.tanh(v), n - i)
        simd.store_part(target + (SIGMOID * n + i), vmath.sigmoid(v), n - i)
        simd.store_part(target + (ERF * n + i), vmath.erf(v), n - i)


def test_errors_survive_in_fast_functions():
    x = sample_single()[::7].copy()
    out = np.full((len(NAMES), x.size), NAN, dtype=np.float32)
    all_inlined(x, out)
    for code in NAMES:
        assert_within(code, x, out[code])


@pytest.mark.slow
@pytest.mark.skipif(not is_x86(), reason="other processors have a fused multiply-add")
def test_without_fused_multiply_add():
    environment = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "+sse2"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_coefficients_are_those_that_the_script_fits():
    root = Path(__file__).parents[1]
    script = root / "docs" / "vmath_coefficients.py"
    printed = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert printed == (root / "kernels" / "coefficients.py").read_text(encoding="utf-8")

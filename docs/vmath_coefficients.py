"""Fit the polynomials of kernels/cpu/vmath.py; prints kernels/coefficients.py.

    python docs/vmath_coefficients.py > kernels/coefficients.py

Each list minimises the largest weighted error on its interval (Remez exchange, 220 bits). The coefficients are then
rounded one after the other, lowest power first, and the higher ones fitted again around what is already rounded.
"""

import numpy as np
from mpmath import mp

mp.prec = 220
POINTS = 1500  # of the grid that stands for the interval
SINGLE, DOUBLE = (np.float32, 24), (np.float64, 53)


def grid_on(low, high):
    """Chebyshev points of the interval, never 0."""
    angles = [mp.pi * (i + mp.mpf(0.5)) / POINTS for i in range(POINTS)]
    return np.array([(low + high) / 2 - (high - low) / 2 * mp.cos(a) for a in angles])


def value(coefficients, x):
    """The polynomial with its lowest power first."""
    return np.polyval(coefficients[::-1], x)


def extrema(error, count):
    """Indices of `count` alternating extrema of the error, or None where it has fewer."""
    runs = [0] + [i for i in range(1, len(error)) if error[i] * error[i - 1] < 0] + [len(error)]
    peaks = [max(range(a, b), key=lambda i: abs(error[i])) for a, b in zip(runs, runs[1:], strict=False)]
    height = [abs(error[i]) for i in peaks]
    while len(peaks) > count:
        ends = (0, len(peaks) - 1)
        low = min(ends if len(peaks) == count + 1 else range(len(peaks)), key=height.__getitem__)
        if low not in ends:  # a neighbour goes with it, so that the signs still alternate
            low -= height[low - 1] < height[low + 1]
            del peaks[low], height[low]
        del peaks[low], height[low]
    return peaks if len(peaks) == count else None


def remez(x, f, weight, degree):
    """Coefficients of the polynomial p that minimises max weight |f - p| on the grid x."""
    count = degree + 2
    chosen = [round((i + 0.5) * (len(x) - 1) / count) for i in range(count)]
    best, least = None, mp.inf
    for _ in range(30):
        rows = [[*(x[i] ** j for j in range(degree + 1)), (-1) ** k / weight[i]] for k, i in enumerate(chosen)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f[i] for i in chosen]))
        c = list(solution)[: degree + 1]
        error = weight * (f - value(c, x))
        worst = max(abs(error))
        if worst < least:
            best, least = c, worst
        chosen = extrema(error, count)
        if chosen is None or worst < mp.mpf("1.001") * min(abs(error[i]) for i in chosen):
            break
    return best


def rounded_fit(precision, degree, interval, target, weight):
    """Coefficients in the given precision, and their largest weighted error in units of half an ulp of 1."""
    number, digits = precision
    x = grid_on(*(mp.mpf(end) for end in interval))
    f, w = np.array([target(v) for v in x]), np.array([weight(v) for v in x])
    done = []
    for j in range(degree + 1):
        # what is left to fit is x^j times a polynomial
        done.append(number(float(remez(x, f / x**j, w * abs(x) ** j, degree - j)[0])))
        f = f - mp.mpf(float(done[-1])) * x**j
    return done, float(max(w * abs(f)) * 2**digits)


def show(name, precision, degree, interval, target, weight):
    """Print one list."""
    coefficients, error = rounded_fit(precision, degree, interval, target, weight)
    print(f"{name} = (  # {error:.3f}")
    for c in coefficients:
        print(f"    {str(c)},")
    print(")", flush=True)


def expm1_tail(r):
    """(expm1(r) - r) / r^2."""
    return (mp.expm1(r) - r) / r**2


def log1p_tail(f):
    """(log1p(f) - f) / f^2."""
    return (mp.log1p(f) - f) / f**2


def erf_near(z):
    """erf(x) / x - 1 at x^2 = z."""
    return mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1


def erfc_root(x):
    """erfc(x)^(1/8)."""
    return mp.erfc(x) ** mp.mpf(0.125)


def relative(whole, part):
    """Weight that turns the error of a factor of `part` into a relative error of `whole`."""
    return lambda v: abs(part(v) / whole(v))


def print_exponential(name, precision, degree, slack):
    """expm1(r) = r + r^2 P(r) for |r| <= log(2) / 2, a little more for the rounding of the reduction."""
    half = mp.log(2) / 2 + slack
    show(name, precision, degree, (-half, half), expm1_tail, relative(mp.expm1, lambda r: r**2))


def print_logarithm(name, precision, degree, slack):
    """log1p(f) = f + f^2 P(f) for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    ends = (mp.sqrt(0.5) - 1 - slack, mp.sqrt(2) - 1 + slack)
    show(name, precision, degree, ends, log1p_tail, relative(mp.log1p, lambda f: f**2))


def print_error_function(name, precision, degrees, join, end):
    """erf(x) = x + x P(x^2) below `join`, 1 - P(x)^8 from there to `end`."""
    share = relative(lambda z: mp.erf(mp.sqrt(z)), mp.sqrt)
    show(f"ERF_NEAR_{name}", precision, degrees[0], (0, join**2), erf_near, share)
    far = (join, end)
    show(f"ERF_FAR_{name}", precision, degrees[1], far, erfc_root, lambda x: 8 * erfc_root(x) ** 7)


HEADER = '''"""Coefficients of the polynomials in `cpu/vmath.py`, as printed by docs/vmath_coefficients.py.

Lowest power first; behind each name the largest weighted error, in half a unit in the last place of 1.
"""
'''

if __name__ == "__main__":
    print(HEADER)
    print_exponential("EXPM1_SINGLE", SINGLE, 4, mp.mpf("1e-5"))
    print_exponential("EXPM1_DOUBLE", DOUBLE, 9, mp.mpf("1e-12"))
    print_logarithm("LOG1P_SINGLE", SINGLE, 8, mp.mpf("1e-6"))
    print_logarithm("LOG1P_DOUBLE", DOUBLE, 19, mp.mpf("1e-12"))
    print_error_function("SINGLE", SINGLE, (7, 6), 1.25, 4.0)
    print_error_function("DOUBLE", DOUBLE, (13, 16), 1.25, 6.0)

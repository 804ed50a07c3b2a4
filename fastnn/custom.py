"""The user's own activations and losses: pairs of @njit functions, a value and its derivative, checked when given."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba.extending import is_jitted

from . import backends
from .errors import described, must_be

Pair = tuple[Callable[..., Any], Callable[..., Any]]

_STEP = 1e-5  # of the central differences: their error is then near 1e-10
_TOLERANCE = 1e-4
_LEAST = 5  # points at which a function must be finite


def check_activation(pair):
    """Refuse what is not (f, df), @njit functions of one number with df the derivative of f."""
    _check_functions("activation", pair, "(f, df), two @njit functions of one number")
    points = np.random.default_rng(0).uniform(-4.0, 4.0, 64)
    _check_derivative("activation", *pair, [(z,) for z in points])


def check_loss(pair, activation):
    """Refuse what is not (f, df), @njit functions of (prediction, target) with df the derivative by the prediction.

    `activation` is the last layer's: it says where predictions lie.
    """
    _check_functions("loss", pair, "(f, df), two @njit functions of (prediction, target)")
    rng = np.random.default_rng(0)
    low, high = backends.activation(activation).outputs
    predictions, targets = rng.uniform(low, high, 64), rng.uniform(low, high, 64)
    targets[::4], targets[1::4] = 0.0, 1.0  # labels
    _check_derivative("loss", *pair, list(zip(predictions, targets, strict=True)))


def named(function):
    """A name, or the names of a pair, for people."""
    if isinstance(function, str):
        return function
    return f"({', '.join(getattr(f, '__name__', repr(f)) for f in function)})"


def shown(function):
    """`named`, a name in quotes."""
    return repr(function) if isinstance(function, str) else named(function)


def _check_functions(name, pair, accepted):
    compiled = is_jitted if backends.COMPILED else callable
    if not isinstance(pair, tuple) or len(pair) != 2 or not all(map(compiled, pair)):
        raise must_be(name, accepted, pair, TypeError)


def _check_derivative(name, f, df, points):
    """Compare df with central differences of f by its first argument, wherever f is finite."""
    backends.uninterrupted(lambda: [_value(name, function, *points[0]) for function in (f, df)])  # compiles them
    compared = 0
    for first, *rest in points:
        step = _STEP * max(1.0, abs(first))
        values = [_value(name, f, first + step, *rest), _value(name, f, first - step, *rest)]
        if not np.isfinite(values).all():
            continue
        compared += 1
        slope, difference = _value(name, df, first, *rest), (values[0] - values[1]) / (2 * step)
        if not abs(slope - difference) <= _TOLERANCE * (1.0 + abs(difference)):
            at = ", ".join(f"{value:.6g}" for value in (first, *rest))
            wrong = f"df({at}) = {slope:.6g} where central differences of f give {difference:.6g}"
            raise must_be(name, "(f, df) with df the derivative of f by its first argument", described(wrong))
    if compared < _LEAST:
        raise must_be(
            name, "(f, df) with f finite", described(f"an f that is finite at {compared} of {len(points)} points")
        )


def _value(name, function, *args):
    """What a function gives as a float, NaN where it has no value."""
    try:
        with np.errstate(all="ignore"):
            return float(function(*args))
    except (ArithmeticError, ValueError):  # as math.log(-1) raises
        return float("nan")
    except TypeError as error:
        given = described(f"{getattr(function, '__name__', function)}: {error}")
        raise must_be(name, "functions of floats that give a float", given, TypeError) from None

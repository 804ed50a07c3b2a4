"""Inputs and regression targets scaled to mean 0 and standard deviation 1, as part of a net."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import validation
from .errors import must_be

_BLOCK = 1 << 16  # elements read at a time


class Standardization(NamedTuple):
    """What a net with `standardize=True` learned from its first training data.

    Parameters
    ----------
    mean, std : array (n_features,), float64
        Of each feature; std is 1 where a feature is constant.
    target_mean, target_std : array (n_out,), float64
        Of each target of a regression whose last layer is linear; elsewhere 0 and 1.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    target_std: NDArray[np.float64]


def learn(X, y, outputs, rows=None):
    """The Standardization of data.

    Parameters
    ----------
    X : array (m, n)
        Samples.
    y : array (m,) or (m, outputs), or None
        Targets; None where they stay as they are.
    outputs : int
        Of the net.
    rows : array of int64, optional
        Numbers of the rows that count; None for all.

    Returns
    -------
    Standardization
        Of these rows.
    """
    target = (np.zeros(outputs), np.ones(outputs)) if y is None else _moments(y.reshape(len(y), -1), rows)
    return Standardization(*_moments(X, rows), *target)


def checked(value, n_features, outputs):
    """A Standardization that suits a net, in arrays of its own that cannot be written to."""
    if not isinstance(value, Standardization):
        raise must_be("standardization", "a fastnn.Standardization", value, TypeError)
    sizes, found = (n_features, n_features, outputs, outputs), []
    for name, array, size in zip(Standardization._fields, value, sizes, strict=True):
        array = validation.numeric_array(f"standardization.{name}", array, (size,), np.float64)
        if name.endswith("std") and not (array > 0).all():
            raise must_be(f"standardization.{name}", "positive numbers", array)
        array.flags.writeable = False
        found.append(array)
    return value if all(one is other for one, other in zip(found, value, strict=True)) else Standardization(*found)


def check_layers(trained):
    """Refuse a net whose first or last layer with parameters has no W and b, into which a Standardization is folded."""
    for layer in (trained[0], trained[-1]):
        if layer.arrays != ("W", "b"):
            raise must_be("standardize", f"False for a net that begins or ends with {layer!r}", True)


def _moments(X, rows=None):
    """(mean, standard deviation) of each column, float64, in one pass (Chan, Golub and LeVeque 1983)."""
    first, total_rows = (0, len(X)) if rows is None else (rows[0], len(rows))
    origin = X[first].astype(np.float64)  # sums of differences from a row are exact where those of rows would not be
    count, mean, squares = 0, np.zeros(X.shape[1]), np.zeros(X.shape[1])
    step = max(1, _BLOCK // X.shape[1])
    for start in range(0, total_rows, step):
        block = X[slice(start, start + step) if rows is None else rows[start : start + step]] - origin
        block_mean = block.mean(axis=0)
        shift, total = block_mean - mean, count + len(block)
        squares += ((block - block_mean) ** 2).sum(axis=0) + shift**2 * (count * len(block) / total)
        mean += shift * (len(block) / total)
        count = total
    # in the precision of the data, so that training and prediction shift by the same number
    mean, std = (origin + mean).astype(X.dtype).astype(np.float64), np.sqrt(squares / count)
    std[std <= 10 * np.finfo(np.float64).eps * abs(mean)] = 1.0  # a constant, but for rounding
    return mean, std


def scaled_targets(standardization, y):
    """Targets as the loss takes them: in the dtype and shape of y."""
    mean, std = standardization.target_mean, standardization.target_std
    return ((y.reshape(len(y), -1) - mean) / std).astype(y.dtype).reshape(y.shape)


def folded(standardization, parameters, views):
    """Parameters of a net that takes inputs, and gives outputs, as they are.

    Parameters
    ----------
    standardization : Standardization
        From `learn`.
    parameters : array (p,)
        Flat; copied.
    views : callable
        From flat parameters to the arrays (W, b) of each layer.

    Returns
    -------
    array (p,)
        W / std and b - W mean / std in the first layer, W target_std and b target_std + target_mean in the last.
    """
    result = parameters.copy()
    arrays = views(result)
    W, b = arrays[0]
    weights = W / standardization.std
    b[...] = b - weights @ standardization.mean
    W[...] = weights
    W, b = arrays[-1]
    W *= standardization.target_std[:, np.newaxis]
    b[...] = b * standardization.target_std + standardization.target_mean
    return result

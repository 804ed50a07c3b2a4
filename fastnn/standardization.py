"""Inputs and regression targets scaled to mean 0 and standard deviation 1, as part of a net."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import arrays, backends, validation
from .errors import described, must_be

_BLOCK = 1 << 16  # elements read at a time
# Share of its deviation that a feature may change by where it is converted: 1% of its variance is noise then
_MOST_LOST = 0.1
_NOISE = 10 * np.finfo(np.float64).eps  # share of its size by which a constant feature may vary


class Standardization(NamedTuple):
    """What a net with `standardize=True` learned from its first training data.

    Parameters
    ----------
    mean, std : array (n_features,), float64
        Of each feature; std is 1 where a feature is constant.
    target_mean, target_std : array (k,), float64
        Of each target of a regression whose last layer is linear; elsewhere 0 and 1.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    target_mean: NDArray[np.float64]
    target_std: NDArray[np.float64]

    def operations(self, scales_targets: bool, with_variance: bool = False) -> tuple[list[Any], list[Any]]:
        """What a net does before its layers, and what prediction does after them.

        Parameters
        ----------
        scales_targets : bool
            Whether its targets were standardised, too.
        with_variance : bool
            Whether the logarithm of the variance of each target follows the predictions.

        Returns
        -------
        tuple of list
            Operations of `kernels.program`.
        """
        scaled = backends.operations.Standardize
        before = scaled(self.mean, 1 / self.std, np.zeros_like(self.mean))
        offset, scale = self.of_outputs(with_variance)
        after = scaled(np.zeros_like(scale), scale, offset)
        return [before], [after] if scales_targets else []

    def of_outputs(self, with_variance: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """What takes standard scores of the targets to their units.

        Parameters
        ----------
        with_variance : bool
            Whether the logarithm of the variance of each target follows the predictions.

        Returns
        -------
        tuple of array
            What is added to each output, and before that multiplied with it.
        """
        offset, scale = self.target_mean, self.target_std
        if with_variance:
            return np.append(offset, 2 * np.log(scale)), np.append(scale, np.ones_like(scale))
        return offset, scale


def learn(data, targets, scales_targets, given=(None, None), total=None):
    """The Standardization of data, in which a row counts as often as its weight says.

    Parameters
    ----------
    data : data.Data
        Rows to train on.
    targets : int
        Of a sample.
    scales_targets : bool
        Whether targets are standardised, too.
    given : tuple of array-like
        X and y as they were before they were converted to the net's dtype.
    total : callable, optional
        The `Dealt.total` of the rows, where these are not all that are to be learned from.

    Returns
    -------
    Standardization
        Of these rows.

    Raises
    ------
    ValueError
        For a feature or a target of which the net's dtype does not keep the differences.
    """
    if data.encoding is None:
        moments = _moments("X", np.asarray(data.X), given[0], data, total)
    else:  # which has made standard scores of numbers
        moments = np.zeros(data.X.shape[1]), np.ones(data.X.shape[1])
    of_targets = np.zeros(targets), np.ones(targets)
    if scales_targets:
        of_targets = _moments("y", data.y, given[1], data, total)
    return Standardization(*moments, *of_targets)


def checked(value, n_features, targets, dtype):
    """A Standardization that suits a net, in arrays of its own that cannot be written to."""
    if not isinstance(value, Standardization):
        raise must_be("standardization", "a fastnn.Standardization", value, TypeError)
    sizes, found = (n_features, n_features, targets, targets), []
    for name, array, size in zip(Standardization._fields, value, sizes, strict=True):
        name = f"standardization.{name}"
        array = validation.numeric_array(name, array, (size,), np.float64)
        if name.endswith("std") and not (array > 0).all():
            raise must_be(name, "positive numbers", array)
        limits = np.finfo(dtype)
        outside = abs(array) > limits.max
        if name.endswith("std"):
            outside |= array < limits.tiny
        if outside.any():
            raise must_be(name, f"numbers that {dtype} can hold and divide by", array)
        array.flags.writeable = False
        found.append(array)
    return value if all(one is other for one, other in zip(found, value, strict=True)) else Standardization(*found)


class _Sums(NamedTuple):
    """What is summed of some rows: how many, their weight, and by column the mean above `origin`, and squares."""

    count: int
    mass: float
    origin: NDArray[Any]
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]  # of the deviations from the mean
    lost: NDArray[np.float64]  # squares of what the conversion to the net's dtype took away

    def plus(self, other):
        """Those of the rows of both, in one pass (Chan, Golub and LeVeque 1983)."""
        if not other.mass:
            return self
        shift = (other.origin - self.origin).astype(np.float64) + (other.mean - self.mean)
        mass = self.mass + other.mass
        mean = self.mean + shift * (other.mass / mass)
        squares = self.squares + (other.squares + shift**2 * (self.mass * other.mass / mass))
        return _Sums(self.count + other.count, mass, self.origin, mean, squares, self.lost + other.lost)


def _moments(name, array, given, data, total):
    """(mean, standard deviation) of each column, float64, of an array and of what it was converted from."""
    given = array if given is None else data.of_given(validation.numbers_of(name, arrays.host(name, given, "auto")))
    array, given = array.reshape(len(array), -1), given.reshape(len(array), -1)
    sums_of = partial(_sums, array, given)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = sums_of(data) if total is None else total(lambda rows: sums_of(replace(data, rows=rows)), _added)
        if sums is None or sums.count < 2:
            found = described(f"{0 if sums is None else sums.count} of weight above 0")
            raise must_be(name, "two rows or more to learn a standardisation from", found)
        std, lost = np.sqrt(sums.squares / sums.mass), np.sqrt(sums.lost / sums.mass)
    # in the precision of the data, as training and prediction subtract it
    mean = (sums.origin + sums.mean).astype(array.dtype).astype(np.float64)
    constant = std <= (_NOISE if given.dtype.kind == "f" else 0.0) * abs(mean)
    _check_deviation(name, array.dtype, mean, std, lost, constant)
    std[constant] = 1.0
    return mean, std


def _added(one, other):
    """The _Sums of the rows of both; None where there are none of weight above 0."""
    return one if other is None else other if one is None else one.plus(other)


def _sums(array, given, data):
    """The _Sums of the rows of `data` that have a weight; None where there are none."""
    step, sums = max(1, _BLOCK // array.shape[1]), None
    wide = np.longdouble if given.dtype.kind in "iu" and given.dtype.itemsize == 8 else np.float64
    for rows, weights in _blocks(data, step):
        count, weights, zeros = np.count_nonzero(weights), weights[:, np.newaxis], np.zeros(array.shape[1])
        if sums is None:
            # sums of differences from the first row are exact where those of the rows would not be
            sums = _Sums(0, 0.0, given[rows][0].astype(wide), zeros, zeros, zeros)
        block = (given[rows] - sums.origin).astype(np.float64)
        own = weights.sum()
        mean = (weights * block).sum(axis=0) / own
        squares, lost = (weights * (block - mean) ** 2).sum(axis=0), zeros
        if given.dtype != array.dtype:
            lost = (weights * (array[rows] - sums.origin - block).astype(np.float64) ** 2).sum(axis=0)
        sums = sums.plus(_Sums(count, own, sums.origin, mean, squares, lost))
    return sums


def _blocks(data, step):
    """(rows, their weights, float64) of some rows of data at a time; those of weight 0 are left out."""
    for start in range(0, len(data), step):
        rows = slice(start, min(start + step, len(data))) if data.rows is None else data.rows[start : start + step]
        if data.weights is None:
            yield rows, np.ones(rows.stop - start if data.rows is None else len(rows))
            continue
        weights = data.weights[rows].astype(np.float64)
        counts = np.flatnonzero(weights)
        if len(counts):
            yield (start + counts if data.rows is None else rows[counts]), weights[counts]


def _check_deviation(name, dtype, mean, std, lost, constant):
    """Refuse columns whose deviation is out of range in a dtype, or of which the conversion to it lost a share."""
    limits = np.finfo(dtype)
    least = limits.tiny / limits.eps  # the kernels take what is below `tiny` for zero
    wrong = ~constant & ((lost > _MOST_LOST * std) | ~(least <= std) | ~(std <= limits.max))
    if wrong.any():
        column = int(np.argmax(wrong))
        accepted = f"numbers whose differences {dtype} can hold (subtract an offset, or make the net of float64)"
        values = f"a column {column} of numbers near {mean[column]:g} with a deviation of {std[column]:.3g}"
        raise must_be(name, accepted, described(values))


def scaled_targets(standardization, y):
    """Targets as the loss takes them: in the dtype and shape of y."""
    mean, std = standardization.target_mean, standardization.target_std
    return ((y.reshape(len(y), -1) - mean) / std).astype(y.dtype).reshape(y.shape)

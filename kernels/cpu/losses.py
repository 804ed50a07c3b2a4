"""Losses and their gradients: samples along the lanes, outputs one after another.

Sigmoid and softmax are fused with their cross-entropies and computed from logits, so nothing overflows and no
logarithm meets a zero.

Symbols: z: outputs or logits; y: targets; w: sample weights; dz: gradient with respect to z; fs_, ss_: elements from
output to output and from sample to sample; scale: factor of the gradient, 0 where it is not wanted.
"""

from ..annotations import Floats
from ..compiler import jit
from ..formulas import CROSS_ENTROPY, LOSSES
from ..options import EXACT
from .formulas import OPERATIONS, vector_formula
from .memory import address_of
from .own import loss_loops
from .simd import fma, lane_numbers, lanes, like, load_strided, select, store_strided, total
from .units import unit
from .vmath import exp, log, log1p


def _pointwise_of(formula):
    """Loss sum, and gradient where wanted, of outputs that do not depend on one another."""

    @jit(EXACT)
    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, w, ss_w, scale, dz, fs_dz, ss_dz):
        width = lanes(z)
        numbers = lane_numbers(z)
        mean = 1.0 / outputs
        result = 0.0
        for s in range(0, samples, width):
            left = samples - s
            weight = _weights(numbers, left, w + s * ss_w, ss_w)
            each = like(0.0, weight)
            for j in range(outputs):
                value = load_strided(z + (j * fs_z + s * ss_z), ss_z, left)
                target = load_strided(y + (j * fs_y + s * ss_y), ss_y, left)
                loss, slope = formula(param, value, target)
                each = each + loss
                if scale != 0.0:
                    slope = slope * weight * (scale * mean)
                    store_strided(dz + (j * fs_dz + s * ss_dz), ss_dz, slope, left)
            result += total(select(numbers < left, each * mean * weight, 0.0))
        return result

    return summed


def _paired_of(formula):
    """`_pointwise_of` for a formula of two outputs: those of a target stand at the same place of either half."""

    @jit(EXACT)
    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, w, ss_w, scale, dz, fs_dz, ss_dz):
        width, targets = lanes(z), outputs // 2
        numbers = lane_numbers(z)
        mean = 1.0 / targets
        result = 0.0
        for s in range(0, samples, width):
            left = samples - s
            weight = _weights(numbers, left, w + s * ss_w, ss_w)
            each = like(0.0, weight)
            for j in range(targets):
                at, other = j * fs_z + s * ss_z, (targets + j) * fs_z + s * ss_z
                first, second = load_strided(z + at, ss_z, left), load_strided(z + other, ss_z, left)
                target = load_strided(y + (j * fs_y + s * ss_y), ss_y, left)
                loss, slope, other_slope = formula(param, first, second, target)
                each = each + loss
                if scale != 0.0:
                    factor, at = weight * (scale * mean), j * fs_dz + s * ss_dz
                    store_strided(dz + at, ss_dz, slope * factor, left)
                    store_strided(dz + (at + targets * fs_dz), ss_dz, other_slope * factor, left)
            result += total(select(numbers < left, each * mean * weight, 0.0))
        return result

    return summed


@jit(EXACT)
def _weights(numbers, left, w, ss_w):
    """Weights of a register of samples, ones where ss_w is 0; zero past the last sample."""
    if ss_w == 0:
        return select(numbers < left, 1.0, like(0.0, numbers))
    return load_strided(w, ss_w, left)


TERMS = 64  # of a product of numbers between 1 and 2, far from overflow


def _equal_of(formula):
    """Loss sum, and gradient, where all weights are 1: of r + log(1 + e) one logarithm of a product of many 1 + e."""

    @jit(EXACT)
    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, scale, dz, fs_dz, ss_dz):
        width = lanes(z)
        numbers = lane_numbers(z)
        mean, terms, result = 1.0 / outputs, 0, 0.0
        nothing = like(0.0, numbers)
        rest = grown = nothing  # the sum of r, and the product of 1 + e, less 1: small e are not lost
        for s in range(0, samples, width):
            left = samples - s
            inside = numbers < left
            for j in range(outputs):
                value = load_strided(z + (j * fs_z + s * ss_z), ss_z, left)
                target = load_strided(y + (j * fs_y + s * ss_y), ss_y, left)
                r, e, slope = formula(param, value, target)
                if scale != 0.0:
                    store_strided(dz + (j * fs_dz + s * ss_dz), ss_dz, slope * (scale * mean), left)
                e = select(inside, e, nothing)
                rest = rest + r
                grown = grown + fma(grown, e, e)
                terms += 1
                if terms == TERMS:
                    result += total(rest + log1p(grown))
                    rest = grown = nothing
                    terms = 0
        return (result + total(rest + log1p(grown))) * mean

    return summed


@jit(EXACT)
def _cross_entropy(outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
    """Softmax cross-entropy, the sum over outputs of y * (logsumexp(z) - z)."""
    width = lanes(z)
    numbers = lane_numbers(z)
    result = 0.0
    for s in range(0, samples if outputs > 0 else 0, width):
        left = samples - s
        weight = _weights(numbers, left, w + s * ss_w, ss_w)
        p, t, d = z + s * ss_z, y + s * ss_y, dz + s * ss_dz
        peak = load_strided(p, ss_z, left)
        for j in range(1, outputs):
            value = load_strided(p + j * fs_z, ss_z, left)
            peak = select(value > peak, value, peak)
        label = load_strided(t, ss_y, left)
        mass, mass_y, score = like(0.0, peak), like(0.0, peak), like(0.0, peak)
        for j in range(outputs):
            value = load_strided(p + j * fs_z, ss_z, left) - peak
            e = exp(value)
            mass = mass + e
            if labels:
                score = select(label == j, value, score)
            else:
                target = load_strided(t + j * fs_y, ss_y, left)
                mass_y = mass_y + target
                # 0 * inf must stay 0: an impossible class may have an infinite logit
                score = select(target == 0.0, score, fma(target, value, score))
            if scale != 0.0:
                store_strided(d + j * fs_dz, ss_dz, e, left)
        if labels:
            mass_y = like(1.0, peak)
        if scale != 0.0:
            share = mass_y / mass
            factor = weight * scale
            for j in range(outputs):
                probability = load_strided(d + j * fs_dz, ss_dz, left) * share
                if labels:
                    target = select(label == j, 1.0, like(0.0, peak))
                else:
                    target = load_strided(t + j * fs_y, ss_y, left)
                store_strided(d + j * fs_dz, ss_dz, (probability - target) * factor, left)
        result += total(select(numbers < left, (mass_y * log(mass) - score) * weight, 0.0))
    return result


def _either(weighted, equal):
    """A loss that has a faster sum where all weights are 1."""

    @jit(EXACT)
    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, w, ss_w, scale, dz, fs_dz, ss_dz):
        if ss_w == 0:
            return equal(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, scale, dz, fs_dz, ss_dz)
        return weighted(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, w, ss_w, scale, dz, fs_dz, ss_dz)

    return summed


def _with_labels(pointwise):
    """A loss of one target an output, with the arguments of all."""

    @jit(EXACT)
    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
        return pointwise(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, w, ss_w, scale, dz, fs_dz, ss_dz)

    return summed


@jit(EXACT)
def _classes(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
    return _cross_entropy(outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz)


@jit(EXACT)
def _unknown(code, param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
    return NAN


def _or(known, loss, others):
    """The loss of the code `known`, else others."""

    @jit(EXACT)
    def summed(code, param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
        if code == known:
            return loss(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz)
        return others(
            code, param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz
        )

    return summed


def _unit_of(name, loss):
    def summed(param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz):
        return loss(
            param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels != 0, w, ss_w, scale, dz, fs_dz, ss_dz
        )

    summed.__name__ = summed.__qualname__ = f"loss_{name}"
    return unit(EXACT, "fiiPiiPiiiPifPii", gives=True)(summed)


NAN = float("nan")  # what a code gives that no loss has
_units = {}  # of each loss, by code
_loss_sum = _unknown
for _record in LOSSES:
    if _record.code == CROSS_ENTROPY:
        _loss = _classes
    else:
        _loop = _paired_of if _record.outputs_per_target == 2 else _pointwise_of
        _pointwise = _loop(vector_formula(_record))
        if _record.with_log:
            _pointwise = _either(_pointwise, _equal_of(jit(EXACT)(_record.make(OPERATIONS))))
        _loss = _with_labels(_pointwise)
    _units[_record.code] = _unit_of(_record.name, _loss)
    _loss_sum = _or(_record.code, _loss, _loss_sum)


def address_of_loss(loss, dtype):
    """(address, what must live as long as it): of the sum of w * loss over the samples, as float64.

    Where scale is not 0 it writes scale * w * dloss/dz.
    It takes (param, outputs, samples, z, fs_z, ss_z, y, fs_y, ss_y, labels, w, ss_w, scale, dz, fs_dz, ss_dz), strides
    by output and by sample. `labels`: y holds one class index a sample instead of one target an output. `ss_w` 0 means
    that every weight is 1. Lanes past the last sample are neither read nor written.
    """
    if loss.functions is None:
        return _units[loss.code].address(dtype), None
    loops = loss_loops(loss.functions, dtype)
    return loops[0].address, loops


@jit(EXACT)
def weight_sum(samples, w, ss_w):
    """Sum of the sample weights, their number where ss_w is 0."""
    if ss_w == 0:
        return float(samples)
    result = 0.0
    for s in range(samples):
        result += w[s * ss_w]
    return result


@jit(EXACT)
def _on_arrays(code, param, Z, y, w, scale, dZ):
    size = Z.itemsize
    samples, outputs = Z.shape
    ss_w = w.strides[0] // size if w.size > 0 else 0
    mass = weight_sum(samples, address_of(w), ss_w)
    summed = _loss_sum(
        code,
        param,
        outputs,
        samples,
        address_of(Z),
        Z.strides[1] // size,
        Z.strides[0] // size,
        address_of(y),
        y.strides[1] // size,
        y.strides[0] // size,
        code == CROSS_ENTROPY and y.shape[1] == 1,
        address_of(w),
        ss_w,
        scale / mass,
        address_of(dZ),
        dZ.strides[1] // size,
        dZ.strides[0] // size,
    )
    return summed / mass


@jit(EXACT, public=True)
def loss_forward(code: int, param: float, Z: Floats, y: Floats, w: Floats) -> float:
    """Weighted mean loss, sum(w l) / sum(w).

    Parameters
    ----------
    code : int
        A loss code such as `kernels.MSE`; a code of none gives NaN.
    param : float
        delta of huber, the quantile of quantile; others ignore it.
    Z : array (m, k), float32 or float64
        Logits for BINARY_CROSS_ENTROPY and CROSS_ENTROPY, logarithms of rates for POISSON, k / 2 means and then k / 2
        logarithms of variances for GAUSSIAN, predictions for the others.
    y : array (m, k), dtype of Z
        Targets; for CROSS_ENTROPY also (m, 1) class indices, for GAUSSIAN (m, k / 2).
    w : array (m,), dtype of Z
        Sample weights; empty for all ones.

    Returns
    -------
    float
        The mean over samples (and, but for CROSS_ENTROPY, over targets), summed in float64.
    """
    return _on_arrays(code, param, Z, y, w, 0.0, Z)


@jit(EXACT, public=True)
def loss_backward(code: int, param: float, Z: Floats, y: Floats, w: Floats, dZ: Floats) -> None:
    """Gradient of `loss_forward` with respect to Z.

    Parameters
    ----------
    code : int
        A loss code.
    param : float
        delta of huber, the quantile of quantile; others ignore it.
    Z : array (m, k), float32 or float64
        As for `loss_forward`.
    y : array (m, k), (m, 1) or (m, k / 2), dtype of Z
        As for `loss_forward`.
    w : array (m,), dtype of Z
        Sample weights; empty for all ones.
    dZ : array (m, k), dtype of Z
        Receives the gradient.
    """
    _on_arrays(code, param, Z, y, w, 1.0, dZ)

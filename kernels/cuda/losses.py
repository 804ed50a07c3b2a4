"""Losses and their gradients in one pass over the samples, summed in a fixed order; the loss stays on the device.

Sigmoid and softmax are fused with their cross-entropies and computed from logits, so nothing overflows and no
logarithm takes a zero. Some lanes of a warp, as many as there are outputs, take a sample together.

z and dz are (m, k), y is (m, k) or (m, 1), w (m,), of any strides; rs and cs are steps from row to row and from column
to column in elements. Each block of `losses` sums all weights, and then its own losses; `combine` adds those of the
blocks.
"""

import numpy as np

from ..annotations import DeviceArray, Stream
from ..contract import writes
from ..formulas import CROSS_ENTROPY, LOSSES
from .formulas import divide_of
from .launch import checked, run
from .own import loss_of
from .primitives import exp, global_at, lane_of, larger, log, shared_memory, turn_by_turn, warp_sum
from .toolchain import cuda, device, for_each_real, kernel

WARPS = 8  # of a block (an estimate)
BLOCKS = 256  # of a grid at most: the threads of the block that combines their sums
RESULT = 2 + BLOCKS  # elements of what `loss_forward` writes: the loss, the sum of weights, the sum of each block


@device
def _group_sum(value, lanes):
    """Sum over neighbouring `lanes`, a power of two; the same bits in all of them."""
    mask = np.int32(lanes >> 1)
    while mask > 0:
        turn_by_turn()
        value += lane_of(value, mask)
        mask = np.int32(mask >> 1)
    return value


@device
def _group_max(value, lanes):
    mask = np.int32(lanes >> 1)
    while mask > 0:
        turn_by_turn()
        value = larger(lane_of(value, mask), value)
        mask = np.int32(mask >> 1)
    return value


@device
def _next_three(j, lanes):
    """The outputs of a lane that follow output j."""
    return np.int32(j + lanes), np.int32(j + 2 * lanes), np.int32(j + 3 * lanes)


@device
def _store_few(dz, cs_dz, j, lanes, outputs, a, b, c, d):
    """Write those of four outputs of a lane that there are."""
    j1, j2, j3 = _next_three(j, lanes)
    dz[j * cs_dz] = a
    if j1 < outputs:
        dz[j1 * cs_dz] = b
    if j2 < outputs:
        dz[j2 * cs_dz] = c
    if j3 < outputs:
        dz[j3 * cs_dz] = d


@for_each_real
def sample_loss_of(real, key):
    """The loss of one sample, and, if it is wanted, `factor` times its derivative by each output.

    `lanes` neighbouring threads share the outputs; each gets the loss. Pointers with the stride from output to
    output; `labels`: y holds one class index instead of one target an output.
    """
    formula = loss_of(real, key) if key != CROSS_ENTROPY else None
    paired_up = not isinstance(key, tuple) and LOSSES[key].outputs_per_target == 2
    zero, one, lowest = real(0.0), real(1.0), real("-inf")
    divide = divide_of(real)

    @device
    def pointwise(param, outputs, z, cs_z, y, cs_y, labels, wanted, factor, dz, cs_dz, lane, lanes):
        mean, loss, j = one / real(outputs), zero, lane
        while j < outputs:
            each, slope = formula(param, z[j * cs_z], y[j * cs_y])
            loss += each
            if wanted:
                dz[j * cs_dz] = slope * (factor * mean)
            j += lanes
        return _group_sum(loss, lanes) * mean

    @device
    def paired(param, outputs, z, cs_z, y, cs_y, labels, wanted, factor, dz, cs_dz, lane, lanes):
        targets = outputs // 2
        mean, loss, j = one / real(targets), zero, lane
        while j < targets:
            other = targets + j
            each, slope, other_slope = formula(param, z[j * cs_z], z[other * cs_z], y[j * cs_y])
            loss += each
            if wanted:
                dz[j * cs_dz], dz[other * cs_dz] = slope * (factor * mean), other_slope * (factor * mean)
            j += lanes
        return _group_sum(loss, lanes) * mean

    @device
    def four(z, cs_z, j, lanes, outputs):
        """What z holds of output j and of the next three of a lane; the last one's for those beyond the end."""
        last, (j1, j2, j3) = np.int32(outputs - 1), _next_three(j, lanes)
        return z[j * cs_z], z[min(j1, last) * cs_z], z[min(j2, last) * cs_z], z[min(j3, last) * cs_z]

    @device
    def own_four(z, cs_z, j, lanes, outputs, filler):
        """Likewise, `filler` for those beyond the end; nothing of other lanes is read."""
        j1, j2, j3 = _next_three(j, lanes)
        b = z[j1 * cs_z] if j1 < outputs else filler
        c = z[j2 * cs_z] if j2 < outputs else filler
        d = z[j3 * cs_z] if j3 < outputs else filler
        return z[j * cs_z], b, c, d

    @device
    def against(score, target, value):
        # 0 * inf must stay 0: an impossible class may have an infinite logit
        return score if target == zero else score + target * value

    @device
    def share_of(j, its_class):
        return one if j == its_class else zero

    @device
    def cross_entropy(param, outputs, z, cs_z, y, cs_y, labels, wanted, factor, dz, cs_dz, lane, lanes):
        """The sum over outputs of y * (logsumexp(z) - z), by four outputs of a lane at a time.

        What is wanted of dz holds the exponentials first.
        """
        label, first, outputs, lanes = y[0], np.int32(lane), np.int32(outputs), np.int32(lanes)
        peak, j, by = lowest, first, np.int32(4 * lanes)
        while j < outputs:
            turn_by_turn()
            a, b, c, d = four(z, cs_z, j, lanes, outputs)
            peak, j = larger(peak, larger(larger(a, b), larger(c, d))), np.int32(j + by)
        peak = _group_max(peak, lanes)
        mass, mass_y, score, its_class = zero, zero, zero, np.int32(-1)
        if labels and zero <= label and label < real(outputs):
            its_class = np.int32(label)
            if real(its_class) == label:
                mass_y, score = one, z[its_class * cs_z] - peak
            else:
                its_class = np.int32(-1)
        j = first
        while j < outputs:
            turn_by_turn()
            a, b, c, d = four(z, cs_z, j, lanes, outputs)
            a, b, c, d = a - peak, b - peak, c - peak, d - peak
            if not labels:
                p, q, r, s = own_four(y, cs_y, j, lanes, outputs, zero)
                mass_y = (((mass_y + p) + q) + r) + s
                score = against(against(against(against(score, p, a), q, b), r, c), s, d)
            j1, j2, j3 = _next_three(j, lanes)
            a, b, c, d = exp(a), exp(b), exp(c), exp(d)
            b, c, d = b if j1 < outputs else zero, c if j2 < outputs else zero, d if j3 < outputs else zero
            mass = (((mass + a) + b) + c) + d
            if wanted:
                _store_few(dz, cs_dz, j, lanes, outputs, a, b, c, d)
            j = np.int32(j + by)
        mass = _group_sum(mass, lanes)
        if not labels:
            mass_y, score = _group_sum(mass_y, lanes), _group_sum(score, lanes)
        if wanted:
            share, j = divide(mass_y, mass), first
            while j < outputs:
                turn_by_turn()
                a, b, c, d = own_four(dz, cs_dz, j, lanes, outputs, zero)
                j1, j2, j3 = _next_three(j, lanes)
                p, q = share_of(j, its_class), share_of(j1, its_class)
                r, s = share_of(j2, its_class), share_of(j3, its_class)
                if not labels:
                    p, q, r, s = own_four(y, cs_y, j, lanes, outputs, zero)
                a, b, c, d = a * share - p, b * share - q, c * share - r, d * share - s
                _store_few(dz, cs_dz, j, lanes, outputs, a * factor, b * factor, c * factor, d * factor)
                j = np.int32(j + by)
        return mass_y * log(mass) - score

    return cross_entropy if key == CROSS_ENTROPY else paired if paired_up else pointwise


@for_each_real
def block_sum_of(real):
    """Sum over the threads of a block, in thread 0; `warps` holds 32 elements, one for each warp."""
    zero = real(0.0)

    @device
    def block_sum(value, warps):
        value, lane, warp = warp_sum(value), cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
        if lane == 0:
            warps[warp] = value
        cuda.syncthreads()
        return warp_sum(warps[lane] if lane < cuda.blockDim.x >> 5 else zero)

    return block_sum


@for_each_real
def _mass_of(real):
    """The sum of the weights, their number where there are none; the same bits in all threads of all blocks."""
    zero, block_sum, together = real(0.0), block_sum_of(real), 4  # loads that do not wait for one another

    @device
    def mass(samples, weights, by, warps):
        if weights == 0:
            return real(samples)
        w, summed, i = global_at(weights, real), zero, cuda.threadIdx.x
        while i < samples:
            for _ in range(together):
                summed += w[i * by] if i < samples else zero
                i += cuda.blockDim.x
        return block_sum(summed, warps)

    return mass


@for_each_real
def losses_of(real, key):
    """result[1] = sum of w; result[2 + block] = sum of w * loss over the block's samples.

    dz = w / result[1] * dloss/dz, if it is there.
    """
    zero, one, mass_of = real(0.0), real(1.0), _mass_of(real)
    sample_loss, block_sum = sample_loss_of(real, key), block_sum_of(real)

    @kernel(32 * WARPS, min_blocks_per_sm=1)
    def losses(param, samples, outputs, lanes, z, rs_z, cs_z, y, rs_y, cs_y, labels, w, rs_w, dz, rs_dz, cs_dz, result):
        logits, targets, weights = global_at(z, real), global_at(y, real), global_at(w, real)
        delta, out = global_at(dz, real), global_at(result, real)
        warps = shared_memory(real, 32)
        mass = mass_of(samples, w, rs_w, shared_memory(real, 32))
        if cuda.grid(1) == 0:
            out[1] = mass
        thread, together = cuda.threadIdx.x & 31, 32 // lanes  # samples that a warp takes at once
        first, summed = (cuda.grid(1) >> 5) * together, zero
        while first < samples:  # whole warps: lanes past the end repeat the last sample, and keep it to themselves
            sample = first + thread // lanes
            inside = sample < samples
            sample = min(sample, samples - 1)
            weight = weights[sample * rs_w] if w != 0 else one
            factor = weight / mass if dz != 0 else zero
            loss = sample_loss(
                param,
                outputs,
                logits + sample * rs_z,
                cs_z,
                targets + sample * rs_y,
                cs_y,
                labels,
                inside and dz != 0,
                factor,
                delta + sample * rs_dz,
                cs_dz,
                thread % lanes,
                lanes,
            )
            summed += loss * weight if inside and thread % lanes == 0 else zero
            first += (cuda.gridsize(1) >> 5) * together
        summed = block_sum(summed, warps)
        if cuda.threadIdx.x == 0:
            out[2 + cuda.blockIdx.x] = summed

    return losses


@for_each_real
def combine_of(real):
    """result[0] = the blocks' sums in order, over result[1]; one block."""
    zero, block_sum = real(0.0), block_sum_of(real)

    @kernel(32 * WARPS)
    def combine(blocks, result):
        out, warps, thread = global_at(result, real), shared_memory(real, 32), cuda.threadIdx.x
        summed = block_sum(out[2 + thread] if thread < blocks else zero, warps)
        if thread == 0:
            out[0] = summed / out[1]

    return combine


def queue_loss(real, stream, key, param, samples, outputs, z, y, labels, weights, delta, result, combines=True):
    """Queue a loss on addresses; gives the number of blocks whose sums it leaves.

    Parameters
    ----------
    real : type
        numpy.float32 or float64.
    stream : stream
        Where it is queued.
    key : int or tuple
        The loss: a code, or a pair of the user's own.
    param : real
        Its parameter.
    samples, outputs : int
        Rows and columns of z.
    z, y, delta : matmul.Side
        Outputs or logits, targets, and what receives the gradient; address 0 where it is not wanted.
    labels : bool
        Whether y holds class indices.
    weights : tuple of int
        Address and step of the samples' weights; address 0 for all ones.
    result : int
        Address of RESULT elements.
    combines : bool
        Whether the sums of the blocks are combined: else who takes them does it.
    """
    lanes = 1
    while lanes < min(outputs, 32):
        lanes *= 2
    blocks, threads = max(1, min(-(-samples * lanes // (32 * WARPS)), BLOCKS)), 32 * WARPS
    places = *z, *y, labels, *weights, *delta, result
    run(losses_of(real, key), (blocks, threads), stream, param, samples, outputs, lanes, *places)
    if combines:
        run(combine_of(real), (1, threads), stream, blocks, result)
    return blocks


def _queue(code, param, Z, y, w, dZ, result, stream):
    if result.shape[0] < RESULT:
        raise ValueError(f"result must have {RESULT} consecutive elements; got shape {result.shape}")
    real, z, targets = Z.dtype.type, (Z.address, *Z.strides), (y.address, *y.strides)
    weights = (0, 0) if w is None or w.shape[0] == 0 else (w.address, *w.strides)
    delta = (0, 0, 0) if dZ is None else (dZ.address, *dZ.strides)
    labels = code == CROSS_ENTROPY and y.shape[1] == 1
    queue_loss(real, stream, code, real(param), *Z.shape, z, targets, labels, weights, delta, result.address)


@checked(result=writes("result", consecutive=True))
def loss_forward(
    code: int,
    param: float,
    Z: DeviceArray,
    y: DeviceArray,
    w: DeviceArray | None,
    result: DeviceArray,
    stream: Stream = 0,
) -> None:
    """Weighted mean loss, sum(w l) / sum(w).

    Parameters
    ----------
    code : int
        A loss code such as `kernels.MSE`.
    param : float
        delta of huber, the quantile of quantile; others ignore it.
    Z : device array (m, k), float32 or float64
        Logits for BINARY_CROSS_ENTROPY and CROSS_ENTROPY, logarithms of rates for POISSON, k / 2 means and then k / 2
        logarithms of variances for GAUSSIAN, predictions for the others.
    y : device array (m, k), dtype of Z
        Targets; for CROSS_ENTROPY also (m, 1) class indices, for GAUSSIAN (m, k / 2).
    w : device array (m,), dtype of Z
        Sample weights; empty or None for all ones.
    result : device array (RESULT,), dtype of Z
        Receives the loss in its first element and the sum of the weights in its second; the rest is working space.
    stream : stream, optional
        Where it is queued.
    """
    _queue(code, param, Z, y, w, None, result, stream)


@checked(result=writes("result", consecutive=True))
def loss_backward(
    code: int,
    param: float,
    Z: DeviceArray,
    y: DeviceArray,
    w: DeviceArray | None,
    dZ: DeviceArray,
    result: DeviceArray,
    stream: Stream = 0,
) -> None:
    """Gradient of `loss_forward` with respect to Z, and the loss itself in the same pass.

    Parameters
    ----------
    code : int
        A loss code.
    param : float
        delta of huber, the quantile of quantile; others ignore it.
    Z : device array (m, k), float32 or float64
        As for `loss_forward`.
    y : device array (m, k), (m, 1) or (m, k / 2), dtype of Z
        As for `loss_forward`.
    w : device array (m,), dtype of Z
        Sample weights; empty or None for all ones.
    dZ : device array (m, k), dtype of Z
        Receives the gradient.
    result : device array (RESULT,), dtype of Z
        As for `loss_forward`.
    stream : stream, optional
        Where it is queued.
    """
    _queue(code, param, Z, y, w, dZ, result, stream)

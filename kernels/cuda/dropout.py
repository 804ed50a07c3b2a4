"""Dropout (Srivastava et al. 2014), inverted: the masks of `kernels.cpu.dropout`, number for number.

Which units a sample loses is a pure function of (seed, epoch, layer, the sample's place in the epoch, unit): no mask is
stored, and the backward pass draws the same numbers again. In the loops buffers are (features, LD), in the graph
(samples, features).
"""

import functools

import numpy as np

from ..annotations import DeviceArray, Stream
from ..program import Dropout
from ..randomness import CHANCE_BITS, DROPOUT, make_masks
from ..tables import Op, Run, State
from .launch import REMEMBERED, checked, place, plane, queue, run
from .phases import Phases, delta_of, element_at, gradient_width_of, padded_count, value_of
from .primitives import global_at
from .rng import first_of, layer_key, stream_key
from .toolchain import device, for_each_real, kernel

IN_PLACE = True  # neither pass needs what it overwrites
THRESHOLD, LAYER = Dropout.fields.THRESHOLD, Dropout.fields.LAYER
_MASKS = make_masks(device)
_sample_word, _chance = _MASKS.sample_word, _MASKS.chance


@for_each_real
def dropped_of(real):
    """A value of one unit of one sample, dropped or divided by the share of the units that is kept."""
    zero, one, share = real(0.0), real(1.0), real(1.0 / (1 << CHANCE_BITS))

    @device
    def dropped(key, threshold, sample, unit, value):
        kept = one - real(threshold) * share  # exact: numbers of 24 bits
        return zero if _chance(_sample_word(key, sample), unit) < threshold else value * (one / kept)

    return dropped


@for_each_real
def loop_of(real, structure):
    """The phases of the loops."""
    dropped, gradient_width = dropped_of(real), gradient_width_of(structure)

    @device
    def drop(step, op, features, source, target):
        key, threshold, item = layer_key(step.mask_key, op[LAYER]), op[THRESHOLD], step.thread
        while item < features * padded_count(step):
            i, s, at = element_at(step, item)
            target[at] = dropped(key, threshold, step.seen + s, i, source[at])
            item = np.int32(item + step.threads)

    @device
    def forward(step, op, work):
        drop(step, op, op[Op.N_IN], value_of(step, op[Op.INPUT]), value_of(step, op[Op.OUTPUT]))
        return True

    @device
    def backward(step, op, work):
        features = gradient_width(step, op)
        if features == 0:
            return False
        drop(step, op, features, delta_of(step, op[Op.OUTPUT]), delta_of(step, op[Op.INPUT]))
        return True

    return Phases((forward,), (backward,))


@for_each_real
def step_dropout_of(real):
    """Out = A with units of the current step dropped: seed, epoch and place in the epoch are read from the tables."""
    dropped = dropped_of(real)

    @kernel(256)
    def drop(table, first, layer, threshold, m, n, a, rs_a, cs_a, out, rs_out, cs_out):
        t = global_at(table, np.int64)
        state, (s, j) = t + t[Run.STATE], place()
        if s < m and j < n:
            key = layer_key(stream_key(state[State.SEED], DROPOUT, state[State.EPOCH]), layer)
            sample = t[Run.SEEN] + first_of(t, first) + s
            value = global_at(a, real)[s * rs_a + j * cs_a]
            global_at(out, real)[s * rs_out + j * cs_out] = dropped(key, threshold, sample, j, value)

    return drop


def queue_forward(step, op):
    """Queue the forward pass of a `graph.Step`."""
    _queue(step, op, op.n_in, step.values[op.number], step.values[op.number + 1])


def queue_backward(step, op):
    """Queue the backward pass, where the gradient with respect to the input is wanted."""
    if op.gradient_width:
        _queue(step, op, op.gradient_width, step.deltas[op.number + 1], step.deltas[op.number])


def _queue(step, op, features, source, target):
    arguments = step.first, op.record[LAYER], op.record[THRESHOLD], step.count, features, *source, *target
    run(step_dropout_of(step.real), plane(step.count, features), step.stream, step.table, *map(int, arguments))


@for_each_real
def dropout_of(real):
    """Out = A with units dropped, any strides."""
    dropped = dropped_of(real)

    @kernel(256)
    def drop(rows, columns, a, rs_a, cs_a, out, rs_out, cs_out, threshold, seed, epoch, layer, first):
        i, j = place()
        if i < rows and j < columns:
            key, value = layer_key(stream_key(seed, DROPOUT, epoch), layer), global_at(a, real)[i * rs_a + j * cs_a]
            global_at(out, real)[i * rs_out + j * cs_out] = dropped(key, threshold, first + i, j, value)

    return drop


@functools.lru_cache(REMEMBERED)
def _over(A, out):
    """The launch for two operands, which lacks what chooses the mask."""
    launches, places = [], (*A.shape, A.address, *A.strides, out.address, *out.strides)
    run(dropout_of(A.dtype.type), plane(*A.shape), launches, *places, more=5 * (int,))
    return launches


@checked(changing=True)
def dropout(
    rate: float, seed: int, epoch: int, layer: int, first: int, A: DeviceArray, out: DeviceArray, stream: Stream = 0
) -> None:
    """A with units dropped at random, and the others divided by the share that is kept.

    Parameters
    ----------
    rate : float
        Share of the units that are dropped, in [0, 1), to 24 bits.
    seed, epoch, layer : int
        Choose the mask.
    first : int
        Place of the first row in the epoch.
    A : device array (m, n), float32 or float64
        Outputs of a layer, or a gradient with respect to what this function gave; any strides.
    out : device array (m, n), dtype of A
        Receives the result; may be A.
    stream : stream, optional
        Where it is queued.
    """
    queue(_over(A, out), stream, round(rate * (1 << CHANCE_BITS)), seed, epoch, layer, first)

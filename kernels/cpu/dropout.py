"""Dropout (Srivastava et al. 2014), inverted: what is kept is divided by the share that is kept.

Which units a sample loses is a pure function of (seed, epoch, layer, the sample's place in the epoch, unit), so no mask
is stored: the backward pass draws the same numbers again, and every thread, machine and backend draws them alike.

Symbols: threshold: of numbers of CHANCE_BITS bits, below which a unit is dropped; key: of an epoch and a layer; ld:
elements from feature to feature of a block.
"""

import numpy as np

from ..annotations import Floats
from ..compiler import jit
from ..options import EXACT
from ..program import Dropout
from ..randomness import CHANCE_BITS, DROPOUT, make_masks
from ..tables import EXPANDED, FROM_ROWS, Buffer, Op, Run
from .block import Phase, buffer_at, deltas_at, samples_at
from .memory import address_of
from .rng import layer_key, stream_key
from .simd import lane_numbers, lanes, like, load_part, select, store_part, to_int
from .units import unit

ALL = float(1 << CHANCE_BITS)  # thresholds count from 0, nothing dropped, to this

_MASKS, _FIELDS = make_masks(jit(EXACT)), Dropout.fields
_sample_word, _chance = _MASKS.sample_word, _MASKS.chance


@jit(EXACT)
def drop_lanes(key, threshold, features, samples, first, x, ld_x, out, ld_out):
    """Out = x with units dropped, both (features, samples); out may be x. Sample s is number first + s of the epoch."""
    scale = ALL / (ALL - threshold)
    for s in range(0, samples, lanes(x)):
        left = samples - s
        word = _sample_word(key, to_int(lane_numbers(x)) + (first + s))
        for j in range(features):
            value = load_part(x + (j * ld_x + s), left) * scale
            store_part(out + (j * ld_out + s), select(_chance(word, like(j, word)) < threshold, 0.0, value), left)


@jit(EXACT)
def drop_row(key, threshold, features, sample, x, out):
    """`drop_lanes` for the features of one sample, consecutive."""
    scale = ALL / (ALL - threshold)
    numbers = to_int(lane_numbers(x))
    word = _sample_word(key, like(sample, numbers))
    for j in range(0, features, lanes(x)):
        left = features - j
        value = load_part(x + j, left) * scale
        store_part(out + j, select(_chance(word, numbers + j) < threshold, 0.0, value), left)


@jit(EXACT)
def _drop_rows(key, threshold, features, count, first, rows, stride):
    """`drop_row` for samples one after the other, in place."""
    for s in range(count):
        drop_row(key, threshold, features, first + s, rows + s * stride, rows + s * stride)


@unit(EXACT, "iIRPPIiiIiPi")
def dropout_block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    """The masks of a block, over its activations or the gradient with respect to them; arguments as `block` says."""
    x, y, features = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT]), op[Op.N_IN]
    key, threshold = layer_key(run[Run.DROPOUT_KEY], op[_FIELDS.LAYER]), op[_FIELDS.THRESHOLD]
    seen, ld = run[Run.SEEN] + first, run[Run.LD]
    if op[Op.FLAGS] & FROM_ROWS != 0:
        if phase == Phase.FORWARD:
            rows, stride = samples_at(run, theta, scratch, first, op)
            _drop_rows(key, threshold, features, count, seen, rows, stride)
        elif phase == Phase.BACKWARD and op[Op.FLAGS] & EXPANDED != 0 and run[Run.DELTAS] != 0:
            rows, stride = deltas_at(run, theta, first)
            _drop_rows(key, threshold, run[Run.VECTORS], count, seen, rows, stride)
    elif phase == Phase.FORWARD:
        drop_lanes(key, threshold, features, count, seen, scratch + x[Buffer.VALUE], ld, scratch + y[Buffer.VALUE], ld)
    elif phase == Phase.BACKWARD:
        delta = scratch + y[Buffer.DELTA]
        drop_lanes(key, threshold, features, count, seen, delta, ld, scratch + x[Buffer.DELTA], ld)


block, few_rows = dropout_block, None


@jit(EXACT, public=True)
def dropout(rate: float, seed: int, epoch: int, layer: int, first: int, A: Floats, out: Floats) -> None:
    """A with units dropped at random, and the others divided by the share that is kept.

    Parameters
    ----------
    rate : float
        Share of the units that are dropped, in [0, 1), to 24 bits.
    seed, epoch, layer : int
        Choose the mask.
    first : int
        Place of the first row in the epoch.
    A : array (m, n), float32 or float64
        Outputs of a layer, or a gradient with respect to what this function gave; any strides.
    out : array (m, n), dtype of A
        Receives the result; may be A.
    """
    size = A.itemsize
    rs_a, cs_a, rs_out, cs_out = (
        A.strides[0] // size,
        A.strides[1] // size,
        out.strides[0] // size,
        out.strides[1] // size,
    )
    a, q = address_of(A), address_of(out)
    key = layer_key(np.int64(stream_key(seed, DROPOUT, epoch)), layer)
    threshold = np.int64(round(rate * (1 << CHANCE_BITS)))
    scale = ALL / (ALL - threshold)
    for i in range(A.shape[0]):
        if cs_a == 1 and cs_out == 1:
            drop_row(key, threshold, A.shape[1], first + i, a + i * rs_a, q + i * rs_out)
            continue
        word = _sample_word(key, first + i)
        for j in range(A.shape[1]):
            value = a[i * rs_a + j * cs_a] * scale
            q[i * rs_out + j * cs_out] = 0.0 if _chance(word, j) < threshold else value

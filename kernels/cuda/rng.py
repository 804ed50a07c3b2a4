"""The order of the rows in an epoch, by `kernels.randomness`: number for number that of `kernels.cpu.rng`."""

import numpy as np

from .. import randomness
from ..annotations import DeviceArray, Stream
from ..tables import Run, State
from .launch import checked, line, run
from .primitives import global_at
from .toolchain import cuda, device, kernel

_FUNCTIONS = randomness.make(device)
stream_key, layer_key = _FUNCTIONS.stream_key, _FUNCTIONS.layer_key
half_bits, permuted = _FUNCTIONS.half_bits, _FUNCTIONS.permuted


@device
def epoch_key(seed: int, epoch: int) -> int:
    """What the order of the rows in an epoch is drawn from.

    Parameters
    ----------
    seed, epoch : int
        Choose the permutation.

    Returns
    -------
    int
        Unsigned, of 64 bits: the key of `permuted`.
    """
    return stream_key(seed, randomness.SHUFFLE, epoch)


@device
def first_of(t, first):
    """Place in the data's order of the first row of a step: `first`, or, below zero, what the tables say of it."""
    if first >= 0:
        return first
    state = t + t[Run.STATE]
    return state[State.POSITION] * t[Run.BATCH] if t[Run.OPEN_EPOCH] == 0 else 0


@device
def row_at(t, key, index, left_bits, right_bits):
    """The row of the data at `index` of the epoch's order: of those that the run visits, shuffled or not."""
    if t[Run.SHUFFLE] != 0:
        index = permuted(key, index, t[Run.ROWS], left_bits, right_bits)
    if t[Run.ROW_INDEX] != 0:
        index = global_at(t[Run.ROW_INDEX], np.int64)[index]
    return index


@kernel(256)
def _permutation(seed, epoch, rows, out, by):
    p = global_at(out, np.int64)
    left, right = half_bits(rows)
    key = epoch_key(seed, epoch)
    i = cuda.grid(1)
    if i < rows:
        p[i * by] = permuted(key, i, rows, left, right)


@checked(changing=True)
def permutation(seed: int, epoch: int, out: DeviceArray, stream: Stream = 0) -> None:
    """Write the order in which the training loop visits the rows in an epoch.

    Parameters
    ----------
    seed, epoch : int
        Choose the permutation.
    out : device array (m,), int64
        Receives a permutation of range(m).
    stream : stream, optional
        Where it is queued.
    """
    run(_permutation, line(out.shape[0]), stream, seed, epoch, out.shape[0], out.address, *out.strides)

"""Dropout (Srivastava et al. 2014), inverted: the masks of `kernels.cpu.dropout`, number for number.

Which units a sample loses is a pure function of (seed, epoch, layer, the sample's place in the epoch, unit): no mask is
stored, and the backward pass draws the same numbers again.
"""

from ..annotations import DeviceArray, Stream
from ..formulas import CHANCE_BITS
from ..randomness import DROPOUT
from .formulas import formulas_of
from .launch import operand, place, plane, run
from .primitives import global_at
from .rng import layer_key, stream_key
from .toolchain import device, for_each_real, kernel


@for_each_real
def dropped_of(real):
    """A value of one unit of one sample, dropped or divided by the share of the units that is kept."""
    formulas, zero, one, all_chances = formulas_of(real), real(0.0), real(1.0), 1 << CHANCE_BITS
    sample_word, chance, share = formulas.sample_word, formulas.chance, real(1.0 / all_chances)

    @device
    def dropped(key, threshold, sample, unit, value):
        kept = one - real(threshold) * share  # exact: numbers of 24 bits
        return zero if chance(sample_word(key, sample), unit) < threshold else value * (one / kept)

    return dropped


@for_each_real
def dropout_of(real):
    """Out = A with units dropped, any strides."""
    dropped = dropped_of(real)

    @kernel(256)
    def drop(threshold, seed, epoch, layer, first, rows, columns, a, rs_a, cs_a, out, rs_out, cs_out):
        i, j = place()
        if i < rows and j < columns:
            key, value = layer_key(stream_key(seed, DROPOUT, epoch), layer), global_at(a, real)[i * rs_a + j * cs_a]
            global_at(out, real)[i * rs_out + j * cs_out] = dropped(key, threshold, first + i, j, value)

    return drop


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
    a = operand("A", A, 2)
    q, threshold = operand("out", out, 2, a.dtype), round(rate * (1 << CHANCE_BITS))
    arguments = threshold, seed, epoch, layer, first, *a.shape, a.address, *a.strides, q.address, *q.strides
    run(dropout_of(a.dtype.type), plane(*a.shape), stream, *arguments)

"""The order of the rows in an epoch, by `kernels.randomness`."""

from .. import randomness
from ..annotations import Integers
from ..compiler import jit
from ..options import EXACT
from .memory import address_of

_FUNCTIONS = randomness.make(jit(EXACT))
stream_key, layer_key = _FUNCTIONS.stream_key, _FUNCTIONS.layer_key
half_bits, permuted = _FUNCTIONS.half_bits, _FUNCTIONS.permuted


@jit(EXACT, public=True)
def permutation(seed: int, epoch: int, out: Integers) -> None:
    """Write the order in which the training loop visits the rows in an epoch.

    Parameters
    ----------
    seed, epoch : int
        Choose the permutation.
    out : array (m,), int64
        Receives a permutation of range(m).
    """
    rows = out.size
    left, right = half_bits(rows)
    key = stream_key(seed, randomness.SHUFFLE, epoch)
    p = address_of(out)
    for i in range(rows):
        p[i * (out.strides[0] // 8)] = permuted(key, i, rows, left, right)

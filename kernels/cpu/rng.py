"""Randomness as a pure function of (seed, epoch, index): the same on any thread, machine or backend.

The shuffle is a permutation that can be asked for one index: a Feistel network over the smallest power of two that
holds the rows, walked again while it lands outside them (Black and Rogaway 2002). Nothing is stored or swapped.
"""

import numpy as np

from ..annotations import Integers
from ..options import EXACT, jit
from .memory import address_of

ROUNDS = 6  # four make a strong pseudorandom permutation (Luby and Rackoff 1988); two more for the cheap mixing below


@jit(EXACT)
def mix(x):
    """A well-mixed 64-bit function of x: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@jit(EXACT)
def half_bits(rows):
    """Bits of the halves of the network over `rows` indices: (left, right)."""
    bits = 2
    while (1 << bits) < rows:
        bits += 1
    return bits // 2, bits - bits // 2


@jit(EXACT)
def permuted(key, index, rows, left_bits, right_bits):
    """Where a permutation of range(rows), chosen by `key`, sends `index`."""
    value = np.uint64(index)
    left_size, right_size = np.uint64(left_bits), np.uint64(right_bits)
    left_mask, right_mask = (np.uint64(1) << left_size) - np.uint64(1), (np.uint64(1) << right_size) - np.uint64(1)
    limit = np.uint64(rows)
    while True:
        left, right = value >> right_size, value & right_mask
        for i in range(0, ROUNDS, 2):
            left ^= _round(right, key, i) & left_mask
            right ^= _round(left, key, i + 1) & right_mask
        value = (left << right_size) | right
        if value < limit:
            return np.int64(value)


@jit(EXACT)
def _round(half, key, i):
    x = (half + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)) ^ key
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


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
    key = mix(mix(np.uint64(seed)) ^ np.uint64(epoch))
    p = address_of(out)
    for i in range(rows):
        p[i * (out.strides[0] // 8)] = permuted(key, i, rows, left, right)

"""Randomness as a pure function of (seed, epoch, index): the same on any thread, machine or backend.

The shuffle is a permutation that can be asked for one index: a Feistel network over the smallest power of two that
holds the rows, walked again while it lands outside them (Black and Rogaway 2002). Nothing is stored or swapped.
"""

from types import SimpleNamespace

import numpy as np

ROUNDS = 6  # four make a strong pseudorandom permutation (Luby and Rackoff 1988); two more for the cheap mixing below
# Streams set the numbers of one use apart from those of another; not ints, for each of which Numba would compile anew
SHUFFLE, DROPOUT = np.int64(0), np.int64(0x5851F42D4C957F2D)
CHANCE_BITS = 24  # of the numbers that dropout draws


def make(jit):
    """The functions, on integers of 64 bits, each compiled by the decorator `jit`.

    Parameters
    ----------
    jit : callable
        Decorator.

    Returns
    -------
    namespace
        `stream_key(seed, stream, epoch)`, an unsigned integer; `half_bits(rows)` and `permuted(key, index, rows,
        left_bits, right_bits)`, the shuffle; `layer_key(key, layer)`, which dropout gives to `sample_word` of
        `make_masks`.
    """

    @jit
    def mixed(x):
        """A well-mixed 64-bit function of x: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
        x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    @jit
    def stream_key(seed, stream, epoch):
        """What all numbers of a stream in an epoch are drawn from."""
        return mixed(mixed(np.uint64(seed) ^ np.uint64(stream)) ^ np.uint64(epoch))

    @jit
    def layer_key(key, layer):
        """What the masks before one layer are drawn from, of the key of an epoch."""
        return np.int64(mixed(np.uint64(key) + np.uint64(layer)) >> np.uint64(32))

    @jit
    def half_bits(rows: int) -> tuple[int, int]:
        """Bits of the two halves of the network that permutes `rows` indices.

        Parameters
        ----------
        rows : int
            At least 1.

        Returns
        -------
        tuple (left, right)
            The last two arguments of `permuted`.
        """
        bits = 2
        while (1 << bits) < rows:
            bits += 1
        return bits // 2, bits - bits // 2

    @jit
    def scrambled(half, key, i):
        x = (half + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)) ^ key
        x *= np.uint64(0xD6E8FEB86659FD93)
        return x ^ (x >> np.uint64(32))

    @jit
    def permuted(key: int, index: int, rows: int, left_bits: int, right_bits: int) -> int:
        """Where a permutation of range(rows), chosen by `key`, sends `index`.

        Parameters
        ----------
        key : int
            Of the epoch, unsigned.
        index : int
            Place in the order, from 0.
        rows : int
            How many there are.
        left_bits, right_bits : int
            What `half_bits(rows)` gives.

        Returns
        -------
        int
            The row that stands there.
        """
        value = np.uint64(index)
        left_size, right_size = np.uint64(left_bits), np.uint64(right_bits)
        left_mask, right_mask = (np.uint64(1) << left_size) - np.uint64(1), (np.uint64(1) << right_size) - np.uint64(1)
        limit = np.uint64(rows)
        while True:
            left, right = value >> right_size, value & right_mask
            for i in range(0, ROUNDS, 2):
                left ^= scrambled(right, key, i) & left_mask
                right ^= scrambled(left, key, i + 1) & right_mask
            value = (left << right_size) | right
            if value < limit:
                return np.int64(value)

    return SimpleNamespace(stream_key=stream_key, layer_key=layer_key, half_bits=half_bits, permuted=permuted)


def make_masks(jit):
    """The functions behind dropout, on integers of 32 or 64 bits or vectors of them, compiled by the decorator `jit`.

    Parameters
    ----------
    jit : callable
        Decorator.

    Returns
    -------
    namespace
        `chance(sample_word(key, sample), unit)` is the random number, of CHANCE_BITS bits, of a unit and a sample.
    """

    @jit
    def mixed(x):
        """A well-mixed 32-bit function of the low 32 bits of x (the mixer "lowbias32", Wellons 2018)."""
        x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ ((x >> 15) & 0x1FFFF)) * 0x846CA68B & 0xFFFFFFFF
        return x ^ ((x >> 16) & 0xFFFF)

    @jit
    def sample_word(key, sample):
        return mixed((sample ^ key) & 0xFFFFFFFF)

    @jit
    def chance(word, unit):
        x = (word + unit * 0x9E3779B1) & 0xFFFFFFFF  # 2^32 over the golden ratio, to the next prime
        return (mixed(x) >> 8) & 0xFFFFFF

    return SimpleNamespace(sample_word=sample_word, chance=chance)

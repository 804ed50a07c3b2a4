"""Randomness as a pure function of (seed, epoch, index): the shuffle of `kernels.cpu.rng`, number for number.

The shuffle is a permutation that can be asked for one index: a Feistel network over the smallest power of two that
holds the rows, walked again while it lands outside them (Black and Rogaway 2002). Nothing is stored or swapped.
"""

import numpy as np

from .launch import line, operand, run
from .primitives import global_at
from .toolchain import cuda, device, kernel

ROUNDS = 6


@device
def mix(x):
    """A well-mixed 64-bit function of x: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@device
def epoch_key(seed, epoch):
    """What the order of the rows in an epoch is drawn from."""
    return mix(mix(np.uint64(seed)) ^ np.uint64(epoch))


@device
def half_bits(rows):
    """Bits of the halves of the network over `rows` indices: (left, right)."""
    bits = 2
    while (1 << bits) < rows:
        bits += 1
    return bits // 2, bits - bits // 2


@device
def _round(half, key, i):
    x = (half + np.uint64(i + 1) * np.uint64(0x9E3779B97F4A7C15)) ^ key
    x *= np.uint64(0xD6E8FEB86659FD93)
    return x ^ (x >> np.uint64(32))


@device
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


@kernel(256)
def _permutation(seed, epoch, rows, out, by):
    p = global_at(out, np.int64)
    left, right = half_bits(rows)
    key = epoch_key(seed, epoch)
    i = cuda.grid(1)
    if i < rows:
        p[i * by] = permuted(key, i, rows, left, right)


def permutation(seed, epoch, out, stream=0):
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
    out = operand("out", out, 1, np.int64)
    run(_permutation, line(out.shape[0]), stream, seed, epoch, out.shape[0], out.address, *out.strides)

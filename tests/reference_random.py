"""The twins of what is drawn at random: on Python ints, one number at a time."""

import numpy as np

_WORD = (1 << 64) - 1


def _mix(x):
    """The finaliser of SplitMix64, on Python ints."""
    x = (x + 0x9E3779B97F4A7C15) & _WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


def _mix_half(x):
    """The mixer "lowbias32" of 32-bit numbers, on Python ints."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & 0xFFFFFFFF
    x = ((x ^ (x >> 15)) * 0x846CA68B) & 0xFFFFFFFF
    return x ^ (x >> 16)


def dropout_mask(rate, seed, epoch, layer, first, samples, units):
    """What dropout multiplies by, (samples, units): sample i is number first + i of the epoch."""
    key = _mix((_mix(_mix(seed ^ 0x5851F42D4C957F2D) ^ epoch) + layer) & _WORD) >> 32
    threshold = round(rate * 2**24)
    mask = np.zeros((samples, units))
    for i, j in np.ndindex(samples, units):
        word = _mix_half(((first + i) ^ key) & 0xFFFFFFFF)
        drawn = _mix_half((word + j * 0x9E3779B1) & 0xFFFFFFFF) >> 8
        mask[i, j] = 0.0 if drawn < threshold else 1.0 / (1.0 - threshold / 2**24)
    return mask


def permutation(seed, epoch, m):
    """Order of the rows in a shuffled epoch: a six-round Feistel network, walked until it lands below m."""
    bits = max(2, (m - 1).bit_length())
    right_bits = bits - bits // 2
    left_mask, right_mask = (1 << bits // 2) - 1, (1 << right_bits) - 1
    key = _mix(_mix(seed) ^ epoch)

    def scramble(half, i):
        x = (half + (i + 1) * 0x9E3779B97F4A7C15) & _WORD
        x = ((x ^ key) * 0xD6E8FEB86659FD93) & _WORD
        return x ^ (x >> 32)

    def walk(value):
        while True:
            left, right = value >> right_bits, value & right_mask
            for i in (0, 2, 4):
                left ^= scramble(right, i) & left_mask
                right ^= scramble(left, i + 1) & right_mask
            value = (left << right_bits) | right
            if value < m:
                return value

    return np.array([walk(i) for i in range(m)], dtype=np.int64)

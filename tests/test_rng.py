"""The shuffle: a permutation for every size, fixed by (seed, epoch), without visible order."""

import itertools

import numpy as np
import pytest
import reference_random
from numba import njit

from fastnn.kernels.cpu import rng


@njit
def compiled_permutation(seed, epoch, out):
    rng.permutation(seed, epoch, out)


def permutation(seed, epoch, m):
    out = np.full(m, -1, dtype=np.int64)
    rng.permutation(seed, epoch, out)
    return out


def test_every_size_gives_a_permutation():
    for m in (*range(130), 255, 256, 257, 1000, 4095, 4096, 4097, 65537):
        assert np.array_equal(np.sort(permutation(3, 1, m)), np.arange(m)), m


@pytest.mark.parametrize("m", [1, 2, 3, 5, 64, 65, 1000])
def test_it_is_the_permutation_of_the_reference(m):
    for seed, epoch in [(0, 0), (0, 1), (1, 0), (12345, 678), (2**62, 2**40)]:
        expected = reference_random.permutation(seed, epoch, m)
        assert np.array_equal(permutation(seed, epoch, m), expected)
        out = np.empty(m, np.int64)
        compiled_permutation(seed, epoch, out)
        assert np.array_equal(out, expected)


def test_seed_and_epoch_both_choose():
    seen = {tuple(permutation(seed, epoch, 30)) for seed in range(20) for epoch in range(20)}
    assert len(seen) == 400


@pytest.mark.parametrize("m", [2, 3, 4])
def test_every_order_of_a_few_rows_comes_about_equally_often(m):
    orders = list(itertools.permutations(range(m)))
    draws = 200 * len(orders)
    counts = dict.fromkeys(orders, 0)
    for epoch in range(draws):
        counts[tuple(permutation(0, epoch, m))] += 1
    # five standard deviations of a binomial count
    assert all(abs(count - 200) < 5 * 200**0.5 for count in counts.values()), counts


@pytest.mark.parametrize("m", [10, 37])
def test_every_row_comes_at_every_place_equally_often(m):
    draws = 200 * m
    counts = np.zeros((m, m))
    for epoch in range(draws):
        counts[np.arange(m), permutation(1, epoch, m)] += 1
    chi_square = ((counts - 200) ** 2 / 200).sum()
    freedom = (m - 1) ** 2
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_neighbours_are_torn_apart():
    order = permutation(2, 0, 10_000)
    places = np.argsort(order)
    assert abs(np.corrcoef(places[:-1], places[1:])[0, 1]) < 0.05
    assert (np.diff(order) == 1).sum() < 10

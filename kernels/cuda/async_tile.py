"""The product of float32 matrices, C = A B, with its epilogue: panels come by copies that no thread waits for.

A block of 256 threads computes a square tile of C, each thread 4 x 4 sums in registers, or in tiles of 128 four times
as many, 64 rows and 64 columns apart. In tiles of 32 they make four teams, and each team takes a quarter of the terms
of a panel; their sums are added in order. Panels of A and B, with a row for each term of the sum, stand in shared
memory, in two buffers: while one is multiplied, the next is on its way there, past the registers. An operand whose
lines are aligned and run across the sum is copied 16 bytes at a time; any other number by number, which transposes it.

Beyond the last term there are zeros. Beyond the last row or column there is the last one again, which takes no test in
the loop: what becomes of it is not written. A finished tile goes through shared memory once more, as in `tile.py`,
whose symbols these are.
"""

import functools

import numpy as np

from .primitives import await_copies, copy1_async, copy4_async, global_at, load4, outer4, shared_memory, store4
from .tiling import ACROSS, ALONG, KEPT, QUARTER, THREADS, finish_of
from .toolchain import cuda, device, kernel

REAL = np.float32
# Sides of tiles, and instructions a multiply-add with each (docs/kernels.md); in `tile.py` it takes 1.84
TILES = {128: 1.12, 64: 1.22, 32: 1.32}
# Numbers of an operand in a panel, eight a thread: in tiles of 128, with half of them 1.22 instructions a multiply-add
HELD = 8 * THREADS
BETWEEN = 8  # more from term to term: so four terms of eight lines, which a warp copies at once, share no bank


def depth_of(tile):
    """Terms of the sum in a panel."""
    return HELD // tile


@functools.cache
def _copies_of(tile, how):
    """(start, copy) of an operand.

    `start`: where this thread's first number stands, in the operand and in a panel; its term; and how far another line
    of it is. `copy`: queue the thread's share of a panel, of which `left` terms are there.
    """
    ld, lines, quarters = tile + BETWEEN, min(tile, QUARTER), tile // 4
    together, apart = THREADS // quarters, THREADS // lines  # terms that all threads copy at once

    @device
    def start_across(p, side, by_side, by_term):
        term, i = cuda.threadIdx.x // quarters, cuda.threadIdx.x % quarters * 4
        return p + (min(i, side - 4) + term * by_term), term * ld + i, np.int32(term), 0

    @device
    def copy_across(to, p, by_term, other, left):
        left = np.int32(left)
        copy4_async(to, p, left > 0)
        copy4_async(to + together * ld, p + together * by_term, left > together)

    @device
    def start_singly(p, side, by_side, by_term):
        t = cuda.threadIdx.x
        term, i = (t & 3) + (t >> 2) // lines * 4, (t >> 2) % lines
        line, other = min(i, side - 1), min(i + QUARTER, side - 1)
        return p + (line * by_side + term * by_term), term * ld + i, np.int32(term), (other - line) * by_side

    @device
    def copy_singly(to, p, by_term, other, left):
        left = np.int32(left)
        for term in range(0, HELD // tile, apart):
            copy1_async(to + term * ld, p, left > term)
            if tile > lines:
                copy1_async(to + (term * ld + QUARTER), p + other, left > term)
            p = p + apart * by_term

    return (start_across, copy_across) if how == ACROSS else (start_singly, copy_singly)


def _twice(add, by):
    """Add terms, and the same number of terms `by` elements on: LLVM unrolls no loop with so many operands."""

    @device
    def add_both(sums, line_a, line_b):
        return add(add(sums, line_a, line_b), line_a + by, line_b + by)

    return add_both


@device
def _add_small(sums, line_a, line_b):
    """The sums of a part with a term of each operand."""
    return (outer4(sums[0], load4(line_a), load4(line_b)),)


@device
def _add_large(sums, line_a, line_b):
    """The sums of the four parts with a term of each."""
    low, high, left, right = load4(line_a), load4(line_a + QUARTER), load4(line_b), load4(line_b + QUARTER)
    a, b, c, d = sums
    return outer4(a, low, left), outer4(b, low, right), outer4(c, high, left), outer4(d, high, right)


@functools.cache
def _sums_of(tile):
    """(what the sums of a thread begin with, add a panel to them, where they stand, make a part whole)."""
    ld, teams = tile + BETWEEN, (QUARTER // tile) ** 2 or 1
    add, terms = _add_large if tile > QUARTER else _add_small, 1
    while terms < depth_of(tile) // teams:
        add, terms = _twice(add, terms * ld), 2 * terms
    nothing_yet = ((REAL(0.0),) * 16,) * (4 if tile > QUARTER else 1)

    @device
    def spot():
        """Row, column and team of this thread's sums: with lanes so, no load of 128 bits takes more than two turns."""
        warp, lane = cuda.threadIdx.x >> 5, cuda.threadIdx.x & 31
        i, j = ((lane & 1) + (lane >> 4) * 2) * 4, (lane >> 1 & 7) * 4
        if teams > 1:
            return (warp & 1) * 16 + i, j, warp >> 1
        return (warp & 3) * 16 + i, (warp >> 2) * 32 + j, 0

    @device
    def gather(part, space):
        """Bring a part of the tile, the sum of those of all teams in order, from the registers to shared memory."""
        i, j, team = spot()
        to = space + ((team * tile + i) * KEPT + j)
        cuda.syncthreads()
        store4(to, part[0], part[1], part[2], part[3])
        store4(to + KEPT, part[4], part[5], part[6], part[7])
        store4(to + 2 * KEPT, part[8], part[9], part[10], part[11])
        store4(to + 3 * KEPT, part[12], part[13], part[14], part[15])
        cuda.syncthreads()
        if teams > 1:
            at = space + ((cuda.threadIdx.x >> 3) * KEPT + (cuda.threadIdx.x & 7) * 4)
            a, b, c, d = load4(at)
            for other in range(1, teams):
                e, f, g, h = load4(at + other * tile * KEPT)
                a, b, c, d = a + e, b + f, c + g, d + h
            store4(at, a, b, c, d)
            cuda.syncthreads()

    return nothing_yet, add, spot, gather


@functools.cache
def async_product_of(tile, how_a, how_b, epilogue, key, sums):
    """C = A B for tiles of `tile` x `tile`, one of TILES, and its epilogue: as `tile.product_of`."""
    (start_a, copy_a), (start_b, copy_b) = _copies_of(tile, how_a), _copies_of(tile, how_b)
    nothing_yet, add_panel, spot, gather = _sums_of(tile)
    zero, finish = REAL(0.0), finish_of(REAL, epilogue, key)
    ld, depth, terms = tile + BETWEEN, depth_of(tile), depth_of(tile) // ((QUARTER // tile) ** 2 or 1)
    panel, sharing = depth * ld, THREADS // tile  # threads that share the sum of a row of A
    stage, size = 2 * panel, 4 * panel  # of A and of B, in two buffers

    @device
    def quarter(part, space, down, right, *rest):
        """Finish a part of the tile."""
        gather(part, space)
        finish(space, down, right, *rest)

    @kernel(THREADS, min_blocks_per_sm=2)
    def product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        space, t = shared_memory(REAL, size), cuda.threadIdx.x
        row0, col0, k0, part_at = (
            cuda.blockIdx.x * tile,
            cuda.blockIdx.y * tile,
            cuda.blockIdx.z * part,
            cuda.blockIdx.z * between,
        )
        by_a, by_b = 1 if how_a == ALONG else cs_a, 1 if how_b == ALONG else rs_b  # from term to term
        left, m, n = np.int32(min(k - k0, part)), m - row0, n - col0
        p, to_a, term_a, other_a = start_a(global_at(a, REAL) + (row0 * rs_a + k0 * by_a), m, rs_a, by_a)
        q, to_b, term_b, other_b = start_b(global_at(b, REAL) + (k0 * by_b + col0 * cs_b), n, cs_b, by_b)
        to_a, to_b = space + to_a, space + (panel + to_b)
        copy_a(to_a, p, by_a, other_a, left - term_a)
        copy_b(to_b, q, by_b, other_b, left - term_b)
        i, j, team = spot()
        acc, line_a, line_b = nothing_yet, space + (team * terms * ld + i), space + (panel + team * terms * ld + j)
        total, adds_up = zero, sums and cuda.blockIdx.y == 0
        current, following = np.int32(0), np.int32(stage)
        while left > 0:
            await_copies()
            cuda.syncthreads()
            if adds_up:
                for term in range(0, HELD // tile, THREADS // tile):
                    total += space[current + term * ld + (t // tile * ld + t % tile)]
            left, p, q = np.int32(left - depth), p + depth * by_a, q + depth * by_b
            copy_a(to_a + following, p, by_a, other_a, left - term_a)
            copy_b(to_b + following, q, by_b, other_b, left - term_b)
            acc = add_panel(acc, line_a + current, line_b + current)
            current, following = following, current
        await_copies()
        if adds_up:
            cuda.syncthreads()
            space[t] = total
            cuda.syncthreads()
            if t < tile and t < m:
                for other in range(1, sharing):
                    total += space[t + other * tile]
                sums_at = global_at(summed, REAL) + part_at
                sums_at[(row0 + t) * by] = total
        to = global_at(c, REAL) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(extra_1, REAL) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(extra_2, REAL) + (row0 * rs_2 + col0 * cs_2)
        m, n = min(m, tile), min(n, tile)
        rest = m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, extra_2 != 0
        quarter(acc[0], space, 0, 0, *rest)
        if tile > QUARTER:
            quarter(acc[1], space, 0, QUARTER, *rest)
            quarter(acc[2], space, QUARTER, 0, *rest)
            quarter(acc[3], space, QUARTER, QUARTER, *rest)

    return product

"""The product of large float32 matrices, C = A B, with its epilogue: panels come by copies that no thread waits for.

A block of 256 threads computes a tile of 128 x 128, each thread four parts of it of 4 x 4, 64 rows and 64 columns
apart, in registers. Panels of A and B, with a row for each term of the sum, stand in shared memory, in two buffers:
while one is multiplied, the next is on its way there, past the registers. An operand whose lines are aligned and run
across the sum is copied 16 bytes at a time; any other number by number, which transposes it.

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
# With 8 x 8 sums a thread: 1.09 to 1.14 instructions a multiply-add (docs/kernels.md); through registers, 1.28 to 1.36
TILE = 2 * QUARTER
DEPTH = 16  # terms of the sum in a panel: with 8, up to 1.22 instructions a multiply-add, and numbers are spilled
LD = TILE + 8  # so four terms of eight lines, which a warp copies at once, are in banks of their own
PANEL = DEPTH * LD
STAGE = 2 * PANEL  # of A and of B
SPACE = 2 * STAGE
NOTHING_YET = ((REAL(0.0),) * 16,) * 4


@functools.cache
def _copies_of(how):
    """(start, copy) of an operand.

    `start`: where this thread's first number stands, in the operand and in a panel; its term; and how far another line
    of it is. `copy`: queue the thread's share of a panel, of which `left` terms are there.
    """

    @device
    def start_across(p, side, by_side, by_term):
        t = cuda.threadIdx.x
        term, i = t >> 5, (t & 31) * 4
        return p + (min(i, side - 4) + term * by_term), term * LD + i, np.int32(term), 0

    @device
    def copy_across(to, p, by_term, other, left):
        left = np.int32(left)
        copy4_async(to, p, left > 0)
        copy4_async(to + 8 * LD, p + 8 * by_term, left > 8)

    @device
    def start_singly(p, side, by_side, by_term):
        t = cuda.threadIdx.x
        term, i = t & 3, t >> 2
        line, other = min(i, side - 1), min(i + QUARTER, side - 1)
        return p + (line * by_side + term * by_term), term * LD + i, np.int32(term), (other - line) * by_side

    @device
    def copy_singly(to, p, by_term, other, left):
        left = np.int32(left)
        for term in range(0, DEPTH, 4):
            copy1_async(to + term * LD, p, left > term)
            copy1_async(to + (term * LD + QUARTER), p + other, left > term)
            p = p + 4 * by_term

    return (start_across, copy_across) if how == ACROSS else (start_singly, copy_singly)


def _twice(add, by):
    """Add terms, and the same number of terms `by` elements on: LLVM unrolls no loop with so many operands."""

    @device
    def add_both(sums, line_a, line_b):
        return add(add(sums, line_a, line_b), line_a + by, line_b + by)

    return add_both


@device
def _add_term(sums, line_a, line_b):
    """The sums of the four parts with a term of each."""
    low, high, left, right = load4(line_a), load4(line_a + QUARTER), load4(line_b), load4(line_b + QUARTER)
    a, b, c, d = sums
    return outer4(a, low, left), outer4(b, low, right), outer4(c, high, left), outer4(d, high, right)


_add_panel = _twice(_twice(_twice(_twice(_add_term, LD), 2 * LD), 4 * LD), 8 * LD)


@functools.cache
def large_product_of(how_a, how_b, epilogue, key, sums):
    """C = A B for tiles of 128 x 128, and its epilogue: as `tile.product_of`."""
    (start_a, copy_a), (start_b, copy_b) = _copies_of(how_a), _copies_of(how_b)
    zero, finish = REAL(0.0), finish_of(REAL, epilogue, key)

    @device
    def spot():
        """Row and column of this thread's first part: with lanes so, no load of 128 bits takes more than two turns."""
        warp, lane = cuda.threadIdx.x >> 5, cuda.threadIdx.x & 31
        return (warp & 3) * 16 + ((lane & 1) + (lane >> 4) * 2) * 4, (warp >> 2) * 32 + (lane >> 1 & 7) * 4

    @device
    def quarter(part, space, down, right, *rest):
        """Finish a part of the tile: from registers to shared memory, and from there in whole lines."""
        i, j = spot()
        to = space + (i * KEPT + j)
        cuda.syncthreads()
        store4(to, part[0], part[1], part[2], part[3])
        store4(to + KEPT, part[4], part[5], part[6], part[7])
        store4(to + 2 * KEPT, part[8], part[9], part[10], part[11])
        store4(to + 3 * KEPT, part[12], part[13], part[14], part[15])
        cuda.syncthreads()
        finish(space, down, right, *rest)

    @kernel(THREADS, min_blocks_per_sm=2)
    def product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        space, t = shared_memory(REAL, SPACE), cuda.threadIdx.x
        row0, col0, k0, part_at = (
            cuda.blockIdx.x * TILE,
            cuda.blockIdx.y * TILE,
            cuda.blockIdx.z * part,
            cuda.blockIdx.z * between,
        )
        by_a, by_b = 1 if how_a == ALONG else cs_a, 1 if how_b == ALONG else rs_b  # from term to term
        left, m, n = np.int32(min(k - k0, part)), m - row0, n - col0
        p, to_a, term_a, other_a = start_a(global_at(a, REAL) + (row0 * rs_a + k0 * by_a), m, rs_a, by_a)
        q, to_b, term_b, other_b = start_b(global_at(b, REAL) + (k0 * by_b + col0 * cs_b), n, cs_b, by_b)
        to_a, to_b = space + to_a, space + (PANEL + to_b)
        copy_a(to_a, p, by_a, other_a, left - term_a)
        copy_b(to_b, q, by_b, other_b, left - term_b)
        i, j = spot()
        acc, line_a, line_b = NOTHING_YET, space + i, space + (PANEL + j)
        total, adds_up = zero, sums and cuda.blockIdx.y == 0 and t < TILE
        current, following = np.int32(0), np.int32(STAGE)
        while left > 0:
            await_copies()
            cuda.syncthreads()
            if adds_up:
                for term in range(DEPTH):
                    total += space[current + term * LD + t]
            left, p, q = np.int32(left - DEPTH), p + DEPTH * by_a, q + DEPTH * by_b
            copy_a(to_a + following, p, by_a, other_a, left - term_a)
            copy_b(to_b + following, q, by_b, other_b, left - term_b)
            acc = _add_panel(acc, line_a + current, line_b + current)
            current, following = following, current
        await_copies()
        if adds_up and t < m:
            sums_at = global_at(summed, REAL) + part_at
            sums_at[(row0 + t) * by] = total
        to = global_at(c, REAL) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(extra_1, REAL) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(extra_2, REAL) + (row0 * rs_2 + col0 * cs_2)
        rest = m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, extra_2 != 0
        quarter(acc[0], space, 0, 0, *rest)
        quarter(acc[1], space, 0, QUARTER, *rest)
        quarter(acc[2], space, QUARTER, 0, *rest)
        quarter(acc[3], space, QUARTER, QUARTER, *rest)

    return product

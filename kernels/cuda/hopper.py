"""The product of large float32 matrices by Hopper's tensor instruction (compute capability 9.0), as tf32 or bfloat16.

The instruction, wgmma, takes both operands from shared memory, where they must be rounded already and stand in an
order of its own. So a first kernel, `twins`, writes a rounded twin of each operand to working space, in just that
order, panel behind panel, whatever the strides of the operand. One copy in bulk, which takes no thread and no
description of the matrix, then brings a panel. To round float32 panels on their way, in each block anew, would take
twice the bytes out of L2: at 4,096 in bfloat16 3.2 GB or 0.39 ms, beside 0.20 ms for twins and 0.06 for making them.

A line is a row of A or a column of B. A panel has 128 lines of 128 bytes each: 64 terms of the sum in bfloat16, 32 in
tf32. A unit has 16 bytes; unit u of line i stands in place u ^ (i & 7) of its line, the swizzle of 128 bytes of the PTX
manual. Beyond the last line or term there are zeros. A twin has all panels of its first 128 lines, then those of the
next; of B an even number of such blocks.

A block of `wgmma_product` computes a tile of C of 128 x 256. One thread queues the copies of a panel of A and of two of
B into one of four stages; two groups of 128 threads multiply, 64 rows each, and set stages free. The finished tile goes
through shared memory, as in `tile.py`, whose symbols these are.
"""

import functools
from typing import NamedTuple

import numpy as np

from .primitives import (
    arrive,
    arrive_and_expect,
    await_phase,
    await_products,
    await_products_but_one,
    bf16_pair,
    copy_in_bulk,
    global_at,
    init_barrier,
    load4,
    opaque,
    publish_barriers,
    quotient,
    shared_address,
    shared_memory,
    store4,
    store_sums,
    tf32_of,
    viewed,
    warp_sum,
    wgmma_bf16,
    wgmma_tf32,
)
from .tiling import ALONG, KEPT, QUARTER, SINGLY, THREADS, finish_of, four_of
from .toolchain import cuda, device, kernel

REAL = np.float32
LINES, UNITS = 128, 8  # of a panel, and of a line of it
PANEL = LINES * UNITS * 4  # words
TOTALS = LINES * UNITS  # sums of a unit each
DOWN, RIGHT = LINES, 2 * LINES  # of a tile: with 256 columns an instruction reads least for what it multiplies
STAGE = 3 * PANEL  # of A, and twice of B
STAGES = 4
BARRIERS = 4 * STAGES  # numbers in the place of two for each stage
ALIGNED = 1024  # bytes, after which the swizzle repeats
SHARED = 4 * STAGES * STAGE + ALIGNED  # bytes
BLOCK = THREADS + 32  # the last warp queues the copies
WARPS = 8  # of a block of `line_sums`
# Rows, columns and terms from which on twins pay by the counts above, and blocks of one wave on an H100, of which at
# least half must have work (estimates)
LEAST_SIDE, FULL = 256, 132
LEAST_PANELS = 4  # of a part of a sum that is worth a block of its own (an estimate)
# A descriptor's fields beside the address: 1,024 bytes from eight lines to the next eight, swizzled by 128 bytes
DESCRIBED = 1 << 62 | 1024 >> 4 << 32 | 1 << 16
NOTHING_YET = (REAL(0.0),) * 128
PIECE = QUARTER * KEPT  # of a part of the tile that is finished at once, in shared memory


def terms_of(precision):
    """Terms of the sum in a panel."""
    return 4 * UNITS * (1 if precision == "tf32" else 2)


class Cut(NamedTuple):
    """How a product is cut, and where in working space its parts stand, in elements from its start.

    `panels`: of a line; `part`: panels of each of the `parts` of the sum. `twins`: of A and of B; `sums`: those of the
    lines of A, panel by panel; `results`: the parts of C, `between` elements apart. `size`: of all.
    """

    panels: int
    part: int
    parts: int
    twins: tuple[int, int]
    sums: int
    results: int
    between: int
    size: int


def cut_of(m, n, k, precision, whole=False):
    """How a product is cut, by its shape alone, so that the same bits come out; None where it had better be another's.

    `whole`: its sum is not cut into parts.
    """
    if min(m, n, k) < LEAST_SIDE:
        return None
    down, right, panels = -(-m // DOWN), -(-n // RIGHT), -(-k // terms_of(precision))
    part = -(-panels // (1 if whole else max(1, min(panels // LEAST_PANELS, FULL // (down * right)))))
    parts = -(-panels // part)
    if 2 * down * right * parts < FULL:
        return None
    of_b = down * panels * PANEL
    sums = of_b + 2 * right * panels * PANEL
    results, between = sums + down * DOWN * panels, -(-m * n // 4) * 4
    size = results + (parts * between if parts > 1 else 0)
    return Cut(panels, part, parts, (0, of_b), sums, results, between, size)


@functools.cache
def twins_of(precision):
    """The twins of A and B; `sums` receives the sums of the lines of A in each panel, not rounded, or is 0.

    A thread takes a unit of a line. B is given by its lines, too, (n, k). `along`: the terms of a line can be read four
    at a time.
    """
    in_word, terms = 1 if precision == "tf32" else 2, terms_of(precision)
    of_unit = 4 * in_word

    def unit_of(how):
        four = four_of(REAL, how)

        @device
        def unit(p, line, term, side, left, by_line, by_term):
            """Four words, and the sum of their numbers."""
            a, b, c, d = four(p, line, term, side, left, by_line, by_term)
            total = (a + b) + (c + d)
            if in_word == 1:
                return tf32_of(a), tf32_of(b), tf32_of(c), tf32_of(d), total
            e, f, g, h = four(p, line, term + 4, side, left, by_line, by_term)
            total += (e + f) + (g + h)
            return bf16_pair(a, b), bf16_pair(c, d), bf16_pair(e, f), bf16_pair(g, h), total

        return unit

    unit_along, unit_singly = unit_of(ALONG), unit_of(SINGLY)

    @kernel(THREADS, min_blocks_per_sm=4)
    def twins(m, n, k, a, rs_a, cs_a, along_a, b, rs_b, cs_b, along_b, twin_a, twin_b, sums):
        words, t = viewed(shared_memory(REAL, PANEL), np.uint32), cuda.threadIdx.x
        totals = shared_memory(REAL, TOTALS)
        panels = quotient(k + (terms - 1), terms)
        block = quotient(cuda.blockIdx.x, panels)
        panel, of_a = cuda.blockIdx.x - block * panels, block * LINES < m
        if of_a:
            p, side, by_line, by_term, along, out = global_at(a, REAL), m, rs_a, cs_a, along_a, twin_a
        else:
            block -= (m + (LINES - 1)) >> 7
            p, side, by_line, by_term, along, out = global_at(b, REAL), n, rs_b, cs_b, along_b, twin_b
        p = p + (block * LINES * by_line + panel * terms * by_term)
        side, left, adds_up = side - block * LINES, k - panel * terms, of_a and sums != 0
        for i in range(LINES * UNITS // THREADS):
            task = t + i * THREADS
            if along != 0:  # lanes go along the terms, which are read in whole lines
                line, u = task >> 3, task & 7
                w0, w1, w2, w3, total = unit_along(p, line, of_unit * u, side, left, by_line, by_term)
            else:
                line, u = task & (LINES - 1), task >> 7
                w0, w1, w2, w3, total = unit_singly(p, line, of_unit * u, side, left, by_line, by_term)
            store4(words + (4 * UNITS * line + 4 * (u ^ line & 7)), w0, w1, w2, w3)
            if adds_up:
                totals[u * LINES + line] = total
        cuda.syncthreads()
        to = global_at(out, np.uint32) + (block * panels + panel) * PANEL
        for i in range(PANEL // (4 * THREADS)):
            at = 4 * (t + i * THREADS)
            w0, w1, w2, w3 = load4(words + at)
            store4(to + at, w0, w1, w2, w3)
        if adds_up and t < LINES:
            total = totals[t]
            for u in range(1, UNITS):
                total += totals[u * LINES + t]
            global_at(sums, REAL)[(block * LINES + t) * panels + panel] = total

    return twins


@kernel(32 * WARPS)
def line_sums(m, panels, sums, summed, by):
    """The sums of the lines of A from those of its panels, a warp a line."""
    line, j, total = cuda.grid(1) >> 5, cuda.threadIdx.x & 31, REAL(0.0)
    if line < m:
        while j < panels:
            total += global_at(sums, REAL)[line * panels + j]
            j += 32
        total = warp_sum(total)
        if cuda.threadIdx.x & 31 == 0:
            global_at(summed, REAL)[line * by] = total


@device
def _bring(space, full, free, p, q, by_block, count):
    """Copy so many panels of A and pairs of panels of B, each into the next stage that is free."""
    stage, parity = np.int32(0), np.int32(1)
    while count > 0:
        to = space + stage * STAGE
        await_phase(free + stage, parity)
        arrive_and_expect(full + stage, 4 * STAGE)
        copy_in_bulk(to, p, 4 * PANEL, full + stage)
        copy_in_bulk(to + PANEL, q, 4 * PANEL, full + stage)
        copy_in_bulk(to + 2 * PANEL, q + by_block, 4 * PANEL, full + stage)
        p, q, count, stage = p + PANEL, q + PANEL, np.int32(count - 1), np.int32(stage + 1)
        if stage == STAGES:
            stage, parity = np.int32(0), np.int32(parity ^ 1)


@functools.cache
def _multiply_of(precision):
    """The sums of a warpgroup's half of the tile, from so many panels as they come."""
    tf32, by_stage = precision == "tf32", STAGE // 4  # in units

    @device
    def multiply(acc, space, full, free, count):
        t, stage, before, parity = cuda.threadIdx.x, np.int32(0), np.int32(-1), np.int32(0)
        described = shared_address(space) >> 4 | DESCRIBED
        a, b = described + (t >> 7) * (PANEL // 8), described + PANEL // 4
        while count > 0:
            await_phase(full + stage, parity)
            if tf32:
                acc = wgmma_tf32(acc, a + stage * by_stage, b + stage * by_stage)
            else:
                acc = wgmma_bf16(acc, a + stage * by_stage, b + stage * by_stage)
            await_products_but_one()
            if t & 31 == 0 and before >= 0:
                arrive(free + before, 1)
            before, count, stage = stage, np.int32(count - 1), np.int32(stage + 1)
            if stage == STAGES:
                stage, parity = np.int32(0), np.int32(parity ^ 1)
        await_products()
        return acc

    return multiply


@functools.cache
def wgmma_product_of(precision, epilogue, key):
    """C = A B from the twins of A and B, and its epilogue as `tile.product_of` has it; `part`: in panels."""
    multiply, finish = _multiply_of(precision), finish_of(REAL, epilogue, key)

    @kernel(BLOCK, min_blocks_per_sm=1)
    def wgmma_product(
        m, n, panels, twin_a, twin_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2,
    ):  # fmt: skip
        full, t = viewed(shared_memory(REAL, BARRIERS), np.int64), cuda.threadIdx.x
        space, free = shared_memory(REAL, 0), full + STAGES
        space = space + ((-shared_address(space) & (ALIGNED - 1)) >> 2)
        if t == 0:
            for stage in range(STAGES):
                init_barrier(full + stage, 1)
                init_barrier(free + stage, THREADS // 32)
            publish_barriers()
        cuda.syncthreads()
        row0, col0, first = cuda.blockIdx.x * DOWN, cuda.blockIdx.y * RIGHT, cuda.blockIdx.z * part
        count, acc, words = np.int32(min(panels - first, part)), NOTHING_YET, viewed(space, np.uint32)
        if t == THREADS:
            p = global_at(twin_a, np.uint32) + (cuda.blockIdx.x * panels + first) * PANEL
            q = global_at(twin_b, np.uint32) + (2 * cuda.blockIdx.y * panels + first) * PANEL
            _bring(words, full, free, p, q, panels * PANEL, count)
        elif t < THREADS:
            acc = multiply(acc, words, full, free, count)
        cuda.syncthreads()
        if t < THREADS:  # as the lanes of a warp hold them
            i = (t >> 5 & 3) * 16 + (t >> 2 & 7)
            store_sums(space + ((t >> 7) * 4 * PIECE + i * KEPT + (t & 3) * 2), acc, KEPT, PIECE)
        cuda.syncthreads()
        to = global_at(c, REAL) + (cuda.blockIdx.z * between + row0 * rs_c + col0 * cs_c)
        at_1 = global_at(extra_1, REAL) + (row0 * rs_1 + col0 * cs_1)
        at_2 = global_at(extra_2, REAL) + (row0 * rs_2 + col0 * cs_2)
        rest = m - row0, n - col0, to, rs_c, cs_c, wide, param, at_1, rs_1, cs_1, at_2, rs_2, cs_2, extra_2 != 0
        pieces = opaque(8 if t < THREADS else 0)
        for piece in range(pieces):
            finish(space + piece * PIECE, (piece >> 2) * QUARTER, (piece & 3) * QUARTER, *rest)

    return wgmma_product

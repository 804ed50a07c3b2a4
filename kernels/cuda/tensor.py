"""The product of large float32 matrices by the tensor cores: operands rounded to tf32 or bfloat16, sums in float32.

By mma.sync, which all tensor cores from compute capability 8.0 on have; `hopper.py` has Hopper's own instruction.

A block of 256 threads computes a square tile of C, each of its eight warps a half of the rows by a quarter of the
columns. Operands are float32 in the memory of the device. Panels of them pass through registers, where they are
rounded, to shared memory, in two buffers: while one is multiplied, the next is on its way.

A word of shared memory holds one number of tf32, or two of bfloat16 that follow each other along the sum: to the
tensor cores both are matrices of words. They need not know which row, column or term is which, as long as A, B and C
agree. So four words that a lane needs at once are four that one thread fetches, of two rows that stand side by side;
in C, a lane finds four columns side by side. Which of two steps along the sum comes first changes from pair to pair
of rows: neither the lanes that read nor those that write ever share a bank.
"""

import functools

import numpy as np

from .primitives import bf16_pair, global_at, lane_of, load4, mma_bf16, mma_tf32, shared_memory, store4, tf32_of, viewed
from .tiling import ACROSS, ALONG, KEPT, QUARTER, SINGLY, THREADS, finish_of, four_of
from .toolchain import cuda, device, kernel

REAL = np.float32
WORDS = 16  # of a row in shared memory, for two steps along the sum
GROUP = 16 * WORDS  # words of the sixteen rows that a step takes at once
ROWS = 128  # of each operand in a buffer: those of a tile of 64 twice, for twice as many terms
PANEL = ROWS * WORDS  # words of an operand in a buffer
SPACE = 4 * PANEL  # of two operands in two buffers
FETCHERS = THREADS // 2  # threads that fetch A; the others fetch B


@device
def _pair_at(pair):
    """Where the words of two rows for the first step begin in shared memory; for the second, bit 4 is another."""
    return pair * 32 + ((pair ^ pair >> 1) & 1) * 16


@functools.cache
def tensor_product_of(precision, tile, how_a, how_b, epilogue, key, sums):
    """C = A B for tiles of `tile` x `tile`, and its epilogue: as `tile.product_of`, but for the precision."""
    in_word = 1 if precision == "tf32" else 2
    zero, finish, layers = REAL(0.0), finish_of(REAL, epilogue, key), ROWS // tile
    high, wide_of = tile // 2, tile // 4  # of a warp's part of the tile
    downs, rights = high // 16, wide_of // 8  # products of the tensor cores in it
    terms, depth = WORDS * in_word, WORDS * in_word * layers  # of a row, and of what stands in a buffer
    results, columns_held, fetched = 4 * downs * rights, 2 * rights, 16 * in_word
    transposed_a, transposed_b = how_a == ACROSS, how_b == ACROSS
    singly, alike = SINGLY in (how_a, how_b), (how_a == SINGLY) == (how_b == SINGLY)
    four_a, four_b = (four_of(REAL, SINGLY if how == SINGLY else ALONG) for how in (how_a, how_b))

    @device
    def due(stages, tail):
        """How many terms are left to fetch, at most those of a stage."""
        return np.int32(0 if stages <= 0 else tail if stages == 1 else depth)

    @device
    def fetch(held, of_a, transposed, p, side, left, by_r, by_e, by_half):
        """Four rows by four terms, and for bfloat16 the same sixteen terms on; `p[r, e]` is in held[4 r + e].

        Of an operand that is read across, `transposed`, r counts the terms and e the rows.
        """
        for h in range(in_word):
            q, left_here = p + by_half * h, np.int32(left - 16 * h)
            within, across = (left_here, side) if transposed else (side, left_here)
            if not singly:
                within, across = np.int32(within if across > 0 else 0), 1
            for r in range(4):
                at = 16 * h + 4 * r
                if alike or of_a:
                    found = four_a(q, r, 0, within, across, 0, by_e)
                else:
                    found = four_b(q, r, 0, within, across, 0, by_e)
                held[at], held[at + 1], held[at + 2], held[at + 3] = found
                q = q + by_r

    def store_of(transposed, row_by_row):
        to_row, to_term = (1, 4) if transposed else (4, 1)
        later = 2 * to_term if in_word == 1 else 16

        @device
        def words_of(held, at):
            """Two words of a row, rounded."""
            b = at + to_term
            if in_word == 1:
                return tf32_of(held[at]), tf32_of(held[b])
            c, d = b + to_term, b + 2 * to_term
            return bf16_pair(held[at], held[b]), bf16_pair(held[c], held[d])

        @device
        def store(words, target, held):
            """Put what was fetched into two pairs of rows, each as the tensor cores take it."""
            for r in range(2):
                for step in range(2):
                    to, at = words + (target ^ 16 * ((r + step) & 1)) + 32 * r, 2 * r * to_row + step * later
                    (a, b), (c, d) = words_of(held, at), words_of(held, at + to_row)
                    if row_by_row:
                        store4(to, a, b, c, d)
                    else:
                        store4(to, a, c, b, d)

        return store

    store_a, store_b = store_of(transposed_a, False), store_of(transposed_b, True)

    @device
    def multiply_layer(acc, y, words, rows, columns):
        """Add the product of a layer to the warp's part; the lane's places in A and B are given."""
        for step in range(2):
            for j in range(rights // 2):
                y[4 * j], y[4 * j + 1], y[4 * j + 2], y[4 * j + 3] = load4(words + (columns ^ 16 * step) + j * GROUP)
            for i in range(downs):
                x0, x1, x2, x3 = load4(words + (rows ^ 16 * step) + i * GROUP)
                for j in range(rights):
                    c = 4 * (i * rights + j)
                    sums_now = acc[c], acc[c + 1], acc[c + 2], acc[c + 3]
                    if in_word == 1:
                        sums_now = mma_tf32(x0, x1, x2, x3, y[2 * j], y[2 * j + 1], *sums_now)
                    else:
                        sums_now = mma_bf16(x0, x1, x2, x3, y[2 * j], y[2 * j + 1], *sums_now)
                    acc[c], acc[c + 1], acc[c + 2], acc[c + 3] = sums_now

    @device
    def quarter(acc, space, down, right, *rest):
        """Finish a part of the tile: from the registers of the warps whose it is to shared memory, and from there."""
        t = cuda.threadIdx.x
        i, j = (t >> 7) * high - down, (t >> 5 & 3) * wide_of - right
        cuda.syncthreads()
        if 0 <= i < QUARTER and 0 <= j < QUARTER:
            line = space + (i + 2 * (t >> 2 & 7)) * KEPT + j + 4 * (t & 3)
            for d in range(downs):
                for r in range(rights // 2):
                    c, to = 4 * (d * rights + 2 * r), line + 16 * d * KEPT + 16 * r
                    store4(to, acc[c], acc[c + 4], acc[c + 1], acc[c + 5])
                    store4(to + KEPT, acc[c + 2], acc[c + 6], acc[c + 3], acc[c + 7])
        cuda.syncthreads()
        finish(space, down, right, *rest)

    # two blocks side by side hide each other's waiting; numbers of bfloat16 one by one take too many registers for it
    @kernel(THREADS, min_blocks_per_sm=2 if in_word == 1 or tile == 64 or not singly else None)
    def tensor_product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        acc, y = cuda.local.array(results, REAL), cuda.local.array(columns_held, np.uint32)
        held, total = cuda.local.array(fetched, REAL), cuda.local.array(4, REAL)
        for i in range(results):
            acc[i] = zero
        for i in range(4):
            total[i] = zero
        space, t = shared_memory(REAL, SPACE), cuda.threadIdx.x
        row0, col0, k0, part_at = (
            cuda.blockIdx.x * tile,
            cuda.blockIdx.y * tile,
            cuda.blockIdx.z * part,
            cuda.blockIdx.z * between,
        )
        left, m, n = min(k - k0, part), m - row0, n - col0
        # what this thread fetches: four rows of an operand, a quarter of their terms; few bits, so that few registers
        of_a, spot = t < FETCHERS, t % FETCHERS >> 2
        layer, i = spot // (tile // 4), spot % (tile // 4) * 4
        term = layer * terms + (t & 3) * 4
        if of_a:
            p, side, by_side, by_term = global_at(a, REAL) + (row0 * rs_a + k0 * cs_a), m, rs_a, cs_a
        else:
            p, side, by_side, by_term = global_at(b, REAL) + (k0 * rs_b + col0 * cs_b), n, cs_b, rs_b
        p, side, by_half = p + (i * by_side + term * by_term), np.int32(min(side - i, 4)), 16 * by_term
        transposed = transposed_a if of_a else transposed_b
        by_r, by_e = (by_term, by_side) if transposed else (by_side, by_term)
        stages = np.int32((left + depth - 1) // depth)
        tail = np.int32(left - (stages - 1) * depth - term)
        target = (t >> 7) * PANEL + layer * tile * WORDS + _pair_at(i >> 1) + (t & 3) * 4
        # where the lane's numbers stand in the part that its warp multiplies
        lane = _pair_at(t >> 2 & 7) + (t & 3) * 4
        rows, columns = (t >> 7) * high * WORDS + lane, PANEL + (t >> 5 & 3) * wide_of * WORDS + lane
        words, adds_up = viewed(space, np.uint32), sums and cuda.blockIdx.y == 0 and of_a
        fetch(held, of_a, transposed, p, side, due(stages, tail), by_r, by_e, by_half)
        while stages > 0:
            if of_a:
                store_a(words, target, held)
            else:
                store_b(words, target, held)
            cuda.syncthreads()
            if adds_up:
                for r in range(4):
                    for e in range(4 * in_word):
                        total[r] += held[(r + e % 4 * 4 if transposed_a else 4 * r + e % 4) + e // 4 * 16]
            stages, p = np.int32(stages - 1), p + in_word * layers * by_half
            fetch(held, of_a, transposed, p, side, due(stages, tail), by_r, by_e, by_half)
            for at in range(layers):
                multiply_layer(acc, y, words + at * tile * WORDS, rows, columns)
            target, rows, columns = target ^ 2 * PANEL, rows ^ 2 * PANEL, columns ^ 2 * PANEL
        if sums:
            cuda.syncthreads()
            for r in range(4):
                value = total[r]
                value += lane_of(value, 1)
                value += lane_of(value, 2)
                if of_a and t & 3 == 0:
                    space[layer * tile + i + r] = value
            cuda.syncthreads()
            if cuda.blockIdx.y == 0 and t < tile and t < m:
                value = space[t]
                for at in range(1, layers):
                    value += space[at * tile + t]
                sums_at = global_at(summed, REAL) + part_at
                sums_at[(row0 + t) * by] = value
        to = global_at(c, REAL) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(extra_1, REAL) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(extra_2, REAL) + (row0 * rs_2 + col0 * cs_2)
        rest = m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, extra_2 != 0
        quarter(acc, space, 0, 0, *rest)
        if layers == 1:
            quarter(acc, space, 0, QUARTER, *rest)
            quarter(acc, space, QUARTER, 0, *rest)
            quarter(acc, space, QUARTER, QUARTER, *rest)

    return tensor_product

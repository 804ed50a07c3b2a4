"""The product of matrices, C = A B, with its epilogue, in one pass over C: for float64, and for older GPUs.

A block of 256 threads computes a tile of 64 x 64 of C, each thread 4 x 4 of it in registers. Panels of A and B,
transposed so that the sum runs down them, pass through shared memory in two buffers: while one is multiplied, the next
is on its way through registers. A finished tile goes through shared memory once more, so that the epilogue (bias,
activation, its derivative) reads and writes whole lines. Operands whose rows are aligned are read 128 bits at a time;
the same kernel takes any others element by element.

C (m, n), A (m, k), B (k, n); rs and cs: steps from row to row and from column to column in elements; ld: from term to
term of a panel in shared memory; acc: the sums of a thread; left: terms of the sum that are still to come.
"""

import functools

from .primitives import global_at, load4, shared_memory, store4
from .tiling import ACROSS, KEPT, PAD, QUARTER, THREADS, finish_of, four_of
from .toolchain import cuda, device, for_each_real, kernel

DEPTH = 16  # terms of the sum in a panel: each thread then fetches four elements of A and of B
LD = QUARTER + PAD
PANEL = DEPTH * LD
SPACE = 4 * PANEL  # of two operands in two buffers


@for_each_real
def _fetch_of(real, how):
    """The four elements of a panel of an operand that this thread fetches, zeros beyond the operand's edges."""
    four, by_side, by_depth = four_of(real, how), QUARTER // 4, DEPTH // 4

    @device
    def fetch(p, side, left, by_i, by_term):
        t = cuda.threadIdx.x
        term, i = (t // by_side, t % by_side * 4) if how == ACROSS else (t % by_depth * 4, t // by_depth)
        return four(p, i, term, side, left, by_i, by_term)

    return fetch


@functools.cache
def _store_of(how):
    """Put four fetched elements into shared memory, a row for each term of the sum."""
    by_side, by_depth = QUARTER // 4, DEPTH // 4

    @device
    def side_by_side(panel, a, b, c, d):
        t = cuda.threadIdx.x
        store4(panel + t // by_side * LD + t % by_side * 4, a, b, c, d)

    @device
    def transposed(panel, a, b, c, d):
        t = cuda.threadIdx.x
        p = panel + t % by_depth * 4 * LD + t // by_depth
        p[0], p[LD], p[2 * LD], p[3 * LD] = a, b, c, d

    return side_by_side if how == ACROSS else transposed


@for_each_real
def product_of(real, how_a, how_b, epilogue, key, sums):
    """C = A B for tiles of 64 x 64, and its epilogue.

    ACTIVATE: `extra_1` is a bias for each column, C receives g(A B + bias) and, if it is there, `extra_2` A B + bias.
    SLOPE: C = (A B) * g'(extra_1, extra_2). `sums`: `summed` receives the sums of the rows of A. The sum is cut into as
    many parts of `part` terms as the grid has blocks in z; each writes a C and a `summed`, `between` elements apart.
    """
    fetch_a, fetch_b = _fetch_of(real, how_a), _fetch_of(real, how_b)
    store_a, store_b = _store_of(how_a), _store_of(how_b)
    zero, finish = real(0.0), finish_of(real, epilogue, key)

    @kernel(THREADS)
    def product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        acc, x, y = cuda.local.array(16, real), cuda.local.array(4, real), cuda.local.array(4, real)
        for i in range(16):
            acc[i] = zero
        space, t = shared_memory(real, SPACE), cuda.threadIdx.x
        row0, col0, k0, part_at = (
            cuda.blockIdx.x * QUARTER,
            cuda.blockIdx.y * QUARTER,
            cuda.blockIdx.z * part,
            cuda.blockIdx.z * between,
        )
        left, m, n = min(k - k0, part), m - row0, n - col0
        p, q = global_at(a, real) + (row0 * rs_a + k0 * cs_a), global_at(b, real) + (k0 * rs_b + col0 * cs_b)
        total, adds_up = zero, sums and cuda.blockIdx.y == 0 and t < QUARTER
        a0, a1, a2, a3 = fetch_a(p, m, left, rs_a, cs_a)
        b0, b1, b2, b3 = fetch_b(q, n, left, cs_b, rs_b)
        current, following = space, space + 2 * PANEL
        while left > 0:
            store_a(current, a0, a1, a2, a3)
            store_b(current + PANEL, b0, b1, b2, b3)
            cuda.syncthreads()
            left -= DEPTH
            p, q = p + DEPTH * cs_a, q + DEPTH * rs_b
            a0, a1, a2, a3 = fetch_a(p, m, left, rs_a, cs_a)
            b0, b1, b2, b3 = fetch_b(q, n, left, cs_b, rs_b)
            for term in range(DEPTH):
                x[0], x[1], x[2], x[3] = load4(current + (term * LD + (t >> 4) * 4))
                y[0], y[1], y[2], y[3] = load4(current + (PANEL + term * LD + (t & 15) * 4))
                for i in range(4):
                    for j in range(4):
                        acc[4 * i + j] += x[i] * y[j]
            if adds_up:
                for term in range(DEPTH):
                    total += current[term * LD + t]
            current, following = following, current
        if adds_up and t < m:
            sums_at = global_at(summed, real) + part_at
            sums_at[(row0 + t) * by] = total
        to = global_at(c, real) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(extra_1, real) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(extra_2, real) + (row0 * rs_2 + col0 * cs_2)
        cuda.syncthreads()
        for i in range(4):
            line = space + (((t >> 4) * 4 + i) * KEPT + (t & 15) * 4)
            store4(line, acc[4 * i], acc[4 * i + 1], acc[4 * i + 2], acc[4 * i + 3])
        cuda.syncthreads()
        keep = extra_2 != 0
        finish(space, 0, 0, m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, keep)

    return product

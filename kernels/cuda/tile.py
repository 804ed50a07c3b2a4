"""The product of large matrices, C = A B, with its epilogue, in one pass over C.

A block of 256 threads computes a square tile of C, each thread 8 x 8 (or 4 x 4) of it in registers. Panels of A and B,
transposed so that the sum runs down them, pass through shared memory in two buffers: while one is multiplied, the next
is on its way through registers. A finished tile goes through shared memory once more, so that the epilogue (bias,
activation, its derivative) reads and writes whole lines. Operands whose rows are aligned are read 128 bits at a time;
the same kernel takes any others element by element.

C (m, n), A (m, k), B (k, n); rs and cs: steps from row to row and from column to column in elements; ld: from term to
term of a panel in shared memory; acc: the sums of a thread; left: terms of the sum that are still to come.
"""

from .primitives import global_at, load4, shared_memory, store4
from .tiling import ACROSS, KEPT, PAD, QUARTER, THREADS, finish_of, four_of
from .toolchain import cuda, device, for_each_real, kernel

# Measured on an H100 80GB (2026-11-26, float32, sizes of 4,096): 34.6 TFLOP/s, cuBLAS 52.1
DEPTH = {128: 8, 64: 16}  # terms of the sum in a panel: each thread then fetches four elements of A and of B


@for_each_real
def _fetch_of(real, tile, how):
    """The four elements of a panel of an operand that this thread fetches, zeros beyond the operand's edges."""
    four, by_side, by_depth = four_of(real, how), tile // 4, DEPTH[tile] // 4

    @device
    def fetch(p, side, left, by_i, by_term):
        t = cuda.threadIdx.x
        term, i = (t // by_side, t % by_side * 4) if how == ACROSS else (t % by_depth * 4, t // by_depth)
        return four(p, i, term, side, left, by_i, by_term)

    return fetch


@for_each_real
def _store_of(real, tile, how):
    """Put four fetched elements into shared memory, a row for each term of the sum."""
    depth, ld = DEPTH[tile], tile + PAD
    by_side, by_depth = tile // 4, depth // 4

    @device
    def side_by_side(panel, a, b, c, d):
        t = cuda.threadIdx.x
        store4(panel + t // by_side * ld + t % by_side * 4, a, b, c, d)

    @device
    def transposed(panel, a, b, c, d):
        t = cuda.threadIdx.x
        p = panel + t % by_depth * 4 * ld + t // by_depth
        p[0], p[ld], p[2 * ld], p[3 * ld] = a, b, c, d

    return side_by_side if how == ACROSS else transposed


@for_each_real
def product_of(real, tile, how_a, how_b, epilogue, key, sums):
    """C = A B for tiles of `tile` x `tile`, and its epilogue.

    ACTIVATE: `extra_1` is a bias for each column, C receives g(A B + bias) and, if it is there, `extra_2` A B + bias.
    SLOPE: C = (A B) * g'(extra_1, extra_2). `sums`: `summed` receives the sums of the rows of A. The sum is cut into as
    many parts of `part` terms as the grid has blocks in z; each writes a C and a `summed`, `between` elements apart.
    """
    fetch_a, fetch_b = _fetch_of(real, tile, how_a), _fetch_of(real, tile, how_b)
    store_a, store_b = _store_of(real, tile, how_a), _store_of(real, tile, how_b)
    depth, ld, quarters = DEPTH[tile], tile + PAD, tile // QUARTER
    side, panel, zero, finish = 4 * quarters, DEPTH[tile] * (tile + PAD), real(0.0), finish_of(real, epilogue, key)
    results, space_size = side * side, max(4 * panel, QUARTER * KEPT)

    @device
    def quarter(acc, space, down, right, *rest):
        """Finish a part of the tile: from registers to shared memory, and from there in whole lines."""
        t, row = cuda.threadIdx.x, down // QUARTER * 4 * side + right // QUARTER * 4
        cuda.syncthreads()
        for i in range(4):
            to, at = space + ((t >> 4) * 4 + i) * KEPT + (t & 15) * 4, row + i * side
            store4(to, acc[at], acc[at + 1], acc[at + 2], acc[at + 3])
        cuda.syncthreads()
        finish(space, down, right, *rest)

    @kernel(THREADS)
    def product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        acc, x, y = cuda.local.array(results, real), cuda.local.array(side, real), cuda.local.array(side, real)
        for i in range(results):
            acc[i] = zero
        space, t = shared_memory(real, space_size), cuda.threadIdx.x
        row0, col0, k0, part_at = (
            cuda.blockIdx.x * tile,
            cuda.blockIdx.y * tile,
            cuda.blockIdx.z * part,
            cuda.blockIdx.z * between,
        )
        left, m, n = min(k - k0, part), m - row0, n - col0
        p, q = global_at(a, real) + (row0 * rs_a + k0 * cs_a), global_at(b, real) + (k0 * rs_b + col0 * cs_b)
        total, adds_up = zero, sums and cuda.blockIdx.y == 0 and t < tile
        a0, a1, a2, a3 = fetch_a(p, m, left, rs_a, cs_a)
        b0, b1, b2, b3 = fetch_b(q, n, left, cs_b, rs_b)
        current, following = space, space + 2 * panel
        while left > 0:
            store_a(current, a0, a1, a2, a3)
            store_b(current + panel, b0, b1, b2, b3)
            cuda.syncthreads()
            left -= depth
            p, q = p + depth * cs_a, q + depth * rs_b
            a0, a1, a2, a3 = fetch_a(p, m, left, rs_a, cs_a)
            b0, b1, b2, b3 = fetch_b(q, n, left, cs_b, rs_b)
            for term in range(depth):
                line_a, line_b = current + (term * ld + (t >> 4) * 4), current + (panel + term * ld + (t & 15) * 4)
                for part_of in range(quarters):
                    h = 4 * part_of
                    x[h], x[h + 1], x[h + 2], x[h + 3] = load4(line_a + part_of * QUARTER)
                    y[h], y[h + 1], y[h + 2], y[h + 3] = load4(line_b + part_of * QUARTER)
                for i in range(side):
                    for j in range(side):
                        acc[i * side + j] += x[i] * y[j]
            if adds_up:
                for term in range(depth):
                    total += current[term * ld + t]
            current, following = following, current
        if adds_up and t < m:
            sums_at = global_at(summed, real) + part_at
            sums_at[(row0 + t) * by] = total
        to = global_at(c, real) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(extra_1, real) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(extra_2, real) + (row0 * rs_2 + col0 * cs_2)
        rest = m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, extra_2 != 0
        quarter(acc, space, 0, 0, *rest)
        if quarters == 2:
            quarter(acc, space, 0, QUARTER, *rest)
            quarter(acc, space, QUARTER, 0, *rest)
            quarter(acc, space, QUARTER, QUARTER, *rest)

    return product

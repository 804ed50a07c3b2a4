"""The product of large matrices, C = A B, with what follows it, in one pass over C.

A block of 256 threads computes a square tile of C, each thread 8 x 8 (or 4 x 4) of it in registers. Pieces of A and B,
turned so that the sum runs down them, pass through shared memory in two buffers: while one is multiplied, the next is
on its way through registers. A finished tile goes through shared memory once more, so that what follows (bias,
activation, its derivative) reads and writes whole lines. Operands whose rows are aligned are read 128 bits at a time;
the same kernel takes any others element by element.
"""

from .custom import activation_of
from .primitives import global_at, load4, shared_memory, store4
from .toolchain import cuda, device, for_each_real, kernel

# How a thread fetches four elements of an operand: along the sum, along the other side, or one by one
ALONG, ACROSS, SINGLY = range(3)
# What follows the product: nothing; bias and activation; the derivative of an activation
NOTHING, ACTIVATE, SLOPE = range(3)

THREADS = 256
DEPTH = {128: 8, 64: 16}  # terms of the sum in one piece: each thread then fetches four elements of A and of B
QUARTER = 64  # side of the part of a tile that is finished at once
PAD = 4  # elements between rows in shared memory, against threads that meet in one bank


@for_each_real
def _fetch_of(real, tile, how):
    """The four elements of a piece of an operand that this thread brings, zeros beyond the operand's edges."""
    zero, depth = real(0.0), DEPTH[tile]
    by_side, by_depth = tile // 4, depth // 4

    @device
    def spot():
        """(term of the sum, place along the side) of the thread's four elements."""
        t = cuda.threadIdx.x
        return (t // by_side, t % by_side * 4) if how == ACROSS else (t % by_depth * 4, t // by_depth)

    @device
    def along(p, side, depth_left, by_side, by_term):
        term, i = spot()
        return load4(p + i * by_side + term) if i < side and term < depth_left else (zero, zero, zero, zero)

    @device
    def across(p, side, depth_left, by_side, by_term):
        term, i = spot()
        return load4(p + term * by_term + i) if i < side and term < depth_left else (zero, zero, zero, zero)

    @device
    def singly(p, side, depth_left, by_side, by_term):
        term, i = spot()
        q = p + i * by_side + term * by_term
        a = q[0] if i < side and term < depth_left else zero
        b = q[by_term] if i < side and term + 1 < depth_left else zero
        c = q[2 * by_term] if i < side and term + 2 < depth_left else zero
        d = q[3 * by_term] if i < side and term + 3 < depth_left else zero
        return a, b, c, d

    return (along, across, singly)[how]


@for_each_real
def _stow_of(real, tile, how):
    """Put four fetched elements into shared memory, a row for each term of the sum."""
    depth, ld = DEPTH[tile], tile + PAD
    by_side, by_depth = tile // 4, depth // 4

    @device
    def side_by_side(room, a, b, c, d):
        t = cuda.threadIdx.x
        store4(room + t // by_side * ld + t % by_side * 4, a, b, c, d)

    @device
    def turned(room, a, b, c, d):
        t = cuda.threadIdx.x
        p = room + t % by_depth * 4 * ld + t // by_depth
        p[0], p[ld], p[2 * ld], p[3 * ld] = a, b, c, d

    return side_by_side if how == ACROSS else turned


@for_each_real
def product_of(real, tile, how_a, how_b, then, code, sums):
    """C = A B for tiles of `tile` x `tile`, and what follows.

    `then` ACTIVATE: `one` is a bias for each column, C receives g(A B + bias) and, if it is there, `two` A B + bias.
    SLOPE: C = (A B) * g'(one, two). `sums`: `summed` receives the sums of the rows of A. The sum is cut into as many
    parts of `part` terms as the grid has blocks in z; each writes its own C and `summed`, `between` elements apart.
    """
    forward, slope = activation_of(real, code)
    fetch_a, fetch_b = _fetch_of(real, tile, how_a), _fetch_of(real, tile, how_b)
    stow_a, stow_b = _stow_of(real, tile, how_a), _stow_of(real, tile, how_b)
    depth, ld, quarters = DEPTH[tile], tile + PAD, tile // QUARTER
    side, room, ld_kept, zero = 4 * quarters, DEPTH[tile] * (tile + PAD), QUARTER + PAD, real(0.0)
    kept, rooms = side * side, max(4 * room, QUARTER * ld_kept)

    @device
    def element(value, param, one, two, keep):
        """What becomes of one element; `one` and `two` point to what belongs to it."""
        if then == ACTIVATE:
            value += one[0]
            if keep:
                two[0] = value
            return forward(param, value)
        if then == SLOPE:
            return value * slope(param, one[0], two[0])
        return value

    @device
    def quarter(acc, down, right, space, m, n, c, rs_c, cs_c, wide, param, one, rs_1, cs_1, two, rs_2, cs_2, keep):
        """Finish a part of the tile: from registers to shared memory, and from there in whole lines."""
        t = cuda.threadIdx.x
        c, one, two = (
            c + down * rs_c + right * cs_c,
            one + down * rs_1 + right * cs_1,
            two + down * rs_2 + right * cs_2,
        )
        m, n, row = m - down, n - right, down // QUARTER * 4 * side + right // QUARTER * 4
        cuda.syncthreads()
        for i in range(4):
            to, at = space + ((t >> 4) * 4 + i) * ld_kept + (t & 15) * 4, row + i * side
            store4(to, acc[at], acc[at + 1], acc[at + 2], acc[at + 3])
        cuda.syncthreads()
        i, j = t >> 4, (t & 15) * 4
        while i < QUARTER and i < m:
            to, at_1, at_2 = c + i * rs_c + j * cs_c, one + i * rs_1 + j * cs_1, two + i * rs_2 + j * cs_2
            line = space + i * ld_kept + j
            if wide and j < n:
                v0, v1, v2, v3 = load4(line)
                v0 = element(v0, param, at_1, at_2, keep)
                v1 = element(v1, param, at_1 + cs_1, at_2 + cs_2, keep)
                v2 = element(v2, param, at_1 + 2 * cs_1, at_2 + 2 * cs_2, keep)
                v3 = element(v3, param, at_1 + 3 * cs_1, at_2 + 3 * cs_2, keep)
                store4(to, v0, v1, v2, v3)
            else:
                for e in range(min(4, n - j)):
                    to[e * cs_c] = element(line[e], param, at_1 + e * cs_1, at_2 + e * cs_2, keep)
            i += THREADS >> 4

    @kernel(THREADS)
    def product(
        m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, wide,
        part, between, param, one, rs_1, cs_1, two, rs_2, cs_2, summed, by,
    ):  # fmt: skip
        acc, x, y = cuda.local.array(kept, real), cuda.local.array(side, real), cuda.local.array(side, real)
        for i in range(kept):
            acc[i] = zero
        space, t = shared_memory(real, rooms), cuda.threadIdx.x
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
        now, after = space, space + 2 * room
        while left > 0:
            stow_a(now, a0, a1, a2, a3)
            stow_b(now + room, b0, b1, b2, b3)
            cuda.syncthreads()
            left -= depth
            p, q = p + depth * cs_a, q + depth * rs_b
            a0, a1, a2, a3 = fetch_a(p, m, left, rs_a, cs_a)
            b0, b1, b2, b3 = fetch_b(q, n, left, cs_b, rs_b)
            for term in range(depth):
                line_a, line_b = now + (term * ld + (t >> 4) * 4), now + (room + term * ld + (t & 15) * 4)
                for part_of in range(quarters):
                    h = 4 * part_of
                    x[h], x[h + 1], x[h + 2], x[h + 3] = load4(line_a + part_of * QUARTER)
                    y[h], y[h + 1], y[h + 2], y[h + 3] = load4(line_b + part_of * QUARTER)
                for i in range(side):
                    for j in range(side):
                        acc[i * side + j] += x[i] * y[j]
            if adds_up:
                for term in range(depth):
                    total += now[term * ld + t]
            now, after = after, now
        if adds_up and t < m:
            sums_at = global_at(summed, real) + part_at
            sums_at[(row0 + t) * by] = total
        to = global_at(c, real) + (part_at + row0 * rs_c + col0 * cs_c)
        first = global_at(one, real) + (row0 * rs_1 + col0 * cs_1)
        second = global_at(two, real) + (row0 * rs_2 + col0 * cs_2)
        rest = m, n, to, rs_c, cs_c, wide, param, first, rs_1, cs_1, second, rs_2, cs_2, two != 0
        quarter(acc, 0, 0, space, *rest)
        if quarters == 2:
            quarter(acc, 0, QUARTER, space, *rest)
            quarter(acc, QUARTER, 0, space, *rest)
            quarter(acc, QUARTER, QUARTER, space, *rest)

    return product

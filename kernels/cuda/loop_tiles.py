"""Products in the loops of one block and of a grid: 4 x 4 sums in the registers of a thread.

x and delta are (features, ld) with the samples side by side, read four at a time; W and dW are (n_out, n_in).
"""

from types import SimpleNamespace

import numpy as np

from .phases import divided
from .primitives import add4, lane_of, load4, log2_of, shared_memory, store4, turn_by_turn
from .toolchain import cuda, device, for_each_real

# A block of a grid whose warps share sums takes so many at a time, each by so many lanes of a warp. ROWS: elements of a
# row of four for each thread of a block
ITEMS, SPREAD_FOLD, ROWS = 4, 3, 4 * 256
SPREAD = 1 << SPREAD_FOLD


@for_each_real
def tiles_of(real):
    """The functions for one dtype."""
    zero = real(0.0)
    four = zero, zero, zero, zero
    wide = real is np.float32  # in float64 sums and operands take more registers than a thread of a grid has

    @device
    def fold_of(threads, items, terms):
        """By how many bits neighbouring threads share a sum: as many as keep all busy, with 4 terms each."""
        most = min(log2_of(max(np.int32(terms >> 2), np.int32(1))), np.int32(5))
        fold = np.int32(log2_of(threads) - log2_of(max(items, np.int32(1))))
        fold = max(min(fold, most), np.int32(0))
        return np.int32(fold - 1 if fold > 0 and np.int32(threads >> fold) < items else fold)

    @device
    def dealt(thread, fold, items):
        """(a thread's item, its lane among those that share a sum, whether all lanes of its warp take part in one).

        Lanes stand apart, so that neighbouring threads have neighbouring items. Threads that share sums have one item
        at most; those without exchange lanes with their warp all the same.
        """
        own = np.int32(5 - fold)  # bits of the items of a warp
        first, lane = np.int32((thread >> 5) << own), np.int32((thread & 31) >> own)
        return np.int32(first + (thread & ((1 << own) - 1))), lane, fold > 0 and first < items

    @device
    def fours(n):
        """How many groups of four hold n."""
        return np.int32(np.int32(n + 3) >> 2)

    @device
    def tile_at(item, items, groups, inverse):
        """(first row, first sample) of an item's tile, the last one's for those beyond the end."""
        tile, group = divided(min(item, np.int32(items - 1)), groups, inverse)
        return np.int32(4 * tile), np.int32(4 * group)

    @device
    def scaled_sum(sums, w, x):
        """Four sums, with w times four samples."""
        return sums[0] + w * x[0], sums[1] + w * x[1], sums[2] + w * x[2], sums[3] + w * x[3]

    @device
    def outer_sum(sums, w, x):
        """The sums of four rows, with the products of four weights, one a row, and four samples."""
        a, b, c, d = sums
        return scaled_sum(a, w[0], x), scaled_sum(b, w[1], x), scaled_sum(c, w[2], x), scaled_sum(d, w[3], x)

    @device
    def half_sum(low, high, upper, mask):
        """Four sums of two lanes: the lower lane gets those of `low`, the upper one those of `high`."""
        kept, sent = high if upper else low, low if upper else high
        return (
            kept[0] + lane_of(sent[0], mask),
            kept[1] + lane_of(sent[1], mask),
            kept[2] + lane_of(sent[2], mask),
            kept[3] + lane_of(sent[3], mask),
        )

    @device
    def own_rows(sums, lane, fold):
        """The sums of all lanes that share them; a lane's own rows, from `first_row` on, come first."""
        a, b, c, d = sums
        if fold > 0:
            mask, upper = np.int32(32 >> fold), np.int32(lane & 1) != 0
            a, b = half_sum(a, c, upper, mask), half_sum(b, d, upper, mask)
            if fold > 1:
                mask = np.int32(2 * mask)
                a, mask = half_sum(a, b, np.int32(lane & 2) != 0, mask), np.int32(2 * mask)
                while mask < 32:
                    turn_by_turn()
                    a = pair_sum(a[0], mask), pair_sum(a[1], mask), pair_sum(a[2], mask), pair_sum(a[3], mask)
                    mask = np.int32(2 * mask)
        return a, b, c, d

    @device
    def first_row(lane):
        """The first row that a lane gets of a tile whose sums it shares."""
        return np.int32(((lane & 1) << 1) + ((lane >> 1) & 1))

    @device
    def rows_of(lane, fold):
        """How many rows it gets."""
        return np.int32(4 >> min(fold, np.int32(2)) if lane < 4 else 0)

    @device
    def tile_forward(x, ld, W, n_in, fours, o, n_out, lane, share):
        """A lane's part of the sums over the inputs of four outputs from `o` on and of four samples at x.

        x (n_in, ld). In float32, with `fours`, where n_in is a multiple of four, weights are read four at a time.
        """
        sums, last = (four, four, four, four), np.int32(n_out - 1)
        w0, w1 = W + o * n_in, W + min(np.int32(o + 1), last) * n_in
        w2, w3 = W + min(np.int32(o + 2), last) * n_in, W + min(np.int32(o + 3), last) * n_in
        if wide and fours:  # each lane has terms
            i = np.int32(4 * lane)
            while True:
                p, q, r, s = load4(w0 + i), load4(w1 + i), load4(w2 + i), load4(w3 + i)
                at = x + i * ld
                sums = outer_sum(sums, (p[0], q[0], r[0], s[0]), load4(at))
                sums = outer_sum(sums, (p[1], q[1], r[1], s[1]), load4(at + ld))
                sums = outer_sum(sums, (p[2], q[2], r[2], s[2]), load4(at + 2 * ld))
                sums = outer_sum(sums, (p[3], q[3], r[3], s[3]), load4(at + 3 * ld))
                i = np.int32(i + 4 * share)
                if i >= n_in:
                    break
        else:
            i = lane
            while i < n_in:
                sums = outer_sum(sums, (w0[i], w1[i], w2[i], w3[i]), load4(x + i * ld))
                i = np.int32(i + share)
        return sums

    @device
    def tile_backward(delta, ld, W, n_in, i, n_out, lane, share):
        """A lane's part of the sums over the outputs of four inputs from `i` on and of four samples at delta.

        delta (n_out, ld).
        """
        sums, last, o = (four, four, four, four), np.int32(n_in - 1), lane
        if wide and n_in & 3 == 0:
            while np.int32(o + share) < n_out:  # two at a time: the reads of both are on their way
                w, v = load4(W + (o * n_in + i)), load4(W + ((o + share) * n_in + i))
                x, y = load4(delta + o * ld), load4(delta + (o + share) * ld)
                sums = outer_sum(outer_sum(sums, w, x), v, y)
                o = np.int32(o + 2 * share)
            if o < n_out:
                sums = outer_sum(sums, load4(W + (o * n_in + i)), load4(delta + o * ld))
        else:
            i1, i2, i3 = min(np.int32(i + 1), last), min(np.int32(i + 2), last), min(np.int32(i + 3), last)
            while o < n_out:
                w = W + o * n_in
                sums = outer_sum(sums, (w[i], w[i1], w[i2], w[i3]), load4(delta + o * ld))
                o = np.int32(o + share)
        return sums

    @device
    def pair_sum(value, mask):
        return value + lane_of(value, mask)

    @device
    def dot4(summed, a, b):
        """A sum with four products: in float32 one after another, so that each is one instruction."""
        if not wide:
            return summed + (a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3])
        return (((summed + a[0] * b[0]) + a[1] * b[1]) + a[2] * b[2]) + a[3] * b[3]

    @device
    def store_row(out, column, step, columns, a, b, c, d):
        """Four elements of a row, `step` apart, those that are inside it."""
        second = np.int32(column + step)
        third = np.int32(second + step)
        fourth = np.int32(third + step)
        out[column] = a
        if second < columns:
            out[second] = b
        if third < columns:
            out[third] = c
        if fourth < columns:
            out[fourth] = d

    @device
    def tile_products(x, delta, ld, rows, columns, s, end, step):
        """The 4 x 4 elements of delta x^T, summed over fours of samples from `s` on, `step` apart."""
        o0, o1, o2, o3 = rows
        i0, i1, i2, i3 = columns
        a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = zero
        a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = zero
        while s < end:
            x0, x1 = load4(x + np.int32(i0 * ld + s)), load4(x + np.int32(i1 * ld + s))
            x2, x3 = load4(x + np.int32(i2 * ld + s)), load4(x + np.int32(i3 * ld + s))
            d = load4(delta + np.int32(o0 * ld + s))
            a00, a01, a02, a03 = dot4(a00, d, x0), dot4(a01, d, x1), dot4(a02, d, x2), dot4(a03, d, x3)
            d = load4(delta + np.int32(o1 * ld + s))
            a10, a11, a12, a13 = dot4(a10, d, x0), dot4(a11, d, x1), dot4(a12, d, x2), dot4(a13, d, x3)
            d = load4(delta + np.int32(o2 * ld + s))
            a20, a21, a22, a23 = dot4(a20, d, x0), dot4(a21, d, x1), dot4(a22, d, x2), dot4(a23, d, x3)
            d = load4(delta + np.int32(o3 * ld + s))
            a30, a31, a32, a33 = dot4(a30, d, x0), dot4(a31, d, x1), dot4(a32, d, x2), dot4(a33, d, x3)
            s = np.int32(s + step)
        return (a00, a01, a02, a03), (a10, a11, a12, a13), (a20, a21, a22, a23), (a30, a31, a32, a33)

    @device
    def four_from(first, step, count):
        """Four numbers, `step` apart, and the same, none beyond the last of `count`."""
        a, last = np.int32(first), np.int32(count - 1)
        b = np.int32(a + step)
        c = np.int32(b + step)
        d = np.int32(c + step)
        return (a, b, c, d), (a, min(b, last), min(c, last), min(d, last))

    @device
    def tile_gradient(x, delta, ld, n_in, n_out, row, row_step, column, column_step, samples, dW):
        """Elements of delta x^T, rows and columns in steps: neighbouring threads then read from different banks."""
        (o0, o1, o2, o3), rows = four_from(row, row_step, n_out)
        _, columns = four_from(column, column_step, n_in)
        a, b, c, d = tile_products(x, delta, ld, rows, columns, np.int32(0), samples, np.int32(4))
        store_row(dW + np.int32(o0 * n_in), column, column_step, n_in, a[0], a[1], a[2], a[3])
        if o1 < n_out:
            store_row(dW + np.int32(o1 * n_in), column, column_step, n_in, b[0], b[1], b[2], b[3])
        if o2 < n_out:
            store_row(dW + np.int32(o2 * n_in), column, column_step, n_in, c[0], c[1], c[2], c[3])
        if o3 < n_out:
            store_row(dW + np.int32(o3 * n_in), column, column_step, n_in, d[0], d[1], d[2], d[3])

    return SimpleNamespace(
        fold_of=fold_of,
        own_rows=own_rows,
        dealt=dealt,
        fours=fours,
        tile_at=tile_at,
        first_row=first_row,
        rows_of=rows_of,
        tile_forward=tile_forward,
        tile_backward=tile_backward,
        tile_gradient=tile_gradient,
        tile_products=tile_products,
        four_from=four_from,
        store_row=store_row,
    )


@for_each_real
def of_a_grid(real):
    """How the warps of a block, and the lanes of a warp, share work, so that they read whole lines of global memory."""
    tiles, zero = tiles_of(real), real(0.0)
    own_rows, tile_products, four_from = tiles.own_rows, tiles.tile_products, tiles.four_from
    store_row = tiles.store_row

    @device
    def spread(items, terms, blocks):
        """Whether each block of a grid takes ITEMS sums at once, its warps parts of each, with four terms a lane."""
        return terms >= 4 * SPREAD * (cuda.blockDim.x >> 5) and items <= ITEMS * blocks

    @device
    def spread_item():
        """(a thread's item, its lane among those of the block that share it): neighbouring threads have other items."""
        thread = np.int32(cuda.threadIdx.x)
        item = np.int32(ITEMS * cuda.blockIdx.x + (thread & (ITEMS - 1)))
        return item, np.int32((thread >> 5) * SPREAD + ((thread & 31) >> (5 - SPREAD_FOLD)))

    @device
    def warps_row(row):
        """The sum over all warps of a block of the rows that their lanes have, in the first warp."""
        place, lane = shared_memory(real, ROWS), np.int32(4 * (cuda.threadIdx.x & 31))
        store4(place + np.int32(4 * cuda.threadIdx.x), row[0], row[1], row[2], row[3])
        cuda.syncthreads()
        if cuda.threadIdx.x < 32:
            at, end = np.int32(128), np.int32(4 * cuda.blockDim.x)
            while at < end:
                turn_by_turn()
                row, at = add4(row, load4(place + (at + lane))), np.int32(at + 128)
        return row

    @device
    def rows_of_lanes(x, delta, ld, n_in, n_out, row, column, lane, fold, first, end):
        """A tile of delta x^T from a row and a column on, whose samples lanes share, as `own_rows` has it."""
        _, rows = four_from(min(row, np.int32(n_out - 1)), 1, n_out)
        _, columns = four_from(min(column, np.int32(n_in - 1)), 1, n_in)
        first, by = np.int32(first + 4 * lane), np.int32(4 << fold)
        return own_rows(tile_products(x, delta, ld, rows, columns, first, end, by), lane, fold)

    @device
    def put_row(out, count, fours, row):
        """What there is of it: `count` numbers, four of them where rows are multiples of four."""
        if fours:
            store4(out, row[0], row[1], row[2], row[3])
        else:
            store_row(out, np.int32(0), np.int32(1), count, row[0], row[1], row[2], row[3])

    @device
    def sum_of_lanes(row, lane, fold, first, end):
        """The sum over samples, which lanes share, the same bits in all of them."""
        s, summed, mask = np.int32(first + 4 * lane), zero, np.int32(32 >> fold)
        while s < end:
            turn_by_turn()
            a, b, c, d = load4(row + s)
            summed, s = summed + ((a + b) + (c + d)), np.int32(s + (4 << fold))
        while mask < 32:
            turn_by_turn()
            summed, mask = summed + lane_of(summed, mask), np.int32(2 * mask)
        return summed

    return SimpleNamespace(
        spread=spread,
        spread_item=spread_item,
        warps_row=warps_row,
        rows_of_lanes=rows_of_lanes,
        sum_of_lanes=sum_of_lanes,
        put_row=put_row,
    )

"""Products in the loops of one block and of a grid: 4 x 4 sums in the registers of a thread.

x and delta are (features, ld) with the samples side by side, read four at a time; W and dW are (n_out, n_in).
"""

from types import SimpleNamespace

from .primitives import lane_of, load4, quotient
from .toolchain import device, for_each_real


@for_each_real
def tiles_of(real):
    """The functions for one dtype."""
    zero = real(0.0)

    @device
    def sharing(threads, items, terms):
        """How many neighbouring threads share a sum, a power of two: as many as keep all busy, with 16 terms each."""
        most, share = min(quotient(threads, items), terms >> 4, 32), 1
        while 2 * share <= most:
            share *= 2
        return share

    @device
    def tile_product(x, ld, w0, w1, w2, w3, term_step, terms, lane, share):
        """Sums over the terms of four rows w0 to w3 and of four samples at x: by one thread, or by all that share them.

        x (terms, ld); from term to term of a row it is `term_step` elements.
        """
        a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = zero
        a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = zero
        i, x = lane, x + lane * ld
        while i < terms:
            x0, x1, x2, x3 = load4(x)
            w = w0[i * term_step]
            a00, a01, a02, a03 = a00 + w * x0, a01 + w * x1, a02 + w * x2, a03 + w * x3
            w = w1[i * term_step]
            a10, a11, a12, a13 = a10 + w * x0, a11 + w * x1, a12 + w * x2, a13 + w * x3
            w = w2[i * term_step]
            a20, a21, a22, a23 = a20 + w * x0, a21 + w * x1, a22 + w * x2, a23 + w * x3
            w = w3[i * term_step]
            a30, a31, a32, a33 = a30 + w * x0, a31 + w * x1, a32 + w * x2, a33 + w * x3
            i, x = i + share, x + share * ld
        mask = share >> 1
        while mask > 0:
            a00, a01, a02, a03 = pair_sum(a00, mask), pair_sum(a01, mask), pair_sum(a02, mask), pair_sum(a03, mask)
            a10, a11, a12, a13 = pair_sum(a10, mask), pair_sum(a11, mask), pair_sum(a12, mask), pair_sum(a13, mask)
            a20, a21, a22, a23 = pair_sum(a20, mask), pair_sum(a21, mask), pair_sum(a22, mask), pair_sum(a23, mask)
            a30, a31, a32, a33 = pair_sum(a30, mask), pair_sum(a31, mask), pair_sum(a32, mask), pair_sum(a33, mask)
            mask >>= 1
        return (
            (a00, a01, a02, a03),
            (a10, a11, a12, a13),
            (a20, a21, a22, a23),
            (a30, a31, a32, a33),
        )

    @device
    def pair_sum(value, mask):
        return value + lane_of(value, mask)

    @device
    def row_of(sums, row):
        a, b, c, d = sums
        return a if row == 0 else b if row == 1 else c if row == 2 else d

    @device
    def dot4(a, b):
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]

    @device
    def store_row(out, column, step, columns, a, b, c, d):
        """Four elements of a row, `step` apart, those that are inside it."""
        out[column] = a
        if column + step < columns:
            out[column + step] = b
        if column + 2 * step < columns:
            out[column + 2 * step] = c
        if column + 3 * step < columns:
            out[column + 3 * step] = d

    @device
    def tile_gradient(x, delta, ld, n_in, n_out, row, row_step, column, column_step, samples, dW):
        """Elements of delta x^T, rows and columns in steps: neighbouring threads then read from different banks."""
        o1, o2, o3 = (
            min(row + row_step, n_out - 1),
            min(row + 2 * row_step, n_out - 1),
            min(row + 3 * row_step, n_out - 1),
        )
        i1, i2 = min(column + column_step, n_in - 1), min(column + 2 * column_step, n_in - 1)
        i3 = min(column + 3 * column_step, n_in - 1)
        a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = zero
        a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = zero
        s = 0
        while s < samples:
            x0, x1 = load4(x + (column * ld + s)), load4(x + (i1 * ld + s))
            x2, x3 = load4(x + (i2 * ld + s)), load4(x + (i3 * ld + s))
            d = load4(delta + (row * ld + s))
            a00, a01, a02, a03 = a00 + dot4(d, x0), a01 + dot4(d, x1), a02 + dot4(d, x2), a03 + dot4(d, x3)
            d = load4(delta + (o1 * ld + s))
            a10, a11, a12, a13 = a10 + dot4(d, x0), a11 + dot4(d, x1), a12 + dot4(d, x2), a13 + dot4(d, x3)
            d = load4(delta + (o2 * ld + s))
            a20, a21, a22, a23 = a20 + dot4(d, x0), a21 + dot4(d, x1), a22 + dot4(d, x2), a23 + dot4(d, x3)
            d = load4(delta + (o3 * ld + s))
            a30, a31, a32, a33 = a30 + dot4(d, x0), a31 + dot4(d, x1), a32 + dot4(d, x2), a33 + dot4(d, x3)
            s += 4
        store_row(dW + row * n_in, column, column_step, n_in, a00, a01, a02, a03)
        if row + row_step < n_out:
            store_row(dW + o1 * n_in, column, column_step, n_in, a10, a11, a12, a13)
        if row + 2 * row_step < n_out:
            store_row(dW + o2 * n_in, column, column_step, n_in, a20, a21, a22, a23)
        if row + 3 * row_step < n_out:
            store_row(dW + o3 * n_in, column, column_step, n_in, a30, a31, a32, a33)

    return SimpleNamespace(sharing=sharing, tile_product=tile_product, row_of=row_of, tile_gradient=tile_gradient)

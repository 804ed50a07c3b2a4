"""The products behind every layer.

`product` is the fast one: register tiles over operands whose columns are consecutive in B and C, straight from memory.
That is how the training loop lays everything out. `product_rows` takes A and B by rows, as for A B^T, and sums along
the lanes. `product_any` reduces other strides to one of these forms where it can.
`matmul` is the public kernel on arrays.

Symbols: C (m, n) = A (m, k) B (k, n); a, b, c: pointers to their first elements; rs_, cs_: elements from row to row and
from column to column; ld_: from row to row where columns are consecutive; rows_b: B stands in panels, each of as many
columns as the register tile has and rs_b = that, of rows_b rows, one after another; rows_b = 1: B stands by rows.
"""

from ..annotations import Floats
from ..compiler import jit
from ..options import FAST, VECTORS, packs_panels, tile_rows
from .memory import address_of, hidden, plain, prefetch
from .simd import fma, lanes, load, load_part, load_strided, splat, store_part, store_strided
from .tile import (
    lane_products,
    lane_products_first,
    rank1,
    rank1_vector,
    tile_bias,
    tile_load,
    tile_spill,
    tile_store,
    tile_totals,
    tile_zeros,
    transpose_square,
)
from .units import unit

ZERO, BIAS, ACCUMULATE = 0, 1, 2  # what the sums start from: nothing, bias[i] in row i, C itself


@jit(FAST)
def _fetch_tile_rows(q, rs_b):
    """Fetch four rows of B, as wide as a tile."""
    for i in range(4):
        for j in range(VECTORS):
            prefetch(q + (i * rs_b + j * lanes(q)))


def _strip_of(rows, fetches=False):
    """The product of `rows` rows of A with all of B, by rows if it `fetches` the columns that the next tile reads."""

    @jit(FAST)
    def strip(n, k, a, rs_a, cs_a, b, rs_b, rows_b, c, rs_c, start, bias):
        width = lanes(a)
        j = 0
        while n - j >= VECTORS * width:
            tile = tile_zeros(a, rows, VECTORS)
            if start == BIAS:
                tile = tile_bias(tile, bias)
            elif start == ACCUMULATE:
                tile = tile_load(tile, c + j, rs_c)
            p, q, left = a, b + j * rows_b, k
            while left >= 4:
                if fetches:
                    _fetch_tile_rows(q + VECTORS * width, rs_b)
                tile = rank1(tile, p, rs_a, q)
                tile = rank1(tile, p + cs_a, rs_a, q + rs_b)
                tile = rank1(tile, p + 2 * cs_a, rs_a, q + 2 * rs_b)
                tile = rank1(tile, p + 3 * cs_a, rs_a, q + 3 * rs_b)
                p, q, left = p + 4 * cs_a, q + 4 * rs_b, left - 4
            while left > 0:
                tile = rank1(tile, p, rs_a, q)
                p, q, left = p + cs_a, q + rs_b, left - 1
            tile_store(tile, c + j, rs_c)
            j += VECTORS * width
        last = b + (j * rows_b - j)
        while j < n:
            edge = tile_zeros(a, rows, 1)
            if start == BIAS:
                edge = tile_bias(edge, bias)
            p, q = a, last + j
            for _ in range(k):
                edge = rank1_vector(edge, p, rs_a, load_part(q, n - j))
                p, q = p + cs_a, q + rs_b
            sums, target = tile_spill(edge), c + j
            for _ in range(rows):
                line = load(sums)
                if start == ACCUMULATE:
                    line = line + load_part(target, n - j)
                store_part(target, line, n - j)
                sums, target = sums + width, target + rs_c
            j += width

    return strip


WIDE = 8  # registers of the tile for one row: as many sums side by side as hide the latency of an addition


@jit(FAST)
def _strip_1(n, k, a, rs_a, cs_a, b, rs_b, c, rs_c, start, bias):
    """The product of one row of A with all of B: registers that a taller tile spends on rows hold more sums."""
    width, j = lanes(a), 0
    while n - j >= WIDE * width:
        tile = tile_zeros(a, 1, WIDE)
        if start == BIAS:
            tile = tile_bias(tile, bias)
        elif start == ACCUMULATE:
            tile = tile_load(tile, c + j, rs_c)
        p, q = a, b + j
        for _ in range(k):
            tile = rank1(tile, p, rs_a, q)
            p, q = p + cs_a, q + rs_b
        tile_store(tile, c + j, rs_c)
        j += WIDE * width
    while j < n:
        left, q, none = n - j, b + j, splat(0.0, a)
        more = left - width
        x0 = x1 = x2 = x3 = y0 = y1 = y2 = y3 = none
        if start == BIAS:
            x0 = y0 = splat(bias[0], a)
        elif start == ACCUMULATE:
            x0, y0 = load_part(c + j, left), load_part(c + (j + width), more)
        whole = k // 4 * 4
        for at in range(0, whole, 4):
            p, q0 = a + at * cs_a, q + at * rs_b
            q1, q2, q3 = q0 + rs_b, q0 + 2 * rs_b, q0 + 3 * rs_b
            s0, s1, s2, s3 = splat(p[0], a), splat(p[cs_a], a), splat(p[2 * cs_a], a), splat(p[3 * cs_a], a)
            x0, y0 = fma(s0, load_part(q0, left), x0), fma(s0, load_part(q0 + width, more), y0)
            x1, y1 = fma(s1, load_part(q1, left), x1), fma(s1, load_part(q1 + width, more), y1)
            x2, y2 = fma(s2, load_part(q2, left), x2), fma(s2, load_part(q2 + width, more), y2)
            x3, y3 = fma(s3, load_part(q3, left), x3), fma(s3, load_part(q3 + width, more), y3)
        for at in range(whole, k):
            scalar, r = splat(a[at * cs_a], a), q + at * rs_b
            x0, y0 = fma(scalar, load_part(r, left), x0), fma(scalar, load_part(r + width, more), y0)
        store_part(c + j, (x0 + x1) + (x2 + x3), left)
        store_part(c + (j + width), (y0 + y1) + (y2 + y3), more)
        j += 2 * width


TALL = tile_rows()[0]
_strip_tall, _strip_4, _strip_2 = (_strip_of(rows) for rows in tile_rows()[:3])


@jit(FAST)
def product(m, n, k, a, rs_a, cs_a, b, rs_b, rows_b, c, rs_c, start, bias):
    """C (m, n) = A (m, k) @ B (k, n), from pointers and strides (row, column) in elements; C by rows, B as it says.

    `start` is ZERO, BIAS (row i of C starts from bias[i]) or ACCUMULATE (C += A @ B).
    """
    rs_a, cs_a, i = hidden(rs_a), hidden(cs_a), 0
    while m - i >= TALL:
        _strip_tall(n, k, a + i * rs_a, rs_a, cs_a, b, rs_b, rows_b, c + i * rs_c, rs_c, start, bias + i)
        i += TALL
    if m - i >= 4:
        _strip_4(n, k, a + i * rs_a, rs_a, cs_a, b, rs_b, rows_b, c + i * rs_c, rs_c, start, bias + i)
        i += 4
    if m - i >= 2:
        _strip_2(n, k, a + i * rs_a, rs_a, cs_a, b, rs_b, rows_b, c + i * rs_c, rs_c, start, bias + i)
        i += 2
    if m - i >= 1:
        wide = n if rows_b == 1 else rs_b
        for j in range(0, n, max(wide, 1)):
            p, q, t = a + i * rs_a, b + j * rows_b, c + (i * rs_c + j)
            _strip_1(min(wide, n - j), k, p, rs_a, cs_a, q, rs_b, t, rs_c, start, bias + i)


def _dots_of(rows, columns):
    """`rows` x `columns` dot products, each summed along the lanes."""

    @jit(FAST)
    def dots(k, a, ld_a, b, ld_b, c, rs_c, cs_c, start, bias):
        width = lanes(a)
        tile = tile_zeros(a, rows, columns)
        whole = k // width * width
        for p in range(0, whole, width):
            tile = lane_products(tile, a + p, ld_a, b + p, ld_b)
        if whole < k:
            tile = lane_products_first(tile, a + whole, ld_a, b + whole, ld_b, k - whole)
        sums = tile_totals(tile)
        for i in range(rows):
            for j in range(columns):
                at = i * rs_c + j * cs_c
                summed = sums[i * columns + j]
                if start == BIAS:
                    summed += bias[i]
                elif start == ACCUMULATE:
                    summed += c[at]
                c[at] = summed

    return dots


MANY = 16 if tile_rows()[0] == 8 else 8  # dot products at once of one row with others: half the registers
_dots_4x4, _dots_4x1, _dots_2x4, _dots_1xmany, _dots_1x4, _dots_1x1 = (
    _dots_of(*size) for size in ((4, 4), (4, 1), (2, 4), (1, MANY), (1, 4), (1, 1))
)
DEPTH = 1024  # elements of the operands' rows that go through the tiles before the next: eight rows in the first cache


@jit(FAST)
def product_rows(m, n, k, a, ld_a, b, ld_b, c, rs_c, cs_c, start, bias):
    """C (m, n) = A (m, k) @ B (n, k)^T, both operands by rows of consecutive elements; `start` as for `product`."""
    whole_m, whole_n, most_n = m // 4 * 4, n // 4 * 4, n // MANY * MANY
    paired_m = m // 2 * 2
    shared_n = whole_n if m > 1 else 0  # columns that several rows of A meet at once
    for at in range(0, max(k, 1), DEPTH):  # without terms C is what the sums start from
        depth = min(DEPTH, k - at)
        for j in range(0, shared_n, 4):
            q, t = b + (j * ld_b + at), c + j * cs_c
            for i in range(0, whole_m, 4):
                _dots_4x4(depth, a + (i * ld_a + at), ld_a, q, ld_b, t + i * rs_c, rs_c, cs_c, start, bias + i)
            # two rows of A that are left: with a pass of their own over B, 10 x 784 by 60,000 took 27 ms instead of 25
            for i in range(whole_m, paired_m, 2):
                _dots_2x4(depth, a + (i * ld_a + at), ld_a, q, ld_b, t + i * rs_c, rs_c, cs_c, start, bias + i)
        for j in range(whole_n, n):
            q, t = b + (j * ld_b + at), c + j * cs_c
            for i in range(0, whole_m, 4):
                _dots_4x1(depth, a + (i * ld_a + at), ld_a, q, ld_b, t + i * rs_c, rs_c, cs_c, start, bias + i)
        for i in range(whole_m, paired_m):
            p, t = a + (i * ld_a + at), c + i * rs_c
            for j in range(whole_n, n):
                _dots_1x1(depth, p, ld_a, b + (j * ld_b + at), ld_b, t + j * cs_c, rs_c, cs_c, start, bias + i)
        for i in range(paired_m, m):
            p, t = a + (i * ld_a + at), c + i * rs_c
            for j in range(0, most_n, MANY):
                _dots_1xmany(depth, p, ld_a, b + (j * ld_b + at), ld_b, t + j * cs_c, rs_c, cs_c, start, bias + i)
            for j in range(most_n, whole_n, 4):
                _dots_1x4(depth, p, ld_a, b + (j * ld_b + at), ld_b, t + j * cs_c, rs_c, cs_c, start, bias + i)
            for j in range(whole_n, n):
                _dots_1x1(depth, p, ld_a, b + (j * ld_b + at), ld_b, t + j * cs_c, rs_c, cs_c, start, bias + i)
        start = ACCUMULATE


@unit(FAST, "iiiPiPiPiiiP")
def product_rows_unit(m, n, k, a, ld_a, b, ld_b, c, rs_c, cs_c, start, bias):
    """`product_rows` for operations, which call it by address: many nets do without."""
    product_rows(m, n, k, a, ld_a, b, ld_b, c, rs_c, cs_c, start, bias)


@jit(FAST)
def _product_strided(m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, start):
    """`product` for any strides, one register of C at a time: right everywhere, fast nowhere."""
    for i in range(m):
        for j in range(0, n, lanes(a)):
            left = n - j
            target = c + (i * rs_c + j * cs_c)
            summed = splat(0.0, a)
            if start == ACCUMULATE:
                summed = load_strided(target, cs_c, left)
            for p in range(k):
                scalar = splat(a[i * rs_a + p * cs_a], a)
                summed = fma(scalar, load_strided(b + (p * rs_b + j * cs_b), cs_b, left), summed)
            store_strided(target, cs_c, summed, left)


@jit(FAST)
def transpose(rows, columns, source, stride, target, target_stride):
    """target[j, i] = source[i, j], from pointers and row strides in elements."""
    width = lanes(source)
    for i in range(0, rows, width):
        for j in range(0, columns, width):
            transpose_square(
                source + (i * stride + j),
                stride,
                min(width, rows - i),
                min(width, columns - j),
                target + (j * target_stride + i),
                target_stride,
            )


# Blocks of large operands, brought together: TERMS x COLUMNS of B stay in the second-level cache, ROWS x TERMS of A in
# the first with panels, in the second without. This pays from LEAST rows of A and for more than LARGE elements of B.
# Panels: on an Emerald Rapids, float32, 155 GFLOP/s instead of 137 at 1024, 155 instead of 141 at 512.
PANELS = packs_panels()
TERMS, COLUMNS, ROWS, LEAST, LARGE = (256, 512, 32, 64, 1 << 14) if PANELS else (256, 384, 96, 96, 1 << 19)


@jit(FAST)
def panel_width(columns, pointer):
    """Columns of a panel that a B of so many columns is brought together in: all of them where panels do not pay."""
    return VECTORS * lanes(pointer) if PANELS else columns


@jit(FAST)
def to_panels(rows, columns, b, rs_b, cs_b, wide, target, ld):
    """Bring a B by rows or by columns together, in panels of `wide` columns."""
    for j in range(0, columns, wide):
        width, corner = min(wide, columns - j), b + j * cs_b
        if cs_b == 1:
            copy_rows(rows, width, corner, rs_b, target + j * rows, ld)
        else:
            transpose(width, rows, corner, cs_b, target + j * rows, ld)


@jit(FAST)
def product_columns(m, n, k, a, cs_a, b, rs_b, rows_b, c, rs_c, start, work):
    """`product` for an A by columns, of which it brings ROWS rows at a time together."""
    ld = ROWS if PANELS else ROWS + lanes(a)  # an odd number of registers
    for i in range(0, m, ROWS):
        rows = min(ROWS, m - i)
        copy_rows(k, rows, a + i, cs_a, work, ld)
        product(rows, n, k, work, plain(1), ld, b, rs_b, rows_b, c + i * rs_c, rs_c, start, a)


_strip_ahead = _strip_of(TALL, fetches=True)


@jit(FAST)
def product_from_rows(m, n, k, a, rs_a, cs_a, b, rs_b, c, rs_c, start):
    """`product` for a B by rows that lie far apart, as those of the data do: it is read once, tile after tile.

    Only a prefetch knows the next tile, whose rows are on pages of their own. On an Emerald Rapids the gradient of
    12288-20 by 209 rows, in three shards, took 730 us instead of 850.
    """
    if not PANELS or m < TALL:
        product(m, n, k, a, rs_a, cs_a, b, rs_b, plain(1), c, rs_c, start, a)
        return
    wide, low = VECTORS * lanes(a), a + TALL * rs_a
    for j in range(0, n, wide):
        columns, q, t = min(wide, n - j), b + j, c + j
        _strip_ahead(columns, k, a, rs_a, cs_a, q, rs_b, plain(1), t, rs_c, start, a)
        product(m - TALL, columns, k, low, rs_a, cs_a, q, rs_b, plain(1), t + TALL * rs_c, rs_c, start, low)


@jit(FAST)
def _blocks(n, k, pointer):
    """How B is brought together: (columns of a panel, from row to row of one, elements of a block of it)."""
    wide = panel_width(COLUMNS, pointer)
    ld = wide if PANELS else wide + lanes(pointer)  # an odd number of registers
    return wide, ld, (min(n, COLUMNS) + wide - 1) // wide * min(k, TERMS) * ld


@jit(FAST)
def _product_blocked(m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, start, work):
    """`product` for large operands: C by rows, A and B by rows or by columns."""
    wide, ld, size = _blocks(n, k, a)
    for j in range(0, n, COLUMNS):
        columns, first = min(COLUMNS, n - j), start
        for p in range(0, k, TERMS):
            terms, corner, target = min(TERMS, k - p), a + p * cs_a, c + j
            to_panels(terms, columns, b + (p * rs_b + j * cs_b), rs_b, cs_b, wide, work, ld)
            rows_b = terms if PANELS else 1
            if cs_a == 1:
                product(m, columns, terms, corner, rs_a, cs_a, work, ld, rows_b, target, rs_c, first, a)
            else:
                product_columns(m, columns, terms, corner, cs_a, work, ld, rows_b, target, rs_c, first, work + size)
            first = ACCUMULATE


@jit(FAST)
def copy_rows(rows, columns, source, stride, target, target_stride):
    """target[i, j] = source[i, j], from pointers and row strides in elements."""
    for i in range(rows):
        for j in range(0, columns, lanes(source)):
            line = load_part(source + (i * stride + j), columns - j)
            store_part(target + (i * target_stride + j), line, columns - j)


@jit(FAST)
def product_any(m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, start, work, capacity):
    """`product` for operands of any strides: makes the columns of C and B consecutive where it can.

    A C whose rows are consecutive is computed transposed; a B whose columns are not is transposed into `work`, if its
    `capacity` elements suffice. `start` is ZERO or ACCUMULATE.
    """
    if cs_c != 1 and rs_c == 1:
        m, n, a, rs_a, cs_a, b, rs_b, cs_b, rs_c, cs_c = n, m, b, cs_b, rs_b, a, cs_a, rs_a, cs_c, rs_c
    in_lines = (cs_a == 1 or rs_a == 1) and (cs_b == 1 or rs_b == 1) and cs_c == 1
    enough = _blocks(n, k, a)[2] + min(k, TERMS) * (ROWS + lanes(a))
    if in_lines and n * k > LARGE and m >= LEAST and capacity >= enough:
        _product_blocked(m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, start, work)
        return
    if cs_b != 1 and rs_b == 1 and n * k <= capacity:
        transpose(n, k, b, cs_b, work, n)
        b, rs_b, cs_b = work, n, 1
    if cs_b == 1 and cs_c == 1:
        product(m, n, k, a, rs_a, cs_a, b, rs_b, plain(1), c, rs_c, start, a)
    elif cs_a == 1 and rs_b == 1:
        product_rows(m, n, k, a, rs_a, b, cs_b, c, rs_c, cs_c, start, a)
    else:
        _product_strided(m, n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, start)


@jit(FAST, public=True)
def work_size(m: int, n: int, k: int) -> int:
    """Elements of scratch with which `matmul` of (m, k) by (k, n) reaches full speed for any strides.

    Parameters
    ----------
    m, n, k : int
        Sizes of the product.

    Returns
    -------
    int
        Number of elements, in the dtype of the operands.
    """
    return k * (max(m, n) + 2 * ROWS) + m * n


@jit(FAST, public=True)
def matmul(A: Floats, B: Floats, work: Floats, out: Floats) -> None:
    """Matrix product, out = A @ B.

    Parameters
    ----------
    A : array (m, k), float32 or float64
        Left operand, any strides.
    B : array (k, n), dtype of A
        Right operand, any strides.
    work : array (w,), dtype of A
        Scratch of `work_size(m, n, k)` elements, consecutive; empty picks the unpacked path.
    out : array (m, n), dtype of A
        Receives the product; must not overlap the operands.
    """
    m, k = A.shape
    n = B.shape[1]
    size = A.itemsize
    product_any(
        m,
        n,
        k,
        address_of(A),
        A.strides[0] // size,
        A.strides[1] // size,
        address_of(B),
        B.strides[0] // size,
        B.strides[1] // size,
        address_of(out),
        out.strides[0] // size,
        out.strides[1] // size,
        ZERO,
        address_of(work),
        work.size,
    )

"""Products with few columns, or few rows: there, reading the long operand once is all the work.

`rows_of`: C = A B with few columns, as in the forward pass of a small output layer. A warp takes a row of A, its lanes
the terms of the sum. `columns_of`: C = A B with few rows, as in the weight gradient of that layer. A thread takes four
columns of B down a part of the sum, which it shares with those of the other warps.

C (m, n), A (m, k), B (k, n); rs and cs: steps from row to row and from column to column in elements.
"""

from .own import activation_of
from .primitives import global_at, load4, shared_memory, warp_sum
from .toolchain import cuda, device, for_each_real, kernel

FEW, FEW_COLUMNS = 8, 16  # rows, and columns, at most (estimates)
# Multiply-adds that `rows` costs a multiprocessor for each: an operand of each comes from the first cache, 128 bytes a
# cycle, in which 128 could be done
OF_A_COLUMN = 4
THREADS = 128  # of a block, at most (an estimate)


@for_each_real
def rows_of(real, n, aligned, activates, key):
    """C = A B for `n` columns; with `activates` C = g(A B + bias), and `extra`, if it is there, A B + bias.

    `aligned`: both operands can be read four terms at a time.
    """
    forward = activation_of(real, key)[0]
    zero, wide = real(0.0), 4 if aligned else 1

    @kernel(THREADS)
    def rows(m, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, param, bias, rs_1, cs_1, extra, rs_2, cs_2):
        lane, i = cuda.threadIdx.x & 31, cuda.grid(1) >> 5
        if i >= m:
            return
        p, q = global_at(a, real) + i * rs_a, global_at(b, real)
        acc = cuda.local.array(n, real)
        for j in range(n):
            acc[j] = zero
        term = lane * wide
        while term < k:
            if aligned:
                x0, x1, x2, x3 = load4(p + term)
                for j in range(n):
                    y0, y1, y2, y3 = load4(q + (j * cs_b + term))
                    acc[j] += x0 * y0 + x1 * y1 + x2 * y2 + x3 * y3
            else:
                x = p[term * cs_a]
                for j in range(n):
                    acc[j] += x * q[term * rs_b + j * cs_b]
            term += 32 * wide
        value = zero
        for j in range(n):
            summed = warp_sum(acc[j])
            value = summed if lane == j else value
        if lane < n:
            out = global_at(c, real) + (i * rs_c + lane * cs_c)
            if activates:
                value += global_at(bias, real)[i * rs_1 + lane * cs_1]
                if extra != 0:
                    global_at(extra, real)[i * rs_2 + lane * cs_2] = value
                value = forward(param, value)
            out[0] = value

    return rows


@for_each_real
def columns_of(real, m, aligned):
    """C = A B for `m` rows, and `summed` the sums of the rows of A: part by part, `between` elements apart.

    A block takes `across_of(aligned)` columns, and its warps take turns at the terms; their sums are added in order.
    `aligned`: B and C can be read and written four columns at a time.
    """
    zero, wide, across = real(0.0), 4 if aligned else 1, across_of(aligned)
    size, kept, of_rows = m * wide, THREADS // 32 * m * across, THREADS // 32 * m  # sums of a thread, and of a block

    @device
    def add(acc, total, i, x, y):
        """A term of the sums of row i, with one or four columns."""
        total[i] += x
        acc[i * wide] += x * y[0]
        if aligned:
            acc[i * wide + 1] += x * y[1]
            acc[i * wide + 2] += x * y[2]
            acc[i * wide + 3] += x * y[3]

    @device
    def sum_of_warps(p, between):
        """The sum of what each warp left."""
        value = p[0]
        for warp in range(1, cuda.blockDim.x >> 5):
            value += p[warp * between]
        return value

    @kernel(THREADS)
    def columns(n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, part, between, summed, by):
        t, lane, warp, warps = cuda.threadIdx.x, cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5, cuda.blockDim.x >> 5
        j, first = cuda.blockIdx.x * across + lane * wide, cuda.blockIdx.y * part
        space = shared_memory(real, kept)
        totals = shared_memory(real, of_rows)
        acc, total = cuda.local.array(size, real), cuda.local.array(m, real)
        for i in range(m):
            total[i] = zero
            for e in range(wide):
                acc[i * wide + e] = zero
        p, q = global_at(a, real) + (first + warp) * cs_a, global_at(b, real) + ((first + warp) * rs_b + j * cs_b)
        by_a, by_b, left = warps * cs_a, warps * rs_b, min(part, k - first) - warp
        if j < n:
            while left > 3 * warps:  # four rows of B are on their way at once
                if aligned:
                    y = load4(q), load4(q + by_b), load4(q + 2 * by_b), load4(q + 3 * by_b)
                else:
                    y = (q[0],), (q[by_b],), (q[2 * by_b],), (q[3 * by_b],)
                for i in range(m):
                    x = p + i * rs_a
                    add(acc, total, i, x[0], y[0])
                    add(acc, total, i, x[by_a], y[1])
                    add(acc, total, i, x[2 * by_a], y[2])
                    add(acc, total, i, x[3 * by_a], y[3])
                p, q, left = p + 4 * by_a, q + 4 * by_b, left - 4 * warps
            while left > 0:
                y_1 = load4(q) if aligned else (q[0],)
                for i in range(m):
                    add(acc, total, i, p[i * rs_a], y_1)
                p, q, left = p + by_a, q + by_b, left - warps
        for i in range(m):
            for e in range(wide):
                space[(warp * m + i) * across + (lane * wide + e)] = acc[i * wide + e]
            if lane == 0:
                totals[warp * m + i] = total[i]
        cuda.syncthreads()
        out = global_at(c, real) + cuda.blockIdx.y * between
        for i in range(m):
            for e in range(t, across, cuda.blockDim.x):
                j = cuda.blockIdx.x * across + e
                if j < n:
                    out[i * rs_c + j * cs_c] = sum_of_warps(space + (i * across + e), m * across)
        if summed != 0 and cuda.blockIdx.x == 0 and t < m:
            (global_at(summed, real) + cuda.blockIdx.y * between)[t * by] = sum_of_warps(totals + t, m)

    return columns


def across_of(aligned):
    """Columns that a block of `columns_of` takes: a warp reads so many at once."""
    return 128 if aligned else 32

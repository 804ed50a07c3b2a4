"""Products with few columns, or few rows: there, reading the long operand once is all the work.

`rows_of`: C = A B with few columns, as in the forward pass of a small output layer. A warp takes a row of A, its lanes
the terms of the sum. `columns_of`: C = A B with few rows, as in the weight gradient of that layer. A thread takes four
columns of B down a part of the sum.

C (m, n), A (m, k), B (k, n); rs and cs: steps from row to row and from column to column in elements.
"""

from .own import activation_of
from .primitives import global_at, load4, warp_sum
from .toolchain import cuda, for_each_real, kernel

FEW, FEW_COLUMNS = 8, 16  # rows, and columns, at most (estimates)
# Multiply-adds that `rows` costs a multiprocessor for each: an operand of each comes from the first cache, 128 bytes a
# cycle, in which 128 could be done
OF_A_COLUMN = 4
THREADS = 128  # of a block (an estimate)


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

    `aligned`: B and C can be read and written four columns at a time.
    """
    zero, wide = real(0.0), 4 if aligned else 1
    size = m * wide

    @kernel(THREADS)
    def columns(n, k, a, rs_a, cs_a, b, rs_b, cs_b, c, rs_c, cs_c, part, between, summed, by):
        j, first = cuda.grid(1) * wide, cuda.blockIdx.y * part
        acc, total = cuda.local.array(size, real), cuda.local.array(m, real)
        for i in range(m):
            total[i] = zero
            for e in range(wide):
                acc[i * wide + e] = zero
        p, q = global_at(a, real) + first * cs_a, global_at(b, real) + (first * rs_b + j * cs_b)
        left = min(part, k - first)
        if j < n:
            while left > 0:
                if aligned:
                    y0, y1, y2, y3 = load4(q)
                    for i in range(m):
                        x, at = p[i * rs_a], 4 * i
                        total[i] += x
                        acc[at] += x * y0
                        acc[at + 1] += x * y1
                        acc[at + 2] += x * y2
                        acc[at + 3] += x * y3
                else:
                    for i in range(m):
                        x = p[i * rs_a]
                        total[i] += x
                        acc[i] += x * q[0]
                p, q, left = p + cs_a, q + rs_b, left - 1
            out = global_at(c, real) + (cuda.blockIdx.y * between + j * cs_c)
            for i in range(m):
                for e in range(wide):
                    out[i * rs_c + e * cs_c] = acc[i * wide + e]
            if summed != 0 and j == 0:
                sums = global_at(summed, real) + cuda.blockIdx.y * between
                for i in range(m):
                    sums[i * by] = total[i]

    return columns

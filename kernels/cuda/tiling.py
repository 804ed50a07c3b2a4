"""What every product in tiles does alike: four elements of an operand are fetched, and a part of C is finished.

A finished part goes from the registers through shared memory, so that the epilogue (bias, activation, its derivative)
reads and writes whole lines.

rs and cs: steps from row to row and from column to column in elements; extra_1 and extra_2: what an epilogue reads or
writes beside C.
"""

from .own import activation_of
from .primitives import load4, store4
from .toolchain import cuda, device, for_each_real

# How a thread fetches four elements of an operand: along the sum, along the other side, or one by one along the sum
ALONG, ACROSS, SINGLY = range(3)
# Epilogues of a product: nothing; bias and activation; the derivative of an activation
NOTHING, ACTIVATE, SLOPE = range(3)

THREADS = 256
QUARTER = 64  # side of the part of a tile that is finished at once
PAD = 4  # elements between rows in shared memory, so that the threads of a warp do not share a bank
KEPT = QUARTER + PAD  # from row to row of such a part in shared memory


@for_each_real
def four_of(real, how):
    """Four elements of an operand from (i, term) on, zeros beyond its `side` and the `left` terms."""
    zero = real(0.0)

    @device
    def along(p, i, term, side, left, by_side, by_term):
        return load4(p + i * by_side + term) if i < side and term < left else (zero, zero, zero, zero)

    @device
    def across(p, i, term, side, left, by_side, by_term):
        return load4(p + term * by_term + i) if i < side and term < left else (zero, zero, zero, zero)

    @device
    def singly(p, i, term, side, left, by_side, by_term):
        q = p + i * by_side + term * by_term
        a = q[0] if i < side and term < left else zero
        b = q[by_term] if i < side and term + 1 < left else zero
        c = q[2 * by_term] if i < side and term + 2 < left else zero
        d = q[3 * by_term] if i < side and term + 3 < left else zero
        return a, b, c, d

    return (along, across, singly)[how]


@for_each_real
def finish_of(real, epilogue, key):
    """Finish a part of C that stands in shared memory, `down` and `right` in its tile, as the epilogue says."""
    forward, slope = activation_of(real, key)

    @device
    def element(value, param, extra_1, extra_2, keep):
        """What becomes of an element; `extra_1` and `extra_2` point to what belongs to it."""
        if epilogue == ACTIVATE:
            value += extra_1[0]
            if keep:
                extra_2[0] = value
            return forward(param, value)
        if epilogue == SLOPE:
            return value * slope(param, extra_1[0], extra_2[0])
        return value

    @device
    def finish(space, down, right, m, n, c, rs_c, cs_c, wide, param, extra_1, rs_1, cs_1, extra_2, rs_2, cs_2, keep):
        t = cuda.threadIdx.x
        c, extra_1, extra_2 = (
            c + down * rs_c + right * cs_c,
            extra_1 + down * rs_1 + right * cs_1,
            extra_2 + down * rs_2 + right * cs_2,
        )
        m, n = m - down, n - right
        i, j = t >> 4, (t & 15) * 4
        while i < QUARTER and i < m:
            to, at_1, at_2 = c + i * rs_c + j * cs_c, extra_1 + i * rs_1 + j * cs_1, extra_2 + i * rs_2 + j * cs_2
            line = space + i * KEPT + j
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

    return finish

"""The update in the loops of one launch, in three ways (`Structure.update`).

After passes over the whole gradient, for l2, clipping and rows of tables: `penalty`, `clip`, and `update`, one range of
the parameters after another. Fours by themselves, whatever the ranges: `update_fours`; a thread keeps the moments of
its first four in registers. At once: a thread updates what it has just computed the gradient of.

Threads take fours of parameters in their order; a range begins at a multiple of four, and zeros fill what stands
between two. step.factors: the numbers that `Rule.prepare` computed for this step.
"""

from types import SimpleNamespace

import numpy as np

from ..formulas import RULES
from ..tables import Range, Real, Run
from .primitives import global_at, load4, quotient, store4, turn_by_turn
from .toolchain import device, for_each_real
from .updates import rule_of


@for_each_real
def rule_in_fours(real, code):
    """An update rule over parameters that stand side by side, with their moments in global memory."""
    zero = real(0.0)
    rule, states = rule_of(real, code), len(RULES[code].states)

    @device
    def numbers_of(step):
        """What the rule gets: three numbers of this step, then its settings."""
        n, s = step.factors, step.reals + Real.SETTINGS
        return n[0], n[1], n[2], s[0], s[1], s[2], s[3]

    @device
    def moments_at(step):
        t = step.table
        return global_at(t[Run.FIRST_MOMENT], real), global_at(t[Run.SECOND_MOMENT], real)

    @device
    def moments_of(step, i):
        """Those of four parameters from the i-th on, zeros where there are none."""
        (first, second), m, v = moments_at(step), (zero, zero, zero, zero), (zero, zero, zero, zero)
        if states > 0:
            m = load4(first + i)
        if states > 1:
            v = load4(second + i)
        return m, v

    @device
    def ruled(p, m, v, g, decay, n):
        """What replaces four parameters and their moments."""
        p0, m0, v0 = rule(p[0], g[0], m[0], v[0], decay, n)
        p1, m1, v1 = rule(p[1], g[1], m[1], v[1], decay, n)
        p2, m2, v2 = rule(p[2], g[2], m[2], v[2], decay, n)
        p3, m3, v3 = rule(p[3], g[3], m[3], v[3], decay, n)
        return (p0, p1, p2, p3), (m0, m1, m2, m3), (v0, v1, v2, v3)

    @device
    def store(vector, i, end, a, b, c, d):
        """Four elements, those before the end."""
        if i + 4 <= end:
            store4(vector + i, a, b, c, d)
        else:
            vector[i] = a
            if i + 1 < end:
                vector[i + 1] = b
            if i + 2 < end:
                vector[i + 2] = c

    @device
    def put_moments(step, i, end, m, v):
        """Those of four parameters, which stand before the end."""
        first, second = moments_at(step)
        if states > 0:
            store(first, i, end, m[0], m[1], m[2], m[3])
        if states > 1:
            store(second, i, end, v[0], v[1], v[2], v[3])

    @device
    def put(step, i, end, p, m, v):
        """Four parameters and their moments, those before the end."""
        store(step.parameters, i, end, p[0], p[1], p[2], p[3])
        put_moments(step, i, end, m, v)

    @device
    def update_one(step, i, g, decay, n):
        """Update a parameter by its gradient."""
        (first, second), m, v = moments_at(step), zero, zero
        if states > 0:
            m = first[i]
        if states > 1:
            v = second[i]
        p, m, v = rule(step.parameters[i], g, m, v, decay, n)
        step.parameters[i] = p
        if states > 0:
            first[i] = m
        if states > 1:
            second[i] = v

    return SimpleNamespace(
        numbers_of=numbers_of,
        moments_of=moments_of,
        ruled=ruled,
        put_moments=put_moments,
        put=put,
        update_one=update_one,
    )


@for_each_real
def fours_of(real, code):
    """(moments, update_fours, keep_moments): each four by themselves."""
    zero, one = real(0.0), real(1.0)
    by = rule_in_fours(real, code)
    numbers_of, moments_of, ruled, put_moments = by.numbers_of, by.moments_of, by.ruled, by.put_moments
    summed = summed_of(real)

    @device
    def moments(step):
        """Those of a thread's first four parameters, which its registers keep from step to step."""
        m, v, i = (zero, zero, zero, zero), (zero, zero, zero, zero), np.int32(4 * step.thread)
        if i < step.size:
            m, v = moments_of(step, i)
        return m, v

    @device
    def keep_moments(step, m, v):
        i = np.int32(4 * step.thread)
        if i < step.size:
            put_moments(step, i, step.size, m, v)

    @device
    def update_fours(step, m, v):
        """Update a thread's parameters; takes and gives the moments of the first four."""
        i, by, end, first_m, first_v = np.int32(4 * step.thread), np.int32(4 * step.threads), np.int32(step.size), m, v
        n, decay, first = numbers_of(step), step.reals[Real.WEIGHT_DECAY], True
        while i < end:
            turn_by_turn()
            if not first:
                m, v = moments_of(step, i)
            g = summed(step, i, step.parts, one, False)
            p, m, v = ruled(load4(step.parameters + i), m, v, g, decay, n)
            store4(step.parameters + i, p[0], p[1], p[2], p[3])
            if first:
                first_m, first_v, first = m, v, False
            else:
                put_moments(step, i, end, m, v)
            i = np.int32(i + by)
        return first_m, first_v

    return moments, update_fours, keep_moments


@for_each_real
def at_once_of(real, code):
    """(numbers_of, now_at, update_four, update_one, update_few): updates by a gradient that has just been computed.

    What numbers_of(step) and now_at(step, i, wanted) give is read early, so that it is there when the gradient is: what
    the rule gets, as `n`, and what `update_four` replaces.
    """
    zero, by = real(0.0), rule_in_fours(real, code)
    moments_of, ruled, put, update_number = by.moments_of, by.ruled, by.put, by.update_one

    @device
    def now_at(step, i, wanted):
        p = m = v = zero, zero, zero, zero
        if wanted:
            p, (m, v) = load4(step.parameters + i), moments_of(step, i)
        return p, m, v

    @device
    def update_four(step, i, now, g, n):
        p, m, v = ruled(now[0], now[1], now[2], g, step.reals[Real.WEIGHT_DECAY], n)
        put(step, i, i + 4, p, m, v)

    @device
    def update_one(step, i, g, n):
        update_number(step, i, g, step.reals[Real.WEIGHT_DECAY], n)

    @device
    def update_few(step, i, count, g, n):
        """The first `count` of four."""
        k = np.int32(0)
        while k < min(count, np.int32(4)):
            turn_by_turn()
            update_one(step, np.int32(i + k), g[0], n)
            g, k = (g[1], g[2], g[3], g[0]), np.int32(k + 1)

    return by.numbers_of, now_at, update_four, update_one, update_few


@for_each_real
def summed_of(real):
    """`summed(step, i, parts, scale, scales)`: the gradient of four parameters from the i-th on.

    `scales`: whether its first part is multiplied by `scale`. Not by one: a compiler may join the product with the sum
    that follows, and then rounds otherwise than in a kernel without it.
    """

    @device
    def summed(step, i, parts, scale, scales):
        k, at = np.int32(1), np.int32(i + step.size)
        g0, g1, g2, g3 = load4(step.gradients + i)
        if scales:
            g0, g1, g2, g3 = scale * g0, scale * g1, scale * g2, scale * g3
        while k < parts:
            turn_by_turn()
            h0, h1, h2, h3 = load4(step.gradients + at)
            g0, g1, g2, g3 = g0 + h0, g1 + h1, g2 + h2, g3 + h3
            k, at = np.int32(k + 1), np.int32(at + step.size)
        return g0, g1, g2, g3

    return summed


@for_each_real
def passes_of(real, code):
    """(penalty, clip, update) over the ranges of the parameters: `ranges` points to `count` records of them."""
    zero, half = real(0.0), real(0.5)
    by, summed = rule_in_fours(real, code), summed_of(real)
    numbers_of, moments_of, ruled, put, update_one = by.numbers_of, by.moments_of, by.ruled, by.put, by.update_one
    in_fours = real is np.float32  # as vectors; four of float64 take more registers than a thread has

    @device
    def own_of(step, part):
        """(place of a thread's first four in a range, the end of the range)."""
        begin, i, by = np.int32(part[Range.OFFSET]), np.int32(4 * step.thread), np.int32(4 * step.threads)
        if begin > i:
            i = np.int32(i + by * quotient(begin - i + by - 1, by))
        return i, np.int32(begin + part[Range.ROWS] * part[Range.COLUMNS])

    @device
    def penalty(step, ranges, count):
        """A thread's share of l2 / 2 times the sum of the squares of the parameters that l2 acts on."""
        summed = zero
        for index in range(count):
            part = ranges + Range.SIZE * index
            theta, i = step.parameters + part[Range.OFFSET], step.thread
            while part[Range.DECAYS] != 0 and i < part[Range.ROWS] * part[Range.COLUMNS]:
                summed += theta[i] * theta[i]
                i += step.threads
        return half * step.reals[Real.L2] * summed

    @device
    def clip(step, ranges, count):
        """The whole gradient with what l2 adds, clipped by value, for its first part; gives a share of its squares."""
        limit, squares = step.reals[Real.CLIP_VALUE], zero
        for index in range(count):
            part = ranges + Range.SIZE * index
            l2, (i, end) = step.reals[Real.L2] if part[Range.DECAYS] != 0 else zero, own_of(step, part)
            theta, grad = step.parameters, step.gradients
            while i < end:
                for j in range(i, min(i + 4, end)):
                    g = zero
                    for k in range(step.parts):
                        g += grad[k * step.size + j]
                    g += l2 * theta[j]
                    g = limit if g > limit else -limit if g < -limit else g
                    squares += g * g
                    grad[j] = g
                i += 4 * step.threads
        return squares

    @device
    def update(step, ranges, count, parts, scale, scales):
        """Update all parameters from the first `parts` of the gradient; of the last four some in vain."""
        t, r, index, n = step.table, step.reals, np.int32(0), numbers_of(step)
        while index < count:
            turn_by_turn()
            part = ranges + Range.SIZE * index
            decay = r[Real.WEIGHT_DECAY]
            if part[Range.DECAYS] != 0 and t[Run.CLIPS] == 0:  # else the gradient has it
                decay += r[Real.L2]
            i, end = own_of(step, part)
            while i < end:
                turn_by_turn()
                if in_fours:
                    m, v = moments_of(step, i)
                    p = load4(step.parameters + i)
                    p, m, v = ruled(p, m, v, summed(step, i, parts, scale, scales), decay, n)
                    put(step, i, end, p, m, v)
                else:
                    for j in range(i, min(i + 4, end)):
                        g = scale * step.gradients[j]
                        for k in range(1, parts):
                            g += step.gradients[k * step.size + j]
                        update_one(step, j, g, decay, n)
                i = np.int32(i + 4 * step.threads)
            index = np.int32(index + 1)

    return penalty, clip, update

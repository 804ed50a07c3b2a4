"""Gradients of the rows of tables that a batch touches, and their update.

A warp brings together the samples that have the same code of a column, in their order (`arrange`). The gradient of a
row is then a sum over consecutive places, whoever asks for it: it is summed anew for clipping and for the update, and
kept nowhere. So no float is added atomically, and a step takes time by its batch, never by the levels of a column.

In the loops buffers are (features, LD), in the graph (samples, features): hence two steps with each pointer. Elements
of touched rows are counted as (samples, VECTORS + UNITS for each column of one-hot codes).
"""

from typing import Any, NamedTuple

import numpy as np

from ..formulas import RULES
from ..tables import Column, Header, Real, Run
from .columns import CODES, UNITS, VECTORS, column_with, columns_of, features_of
from .phases import Rows
from .primitives import atomic_add_release, global_at, lane_at, load_acquire, peers_of, popc, quotient, warp_barrier
from .toolchain import device, for_each_real
from .updates import rule_of

ARRANGED, INDEX_BYTES = 3, 4  # arrays of `Batch` that `arrange` makes, and bytes of an element of them


class Batch(NamedTuple):
    """The samples of a step, and the gradients from which those of table rows are summed.

    `one_hots`: number of the first column of one-hot codes, which come after those of vectors; `features`: elements of
    the rows that one sample touches. `x`: rows, `by_sample` from sample to sample, `by_column` from column to column;
    `count` of them. `marks`: zero for each level of each column. `order`, `lengths`, `ranks`: int32 (CODES, ld):
    samples, those of a code side by side; at the first of a code how many have it, else 0; how many samples before a
    sample have its code. `vectors` and `sums`: gradients with respect to learned vectors and to what one-hot weights
    are added to, `by_vectors` and `by_sums` from sample to sample, `by_feature` from feature to feature.
    """

    one_hots: int
    features: int
    x: Any
    by_sample: int
    by_column: int
    count: int
    marks: Any
    order: Any
    lengths: Any
    ranks: Any
    ld: int
    vectors: Any
    by_vectors: int
    sums: Any
    by_sums: int
    by_feature: int


@device
def touched_features(op, one_hots):
    """Elements of the rows that one sample touches."""
    return op[VECTORS] + op[UNITS] * (op[CODES] - one_hots)


@for_each_real
def arrange_of(real):
    """Bring the samples of each code together, a warp a column."""
    code_of = features_of(real)[0]

    @device
    def code_at(batch, column, s):
        return code_of(batch.x[s * batch.by_sample + column[Column.SOURCE] * batch.by_column], column)

    @device
    def rank(batch, column, marks, ranks, lane):
        """How many samples before each have its code; a mark then holds how many there are."""
        first = 0
        while first < batch.count:
            s = first + lane
            inside = s < batch.count
            code = code_at(batch, column, s) if inside else -1
            peers = peers_of(code)
            leader, before = popc((peers & -peers) - 1), np.int64(0)
            if inside and lane == leader:
                before = np.int64(atomic_add_release(marks + code, np.uint32(popc(peers))))
            before = lane_at(before, leader)
            if inside:
                ranks[s] = np.int32(before + popc(peers & ((1 << lane) - 1)))
            first += 32

    @device
    def begin(batch, column, marks, ranks, lengths, lane):
        """Where the samples of each code begin: a mark then holds it."""
        first = taken = 0
        while first < batch.count:
            s, count, code = first + lane, np.int64(0), np.int64(0)
            leads = s < batch.count
            if leads:
                leads = ranks[s] == 0
            if leads:
                code = code_at(batch, column, s)
                count = np.int64(load_acquire(marks + code, np.uint32(0)))
            end = count
            for distance in (1, 2, 4, 8, 16):
                other = lane_at(end, max(lane - distance, 0))
                end += other if lane >= distance else 0
            if leads:
                begins = taken + end - count
                lengths[begins] = np.int32(count)
                atomic_add_release(marks + code, np.uint32((begins - count) & 0xFFFFFFFF))
            taken += lane_at(end, 31)
            first += 32

    @device
    def arrange(op, batch, warp, warps, lane):
        c, columns = warp, columns_of(op)
        while c < op[CODES]:
            column, levels = columns + Column.SIZE * c, 0
            for other in range(c):
                levels += columns[Column.SIZE * other + Column.LEVELS]
            marks, at = batch.marks + levels, c * batch.ld
            order, lengths, ranks = batch.order + at, batch.lengths + at, batch.ranks + at
            rank(batch, column, marks, ranks, lane)
            warp_barrier()
            begin(batch, column, marks, ranks, lengths, lane)
            warp_barrier()
            s = lane
            while s < batch.count:
                own = np.int64(load_acquire(marks + code_at(batch, column, s), np.uint32(0))) + ranks[s]
                order[own] = np.int32(s)
                if ranks[s] > 0:
                    lengths[own] = np.int32(0)
                s += 32
            warp_barrier()
            s = lane
            while s < batch.count:
                if ranks[s] == 0:  # the next step finds zeros again
                    mark = marks + code_at(batch, column, s)
                    atomic_add_release(mark, np.uint32(-np.int64(load_acquire(mark, np.uint32(0))) & 0xFFFFFFFF))
                s += 32
            c += warps

    return arrange


@for_each_real
def gradients_of(real):
    """`element(op, batch, k, i)`: (place, gradient) of element i of the row whose samples begin at k of their order.

    The place is among all parameters, below zero where no row begins, or where all of its gradient is zero.
    """
    code_of, zero = features_of(real)[0], real(0.0)

    @device
    def summed(delta, by, order, count):
        """Sum over samples, in their order; four are read at a time."""
        total, i = zero, 0
        while i + 4 <= count:
            a, b = delta[order[i] * by], delta[order[i + 1] * by]
            c, d = delta[order[i + 2] * by], delta[order[i + 3] * by]
            total = (((total + a) + b) + c) + d
            i += 4
        while i < count:
            total += delta[order[i] * by]
            i += 1
        return total

    @device
    def element(op, batch, k, i):
        first, units, vector = batch.one_hots, op[UNITS], i < op[VECTORS]
        c = column_with(op, i) if vector else first + quotient(i - op[VECTORS], units)
        column = columns_of(op) + Column.SIZE * c
        count, order = batch.lengths[c * batch.ld + k], batch.order + (c * batch.ld + k)
        if count == 0:
            return -1, zero
        begins = column[Column.AT] if vector else op[VECTORS] + units * (c - first)
        j, size = i - begins, column[Column.SIZE_OF]
        delta = batch.vectors + begins * batch.by_feature if vector else batch.sums
        by = batch.by_vectors if vector else batch.by_sums
        gradient, tried, some = zero, 0, False
        while tried <= size and not some:  # the element itself, and as long as there are but zeros the others
            g = summed(delta + (j if tried == 0 else tried - 1) * batch.by_feature, by, order, count)
            gradient, some, tried = g if tried == 0 else gradient, g != zero, tried + 1
        if not some:
            return -1, zero
        code = code_of(batch.x[order[0] * batch.by_sample + column[Column.SOURCE] * batch.by_column], column)
        return column[Column.TABLE] + code * size + j, gradient

    return element


@for_each_real
def row_update_of(real, code):
    """`update(t, r, at, gradient, decay, numbers)`: one parameter and its moments, by an update rule."""
    rule, states, zero = rule_of(real, code), len(RULES[code].states), real(0.0)

    @device
    def update(t, r, at, gradient, decay, f):
        parameters, s = global_at(t[Run.PARAMETERS], real) + at, r + Real.SETTINGS
        first, second = global_at(t[Run.FIRST_MOMENT], real) + at, global_at(t[Run.SECOND_MOMENT], real) + at
        m, v = first[0] if states > 0 else zero, second[0] if states > 1 else zero
        numbers = f[0], f[1], f[2], s[0], s[1], s[2], s[3]
        parameters[0], m, v = rule(parameters[0], gradient, m, v, decay, numbers)
        if states > 0:
            first[0] = m
        if states > 1:
            second[0] = v

    return update


@device
def clipped(gradient, limit):
    """A number brought between -limit and limit; NaN stays."""
    return limit if gradient > limit else -limit if gradient < -limit else gradient


@for_each_real
def rows_of(real, code, batch_of):
    """What the loops do with the rows, once the samples are arranged; `batch_of(step, op)` gives them."""
    element, zero, half = gradients_of(real), real(0.0), real(0.5)
    update_one = None if code is None else row_update_of(real, code)

    @device
    def collect(step, op):
        whole = global_at(step.table[Run.GRADIENTS], real)
        batch, item = batch_of(step, op), step.thread
        features = batch.features
        while item < step.count * features:
            k = quotient(item, features)
            at, g = element(op, batch, k, item - k * features)
            if at >= 0:
                whole[at] = g
            item += step.threads

    @device
    def all_rows(step):
        """(first, end) of the parameters of all tables, with zeros between them."""
        program = step.table + step.table[Run.PROGRAM]
        return program[Header.DENSE], program[Header.PARAMETERS]

    @device
    def penalised(step, i):
        """The gradient of a parameter with what l2 adds, clipped by value."""
        t, r = step.table, step.reals
        g = global_at(t[Run.GRADIENTS], real)[i] + r[Real.L2] * global_at(t[Run.PARAMETERS], real)[i]
        return clipped(g, r[Real.CLIP_VALUE])

    @device
    def penalty(step):
        (first, end), summed, parameters = all_rows(step), zero, global_at(step.table[Run.PARAMETERS], real)
        i = first + step.thread
        while i < end:
            summed += parameters[i] * parameters[i]
            i += step.threads
        return half * step.reals[Real.L2] * summed

    @device
    def squares(step, op):
        summed, item = zero, step.thread
        if step.reals[Real.L2] != zero:
            first, end = all_rows(step)
            while first + item < end:
                g = penalised(step, first + item)
                summed += g * g
                item += step.threads
            return summed
        batch = batch_of(step, op)
        features = batch.features
        while item < step.count * features:
            k = quotient(item, features)
            _, g = element(op, batch, k, item - k * features)
            g = clipped(g, step.reals[Real.CLIP_VALUE])
            summed += g * g
            item += step.threads
        return summed

    @device
    def update(step, op, scale):
        item, r, numbers = step.thread, step.reals, step.factors
        if r[Real.L2] != zero:
            whole, (first, end) = global_at(step.table[Run.GRADIENTS], real), all_rows(step)
            while first + item < end:
                g = scale * penalised(step, first + item)
                update_one(step.table, r, first + item, g, r[Real.WEIGHT_DECAY], numbers)
                whole[first + item] = zero  # the next step writes those alone that it touches
                item += step.threads
        else:
            batch = batch_of(step, op)
            features = batch.features
            while item < step.count * features:
                k = quotient(item, features)
                at, g = element(op, batch, k, item - k * features)
                if at >= 0:
                    g = scale * clipped(g, r[Real.CLIP_VALUE])
                    update_one(step.table, r, at, g, r[Real.WEIGHT_DECAY], numbers)
                item += step.threads

    return Rows(collect, penalty, squares, update)

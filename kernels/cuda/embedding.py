"""Features of the columns of a table, and the gradients of the rows of its tables that a batch touches.

Forward: numbers, bins and learned vectors fill the buffer of the operation; the weights of one-hot codes are summed
where the Dense after it puts its products. Backward: a warp brings together the samples that have the same code of a
column, in their order (`arrange`). The gradient of a table's row is then a sum over consecutive places, whoever asks
for it: it is summed anew for clipping and for the update, and kept nowhere. So no float is added atomically, and a step
takes time by its batch, never by the levels of a column.

In the loops buffers are (features, LD), in the graph (samples, features): hence two steps with each pointer. Elements
of touched rows are counted as (samples, VECTORS + UNITS for each column of one-hot codes).
"""

from typing import Any, NamedTuple

import numpy as np

from ..formulas import RULES
from ..program import Dense, Embedding
from ..tables import (
    FINE,
    MISSING,
    PLAIN,
    UPDATE,
    VECTOR,
    Column,
    Header,
    Op,
    Range,
    Real,
    Run,
)
from .launch import THREADS, line, place, plane, run
from .losses import block_sum_of
from .matmul import NO_OPERAND
from .phases import Phases, Rows, delta_of, element_at, padded_count, pre_of, value_of
from .primitives import (
    atomic_add_release,
    global_at,
    lane_at,
    load_acquire,
    peers_of,
    popc,
    quotient,
    shared_memory,
    viewed,
    warp_barrier,
)
from .toolchain import cuda, device, for_each_real, kernel
from .updates import FACTORS, rule_of

IN_PLACE = False  # the codes are needed after the features
CONSTANTS, COLUMNS, CODES = Embedding.fields.CONSTANTS, Embedding.fields.COLUMNS, Embedding.fields.CODES
VECTORS, UNITS, ADDS_TO = Embedding.fields.VECTORS, Embedding.fields.UNITS, Embedding.fields.ADDS_TO
B_AT = Dense.fields.B_AT
CELL = 8  # bytes of a field
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
def columns_of(op):
    """The records of the columns."""
    return global_at(op[CONSTANTS], np.int64)


@device
def column_with(op, feature):
    """The number of the column that makes a feature of the output: the last one that begins there or before."""
    columns, low, high = columns_of(op), 0, op[COLUMNS]
    while high - low > 1:
        middle = (low + high) >> 1
        if columns[Column.SIZE * middle + Column.AT] <= feature:
            low = middle
        else:
            high = middle
    return low


@device
def one_hots_from(op):
    """The number of the first column of one-hot codes: those of vectors come before it."""
    return column_with(op, op[VECTORS] - 1) + 1 if op[VECTORS] > 0 else 0


@device
def touched_features(op, one_hots):
    """Elements of the rows that one sample touches."""
    return op[VECTORS] + op[UNITS] * (op[CODES] - one_hots)


@for_each_real
def features_of(real):
    """(code_of, feature, one_hot_sum): what a row of the table becomes."""
    zero, one = real(0.0), real(1.0)

    @device
    def code_of(x, column):
        """The code that a number stands for: 0 where it is none of its column."""
        if not (x >= zero and x < real(column[Column.LEVELS])):  # so is NaN
            return 0
        code = int(x)
        return code if real(code) == x else 0

    @device
    def feature(parameters, op, x, by_column, i):
        """Feature i of the row at x."""
        column = columns_of(op) + Column.SIZE * column_with(op, i)
        value, j = x[column[Column.SOURCE] * by_column], i - column[Column.AT]
        size, kind = column[Column.SIZE_OF], column[Column.KIND]
        if kind == VECTOR:
            return parameters[column[Column.TABLE] + code_of(value, column) * size + j]
        missing = value != value
        if kind == MISSING:
            return one if missing else zero
        if missing or kind == PLAIN:
            return zero if missing else value
        lower = global_at(op[CONSTANTS] + CELL * Column.SIZE * op[COLUMNS], real) + column[Column.EDGES]
        share = (value - lower[j]) * lower[size + j]
        return one if share > one else share if share > zero else zero

    @device
    def one_hot_sum(parameters, op, x, by_column, i):
        """Sum of the weights of unit i that the one-hot codes of the row at x choose."""
        summed, columns, units = zero, columns_of(op), op[UNITS]
        for c in range(one_hots_from(op), op[CODES]):
            column = columns + Column.SIZE * c
            code = code_of(x[column[Column.SOURCE] * by_column], column)
            summed += parameters[column[Column.TABLE] + code * units + i]
        return summed

    return code_of, feature, one_hot_sum


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
def loop_of(real, structure):
    """The phases of the loops; the tables stand in global memory, also for one block."""
    _, feature, one_hot_sum = features_of(real)
    arrange = arrange_of(real)

    @device
    def batch_of(step, op):
        t, ld, one_hots = step.table, step.table[Run.LD], one_hots_from(op)
        groups, size = viewed(step.workspace + t[Run.GROUPS_AT], np.int32), op[CODES] * ld
        return Batch(
            one_hots,
            touched_features(op, one_hots),
            value_of(step, op[Op.INPUT]),
            1,
            ld,
            step.count,
            global_at(t[Run.MARKS], np.uint32),
            groups,
            groups + size,
            groups + 2 * size,
            ld,
            delta_of(step, op[Op.OUTPUT]),
            1,
            delta_of(step, op[ADDS_TO]),
            1,
            ld,
        )

    @device
    def forward(step, op):
        t, x = step.table, value_of(step, op[Op.INPUT])
        parameters, ld = global_at(t[Run.PARAMETERS], real), t[Run.LD]
        out, sums = value_of(step, op[Op.OUTPUT]), pre_of(step, op[ADDS_TO])
        width, item = op[Op.N_OUT], step.thread
        while item < (width + op[UNITS]) * padded_count(step):
            i, s, at = element_at(step, item)
            if i < width:
                out[at] = feature(parameters, op, x + s, ld, i)
            else:
                sums[at - width * ld] = one_hot_sum(parameters, op, x + s, ld, i - width)
            item += step.threads
        return True

    @device
    def gradient(step, op, before):
        """Arrange the samples, by the first warps."""
        arrange(op, batch_of(step, op), step.thread >> 5, step.threads >> 5, step.thread & 31)
        return before + 32 * op[CODES]

    return Phases((forward,), (), gradient, rows_of(real, structure.rule, batch_of))


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
    def update(step, op, scale, numbers):
        item, r = step.thread, step.reals
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


@device
def op_of(t, number):
    """The record of an operation."""
    program = t + t[Run.PROGRAM]
    return program + (program[Header.OPERATIONS_AT] + Op.SIZE * number)


@device
def may_update(t, result):
    """Whether a step counts: its loss is finite and its batch has weight."""
    return t[Run.STATUS] == FINE and result[1] > 0 and result[0] - result[0] == 0


@for_each_real
def forward_of(real):
    """Features, and the sums of one-hot weights with the bias of the Dense after them, where its products will be."""
    _, feature, one_hot_sum = features_of(real)

    @kernel(256)
    def forward(table, number, count, x, rs_x, out, rs_out, sums, rs_sums, bias_at):
        t, (s, i) = global_at(table, np.int64), place()
        op = op_of(t, number)
        parameters, width = global_at(t[Run.PARAMETERS], real), op[Op.N_OUT]
        if s < count and i < width + op[UNITS]:
            row = global_at(x, real) + s * rs_x
            if i < width:
                global_at(out, real)[s * rs_out + i] = feature(parameters, op, row, 1, i)
            else:
                i -= width
                value = parameters[bias_at + i] + one_hot_sum(parameters, op, row, 1, i)
                global_at(sums, real)[s * rs_sums + i] = value

    return forward


@for_each_real
def batch_at_of(real):
    """The `Batch` of a step of the graph, whose buffers are (samples, features)."""

    @device
    def batch_at(t, op, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums):
        order, size, one_hots = global_at(groups, np.int32), op[CODES] * t[Run.BATCH], one_hots_from(op)
        return Batch(
            one_hots,
            touched_features(op, one_hots),
            global_at(x, real),
            rs_x,
            1,
            count,
            global_at(t[Run.MARKS], np.uint32),
            order,
            order + size,
            order + 2 * size,
            t[Run.BATCH],
            global_at(vectors, real),
            rs_vectors,
            global_at(sums, real),
            rs_sums,
            1,
        )

    return batch_at


@for_each_real
def arrange_kernel_of(real):
    """`arrange`, a warp a column."""
    arrange, batch_at = arrange_of(real), batch_at_of(real)

    @kernel(THREADS)
    def arrange_codes(table, number, count, x, rs_x, groups):
        t, i = global_at(table, np.int64), cuda.grid(1)
        op = op_of(t, number)
        arrange(op, batch_at(t, op, count, x, rs_x, groups, x, 1, x, 1), i >> 5, cuda.gridsize(1) >> 5, i & 31)

    return arrange_codes


@for_each_real
def collect_of(real):
    """The gradients of touched rows to their place among all."""
    element, batch_at = gradients_of(real), batch_at_of(real)

    @kernel(THREADS, min_blocks_per_sm=1)
    def collect(table, number, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums, whole):
        t, item = global_at(table, np.int64), cuda.grid(1)
        op = op_of(t, number)
        batch = batch_at(t, op, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums)
        features = batch.features
        if item < count * features:
            k = item // features
            at, g = element(op, batch, k, item - k * features)
            if at >= 0:
                global_at(whole, real)[at] = g

    return collect


@for_each_real
def squares_of(real):
    """The sum of the squares of the gradients of touched rows, clipped by value, in each block."""
    element, batch_at, zero, block_sum = gradients_of(real), batch_at_of(real), real(0.0), block_sum_of(real)

    @kernel(THREADS, min_blocks_per_sm=1)
    def squares(table, number, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums, reals, out):
        t, item, g = global_at(table, np.int64), cuda.grid(1), zero
        op, warps = op_of(t, number), shared_memory(real, 32)
        batch = batch_at(t, op, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums)
        features = batch.features
        if item < count * features:
            k = item // features
            _, g = element(op, batch, k, item - k * features)
            g = clipped(g, global_at(reals, real)[Real.CLIP_VALUE])
        g = block_sum(g * g, warps)
        if cuda.threadIdx.x == 0:
            global_at(out, real)[cuda.blockIdx.x] = g

    return squares


@for_each_real
def touched_update_of(real, code):
    """Update the rows that the batch touches."""
    element, batch_at, update_one = gradients_of(real), batch_at_of(real), row_update_of(real, code)

    @kernel(THREADS, min_blocks_per_sm=1)
    def update_touched(table, number, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums, reals, scale, result):
        t, r, item = global_at(table, np.int64), global_at(reals, real), cuda.grid(1)
        op = op_of(t, number)
        batch = batch_at(t, op, count, x, rs_x, groups, vectors, rs_vectors, sums, rs_sums)
        features = batch.features
        if item < count * features and may_update(t, global_at(result, real)):
            k = item // features
            at, g = element(op, batch, k, item - k * features)
            if at >= 0:
                g = clipped(g, r[Real.CLIP_VALUE])
                if t[Run.CLIPS] != 0:
                    g *= global_at(scale, real)[0]
                numbers = global_at(t[Run.RATES], real) + FACTORS * t[Run.FINISHED]
                update_one(t, r, at, g, r[Real.WEIGHT_DECAY], numbers)

    return update_touched


@for_each_real
def given_update_of(real, code):
    """Update the rows of a table (levels, size) of which the gradient that is given is not all zero, a thread a row."""
    update_one, zero = row_update_of(real, code), real(0.0)

    @kernel(THREADS, min_blocks_per_sm=1)
    def update_given(table, reals, grad, at, levels, size, scale, result):
        t, r, row = global_at(table, np.int64), global_at(reals, real), cuda.grid(1)
        if row < levels and may_update(t, global_at(result, real)):
            first = at + row * size
            gradient, some = global_at(grad, real) + first, False
            for j in range(size):
                some = some or gradient[j] != zero
            numbers, j = global_at(t[Run.RATES], real) + FACTORS * t[Run.FINISHED], 0
            while some and j < size:
                g = gradient[j]
                if t[Run.CLIPS] != 0:
                    g *= global_at(scale, real)[0]
                update_one(t, r, first + j, g, r[Real.WEIGHT_DECAY], numbers)
                j += 1

    return update_given


def _operands(step, op):
    """What kernels take of the samples and of the deltas of a `graph.Step`."""
    x, sums = step.values[op.number], step.deltas[op.record[ADDS_TO]]
    groups, vectors = step.plan.within(step.plan.schedule.groups_at), step.deltas[op.number + 1]
    return step.table, op.number, step.count, x.address, x.rows, groups, *vectors[:2], *sums[:2]


def _elements(step):
    """The shape of a launch with a thread for each element of the rows that a batch touches."""
    ranges = step.plan.program.ranges
    return line(step.count * int(ranges[ranges[:, Range.BY_TOUCHED_ROWS] != 0, Range.COLUMNS].sum()))


def queue_forward(step, op):
    """Queue the forward pass of a `graph.Step`."""
    x, out, sums, bias_at, units = step.values[op.number], step.values[op.number + 1], NO_OPERAND, 0, op.record[UNITS]
    if units:
        adds_to = op.record[ADDS_TO]
        sums, bias_at = step.pres[adds_to], step.operations[adds_to - 1].record[B_AT]
    arguments = step.count, x.address, x.rows, *out[:2], *sums[:2], bias_at
    shape = plane(step.count, op.n_out + units)
    run(forward_of(step.real), shape, step.stream, step.table, op.number, *map(int, arguments))


def queue_backward(step, op):
    """Queue what brings the samples together by their codes; and the gradients of rows, where one is read whole."""
    codes = int(op.record[CODES])
    if codes:
        *samples, groups = _operands(step, op)[:6]
        run(arrange_kernel_of(step.real), line(32 * codes), step.stream, *map(int, (*samples, groups)))
        if not step.plan.command & UPDATE or step.plan.reals[Real.L2] != 0:
            arguments = *_operands(step, op), step.plan.address("gradient")
            run(collect_of(step.real), _elements(step), step.stream, *map(int, arguments))


def queue_squares(step, out):
    """Queue the squares of the gradients of rows, a sum for each block; gives how many there are."""
    arguments, shape = (*_operands(step, _own(step)), step.plan.address("reals"), out), _elements(step)
    run(squares_of(step.real), shape, step.stream, *map(int, arguments))
    return shape[0]


def queue_update(step, scale, result):
    """Queue the update of touched rows."""
    arguments = *_operands(step, _own(step)), step.plan.address("reals"), scale, result
    chosen = touched_update_of(step.real, step.plan.structure.rule)
    run(chosen, _elements(step), step.stream, *map(int, arguments))


def queue_given(plan, stream, gradient, scale, result):
    """Queue the update of the rows of all tables of which a given gradient is not all zero."""
    chosen = given_update_of(plan.dtype.type, plan.structure.rule)
    table, reals = plan.address("table"), plan.address("reals")
    for at, levels, size, _, by_touched_rows in plan.program.ranges.tolist():
        if by_touched_rows:
            run(chosen, line(levels), stream, table, reals, gradient, at, levels, size, scale, result)


def _own(step):
    """The operation of a `graph.Step` that is an Embedding."""
    return next(op for op in step.operations if isinstance(step.plan.program.operations[op.number], Embedding))

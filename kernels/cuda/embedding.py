"""Features of the columns of a table, and the rows of its tables that a batch touches.

Forward: numbers, bins and learned vectors fill the buffer of the operation; the weights of one-hot codes are summed
where the Dense after it puts its products. Backward: the samples of each code are brought together; what is then done
with the rows stands in `touched`. In the loops buffers are (features, LD), in the graph (samples, features).
"""

import numpy as np

from ..annotations import DeviceArray, Stream
from ..program import Dense, Embedding
from ..tables import FINE, UPDATE, Header, Op, Range, Real, Run
from .columns import ADDS_TO, CODES, UNITS, features_of, one_hots_from
from .launch import THREADS, checked, line, place, plane, run
from .losses import block_sum_of
from .matmul import NO_OPERAND
from .phases import Phases, delta_of, element_at, padded_count, pre_of, value_of
from .primitives import global_at, shared_memory, viewed
from .toolchain import cuda, device, for_each_real, kernel
from .touched import Batch, arrange_of, clipped, gradients_of, row_update_of, rows_of, touched_features
from .updates import FACTORS

IN_PLACE = False  # the codes are needed after the features
B_AT = Dense.fields.B_AT


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
    def forward(step, op, work):
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
    def gradient(step, op, work):
        """Arrange the samples, by the first warps."""
        thread = np.int64(step.thread)
        arrange(op, batch_of(step, op), thread >> 5, step.threads >> 5, thread & 31)

    @device
    def items(step, op):
        return np.int32(32 * op[CODES])

    return Phases((forward,), (), gradient=((items, gradient),), rows=rows_of(real, structure.rule, batch_of))


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

    @kernel(THREADS, min_blocks_per_sm=1)
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


@for_each_real
def row_sum_of(real):
    """Sums of the rows of a table that k codes name, of any strides; as `embedding_sum` has it."""
    zero = real(0.0)

    @kernel(256)
    def row_sum(m, k, levels, size, codes, rs_codes, cs_codes, table, rs, cs, out, rs_out, cs_out):
        (i, j), c, total = place(), global_at(codes, np.int32), zero
        if i < m and j < size:
            for place_of in range(k if levels > 0 else 0):
                code = np.int64(c[i * rs_codes + place_of * cs_codes])
                code = code if code >= 0 and code < levels else 0
                total += global_at(table, real)[code * rs + j * cs]
            global_at(out, real)[i * rs_out + j * cs_out] = total

    return row_sum


def _queue_row_sum(codes, k, strides, table, out, stream):
    sizes, places = (out.shape[0], k, *table.shape), (table.address, *table.strides, out.address, *out.strides)
    run(row_sum_of(table.dtype.type), plane(*out.shape), stream, *sizes, codes.address, *strides, *places)


@checked()
def embedding_gather(codes: DeviceArray, table: DeviceArray, out: DeviceArray, stream: Stream = 0) -> None:
    """The rows of a table that codes name: out[i] = table[codes[i]]. A code that names no row counts as 0.

    Parameters
    ----------
    codes : device array (m,), int32
        A row each, any stride.
    table : device array (levels, size), float32 or float64
        Any strides.
    out : device array (m, size), dtype of table
        Receives the rows; zeros where the table has none.
    stream : stream, optional
        Where it is queued.
    """
    _queue_row_sum(codes, 1, (*codes.strides, 0), table, out, stream)


@checked()
def embedding_sum(codes: DeviceArray, table: DeviceArray, out: DeviceArray, stream: Stream = 0) -> None:
    """Sums of the rows of a table: out[i] = sum of table[codes[i, j]] over j, in that order.

    It is the product of one-hot rows with a matrix, without the zeros.

    Parameters
    ----------
    codes : device array (m, k), int32
        Rows to be added, any strides; a code that names no row counts as 0.
    table : device array (levels, size), float32 or float64
        Any strides.
    out : device array (m, size), dtype of table
        Receives the sums.
    stream : stream, optional
        Where it is queued.
    """
    _queue_row_sum(codes, codes.shape[1], codes.strides, table, out, stream)

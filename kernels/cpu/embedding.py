"""Features of the columns of a table: learned vectors, sums of the weights of one-hot codes, and numbers.

The forward pass makes rows (samples, features) of them, which the operations after it take for the samples; the sums,
which the first Dense adds to its products, stand apart. The backward pass leaves a row a sample of what the gradients
of the tables are made of, for the whole batch. Those are made last, each table by one thread: the samples of a touched
row are linked in their order and summed, and the row is updated at once. So the same bits come out on any number of
threads, and no time is spent on rows that no sample has.

Symbols: codes: of one column, int32, below `levels`; table (levels, size): a row for each code; ld_, inc_: elements
from row to row and from one to the next; heads, after, touched: see `_link`.
"""

import numpy as np

from ..compiler import jit
from ..options import EXACT
from ..program import Embedding
from ..tables import BACKWARD, MISSING, ONE_HOT, PLAIN, UPDATE, VECTOR, Buffer, Column, Op, Real, Run
from . import updates
from .block import COLLECT, COLLECT_AND_UPDATE, UPDATE_PART, Part, Phase, buffer_at, samples_at
from .matmul import copy_rows, transpose
from .memory import int32_at, plain, pointer_at, prefetch, retyped
from .simd import absolute, lanes, load_part, select, splat, store_part, total
from .units import unit

_FIELDS = Embedding.fields
AHEAD = 8  # rows of tables that are fetched before they are needed
MIX = 2654435769  # 2^32 / the golden ratio: neighbouring codes go to slots far apart (Knuth, TAOCP 6.4)


@jit(EXACT)
def _code_of(value, levels):
    """The code that a number stands for; 0 for NaN and whatever else is none."""
    if value >= 0.0 and value < levels:
        code = np.int64(value)
        return code if code == value else 0
    return 0


@jit(EXACT)
def _codes_at(run, scratch, first):
    """(codes of the block in the first column, elements to the next): kept for the whole batch where it is trained."""
    if run[Run.CODES] != 0:
        return int32_at(run[Run.CODES]) + (first - run[Run.FIRST]), run[Run.BATCH]
    return retyped(scratch + run[Run.CODES_AT], int32_at(0)), run[Run.BLOCK]


@jit(EXACT)
def _columns_at(op):
    """The first of the records of `tables.Column`."""
    return op + op[_FIELDS.CONSTANTS]


@jit(EXACT)
def _edges_at(op, record, like):
    """The lower edges of the bins of a column; the inverse widths follow."""
    return retyped(_columns_at(op) + op[_FIELDS.COLUMNS] * Column.SIZE, like) + record[Column.EDGES]


@jit(EXACT)
def _fetch(size, row):
    """Fetch a row of a table, or of what is kept for it."""
    for j in range(0, size, lanes(row)):
        prefetch(row + j)


@jit(EXACT)
def _gather(count, codes, size, table, out, ld_out):
    """The rows of a table that the codes name."""
    for s in range(count):
        if s + AHEAD < count:
            _fetch(size, table + codes[s + AHEAD] * size)
        copy_rows(plain(1), size, table + codes[s] * size, size, out + s * ld_out, size)


@jit(EXACT)
def _add_row(units, row, target):
    """Add a row to another."""
    for j in range(0, units, lanes(target)):
        store_part(target + j, load_part(target + j, units - j) + load_part(row + j, units - j), units - j)


@jit(EXACT)
def _sum_rows(op, theta, sample, codes, ld_codes, out):
    """Sum of the weights of the one-hot codes of a sample, in the order of their columns, four registers at a time."""
    units, tables, width = op[_FIELDS.UNITS], op[_FIELDS.CODES], lanes(theta)
    for j in range(0, units, 4 * width):
        left, record = units - j, _columns_at(op)
        a = b = c = d = splat(0.0, theta)
        for k in range(tables):
            if record[Column.KIND] == ONE_HOT:
                row = theta + (record[Column.TABLE] + codes[k * ld_codes + sample] * units + j)
                a, b = a + load_part(row, left), b + load_part(row + width, left - width)
                c = c + load_part(row + 2 * width, left - 2 * width)
                d = d + load_part(row + 3 * width, left - 3 * width)
            record = record + Column.SIZE
        store_part(out + j, a, left)
        store_part(out + (j + width), b, left - width)
        store_part(out + (j + 2 * width), c, left - 2 * width)
        store_part(out + (j + 3 * width), d, left - 3 * width)


@jit(EXACT)
def _add_one_hot(run, theta, scratch, op, codes, ld_codes, count):
    """The sums of the block, (units, ld), by way of the place of the products that they are added to."""
    units = op[_FIELDS.UNITS]
    sums = scratch + buffer_at(run, op[_FIELDS.ADDS_TO])[Buffer.PRE]
    for s in range(count):
        _sum_rows(op, theta, s, codes, ld_codes, sums + s * units)
    transpose(count, units, sums, units, scratch + run[Run.ADDED_AT], run[Run.LD])


@jit(EXACT)
def _numbers(op, record, count, x, ld_x, out, ld_out):
    """The features of a column of numbers."""
    kind, size = record[Column.KIND], record[Column.SIZE_OF]
    edges = _edges_at(op, record, x)
    for s in range(count):
        value, target = x[s * ld_x], out + s * ld_out
        if kind == PLAIN:
            target[0] = value if value == value else 0.0
        elif kind == MISSING:
            target[0] = 0.0 if value == value else 1.0
        else:
            for j in range(0, size, lanes(x)):
                left = size - j
                share = (splat(value, x) - load_part(edges + j, left)) * load_part(edges + (size + j), left)
                # the comparison is false for NaN: no share
                store_part(target + j, select(share > 0.0, select(share < 1.0, share, 1.0), 0.0), left)


@jit(EXACT)
def _forward(run, theta, scratch, op, first, count):
    """Features as rows, codes, and sums of the weights of one-hot codes."""
    rows, ld = samples_at(run, theta, scratch, first, op)
    out, width = scratch + buffer_at(run, op[Op.OUTPUT])[Buffer.TRANSPOSED], op[Op.N_OUT]
    codes, ld_codes = _codes_at(run, scratch, first)
    record = _columns_at(op)
    for f in range(op[_FIELDS.COLUMNS]):
        x, place, levels = rows + record[Column.SOURCE], out + record[Column.AT], record[Column.LEVELS]
        if f < op[_FIELDS.CODES]:
            mine = codes + f * ld_codes
            for s in range(count):
                mine[s] = _code_of(x[s * ld], levels)
            if record[Column.KIND] == VECTOR:
                _gather(count, mine, record[Column.SIZE_OF], theta + record[Column.TABLE], place, width)
        else:
            _numbers(op, record, count, x, ld, place, width)
        record = record + Column.SIZE
    if op[_FIELDS.UNITS] != 0:
        _add_one_hot(run, theta, scratch, op, codes, ld_codes, count)


@jit(EXACT)
def _slot_of(code, levels, bits):
    """Where the search for a code begins: at its own slot where there is one for each, else as good as anywhere."""
    return code if levels <= 1 << bits else (code * MIX & 0xFFFFFFFF) >> (32 - bits)


@jit(EXACT)
def _find(code, levels, bits, codes, heads):
    """The slot of a code: that of its samples, or an empty one."""
    slot = _slot_of(code, levels, bits)
    while heads[slot] != 0 and codes[heads[slot] - 1] != code:
        slot = (slot + 1) & ((1 << bits) - 1)
    return slot


@jit(EXACT)
def _link(count, codes, levels, bits, heads, after, touched):
    """Link the samples of each code in their order; gives how many codes there are, whose slots `touched` names.

    heads: of each slot the first sample of its code, counted from 1, and 0 in the empty ones, as all are before; after:
    of each sample the next one of its code.
    """
    found = 0
    for s in range(count - 1, -1, -1):
        slot = _find(codes[s], levels, bits, codes, heads)
        head = heads[slot]
        if head == 0:
            touched[found] = slot
            found += 1
        after[s] = head
        heads[slot] = s + 1
    return found


@jit(EXACT)
def _sum_samples(head, after, size, deltas, ld, out):
    """The sum of the rows of linked samples, in their order; gives whether any number of it is not zero."""
    some = False
    for j in range(0, size, lanes(deltas)):
        summed, sample, left = splat(0.0, deltas), np.int64(head), size - j
        while sample != 0:
            summed = summed + load_part(deltas + ((sample - 1) * ld + j), left)
            sample = np.int64(after[sample - 1])
        store_part(out + j, summed, left)
        some = some or total(absolute(summed)) != 0.0
    return some


@jit(EXACT)
def _any(size, gradient):
    """Whether any number of a row is not zero."""
    for j in range(0, size, lanes(gradient)):
        if total(absolute(load_part(gradient + j, size - j))) != 0.0:
            return True
    return False


@jit(EXACT)
def _fetch_state(run, theta, at, size):
    """Fetch a row of a table and its moments, which lie far apart."""
    _fetch(size, theta + at)
    if run[Run.FIRST_MOMENT] != 0:
        _fetch(size, pointer_at(run[Run.FIRST_MOMENT], theta) + at)
    if run[Run.SECOND_MOMENT] != 0:
        _fetch(size, pointer_at(run[Run.SECOND_MOMENT], theta) + at)


@jit(EXACT)
def _update_given(run, reals, theta, record, task, gradient):
    """What a task does with a table whose gradient is given; gives the sum of its squares."""
    size, table, squares = record[Column.SIZE_OF], record[Column.TABLE], 0.0
    for row in range(record[Column.LEVELS]):
        at = table + row * size
        if reals[Real.L2] != 0.0 or _any(size, gradient + at):
            collects, changes = task != UPDATE_PART, task != COLLECT
            squares += updates.visit(run, reals, theta, at, size, gradient + at, reals[Real.L2], collects, changes)
    return squares


@jit(EXACT)
def _update_touched(run, reals, theta, record, task, codes, deltas, heads, links, sums, found):
    """What a task of training does with a table, row by row; gives the sum of the squares of its gradient."""
    size, levels, table, bits = record[Column.SIZE_OF], record[Column.LEVELS], record[Column.TABLE], run[Run.SLOT_BITS]
    l2, ld, squares = reals[Real.L2], run[Run.DELTA_STRIDE], 0.0
    after, touched = links, links + run[Run.BATCH]
    every = l2 != 0.0
    for t in range(levels if every else found):
        slot = _find(t, levels, bits, codes, heads) if every else np.int64(touched[t])
        row = t if every else np.int64(codes[heads[slot] - 1])
        if not every and t + AHEAD < found:
            _fetch_state(run, theta, table + codes[heads[touched[t + AHEAD]] - 1] * size, size)
        some = _sum_samples(heads[slot], after, size, deltas, ld, sums)
        if some or every:
            at = table + row * size
            squares += updates.visit(run, reals, theta, at, size, sums, l2, True, task == COLLECT_AND_UPDATE)
            if task == UPDATE_PART:  # the sums were not kept: they are made, penalised and clipped once more
                updates.visit(run, reals, theta, at, size, sums, l2, False, True)
    return squares


@jit(EXACT)
def _write_gradient(run, theta, record, codes, deltas, heads, links, gradient, found):
    """The gradient of a table: the sums of the touched rows, zeros between them."""
    size, touched, width = record[Column.SIZE_OF], links + run[Run.BATCH], lanes(theta)
    whole = record[Column.LEVELS] * size
    for j in range(0, whole, width):
        store_part(gradient + j, splat(0.0, theta), whole - j)
    for t in range(found):
        head = heads[touched[t]]
        row = np.int64(codes[head - 1])
        _sum_samples(head, links, size, deltas, run[Run.DELTA_STRIDE], gradient + row * size)


@jit(EXACT)
def _table(run, reals, theta, op, thread, index, part, task, gradient):
    """A task over one table."""
    record = _columns_at(op) + Column.SIZE * part[Part.ROW]
    if run[Run.COMMAND] & BACKWARD == 0:
        squares = _update_given(run, reals, theta, record, task, gradient)
    else:
        count, codes = run[Run.COUNT], int32_at(run[Run.CODES]) + part[Part.ROW] * run[Run.BATCH]
        deltas, bits = pointer_at(run[Run.DELTAS], theta) + record[Column.AT], run[Run.SLOT_BITS]
        heads = int32_at(run[Run.HEADS]) + (thread << bits)
        links = int32_at(run[Run.LINKS]) + 2 * run[Run.BATCH] * thread
        touched, squares = links + run[Run.BATCH], 0.0
        found = _link(count, codes, record[Column.LEVELS], bits, heads, links, touched)
        if run[Run.COMMAND] & UPDATE == 0:
            target = gradient + record[Column.TABLE]
            _write_gradient(run, theta, record, codes, deltas, heads, links, target, found)
        else:
            sums = pointer_at(run[Run.PART_BUFFER], theta) + thread * run[Run.PART_BUFFER_SIZE]
            squares = _update_touched(run, reals, theta, record, task, codes, deltas, heads, links, sums, found)
        for t in range(found):
            heads[touched[t]] = 0
    updates.note_squares(run, reals, index, task, squares)


@unit(EXACT, "iIRPPIiiIiPi")
def embedding_block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    """The features of a block, or a task over one table; arguments as `block` says."""
    if phase == Phase.FORWARD:
        _forward(run, theta, scratch, op, first, count)
    elif phase == Phase.TABLE:
        _table(run, reals, theta, op, first, count, part, start, target)


@unit(EXACT, "IRPiPiPI")
def embedding_few_rows(op, alphas, theta, count, x, ld_x, out, failure):
    """A few samples as rows; the sums of the weights of one-hot codes, rows too, stand behind them."""
    width, units, sums = op[Op.N_OUT], op[_FIELDS.UNITS], out + count * op[Op.N_OUT]
    for i in range(count * units):
        sums[i] = 0.0
    record = _columns_at(op)
    for f in range(op[_FIELDS.COLUMNS]):
        source, place, size = x + record[Column.SOURCE], out + record[Column.AT], record[Column.SIZE_OF]
        if f < op[_FIELDS.CODES]:
            for s in range(count):
                row = theta + (record[Column.TABLE] + _code_of(source[s * ld_x], record[Column.LEVELS]) * size)
                if record[Column.KIND] == VECTOR:
                    copy_rows(plain(1), size, row, size, place + s * width, width)
                else:
                    _add_row(size, row, sums + s * units)
        else:
            _numbers(op, record, count, source, ld_x, place, width)
        record = record + Column.SIZE


block, few_rows = embedding_block, embedding_few_rows

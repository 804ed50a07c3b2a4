"""Features of the columns of a table: learned vectors, sums of the weights of one-hot codes, and numbers.

The forward pass makes rows (samples, features) of them, which the operations after it take for the samples; the sums,
which the first Dense adds to its products, stand apart. The backward pass leaves a row a sample of what the gradients
of the tables are made of, for the whole batch. Those are made last, each table by one thread: the samples of a touched
row are linked in their order and summed, and the row is updated at once. So the same bits come out on any number of
threads, and no time is spent on rows that no sample has.

Symbols: codes: of one column, int32, below `levels`; table (levels, size): a row for each code; ld_, inc_: elements
from row to row and from one to the next.
"""

import numpy as np

from ..annotations import Codes, Floats
from ..compiler import jit
from ..options import EXACT
from ..program import Embedding
from ..tables import BACKWARD, MISSING, ONE_HOT, PLAIN, UPDATE, VECTOR, Buffer, Column, Op, Real, Run
from . import updates
from .block import COLLECT, COLLECT_AND_UPDATE, UPDATE_PART, Part, Phase, buffer_at, samples_at, whole_registers
from .matmul import copy_rows, transpose
from .memory import address_of, int32_at, plain, pointer_at, prefetch, retyped
from .simd import absolute, lanes, load, load_part, load_strided, select, splat, store, store_part, store_strided, total
from .units import unit

_FIELDS = Embedding.fields
FAR = 1 << 18  # elements of a table above which it, and its moments, lie far away: in float32 a second-level cache
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
def _read_codes(run, theta, record, count, rows, ld, codes):
    """The codes of a column, whose rows of the table are fetched, and their moments where they are far away."""
    x, levels, size, table = (
        rows + record[Column.SOURCE],
        record[Column.LEVELS],
        record[Column.SIZE_OF],
        record[Column.TABLE],
    )
    far = levels * size > FAR and run[Run.COMMAND] & UPDATE != 0
    for s in range(count):
        code = _code_of(x[s * ld], levels)
        codes[s] = code
        _fetch(size, theta + (table + code * size))
        if far:
            _fetch_moments(run, theta, table + code * size, size)


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
    record, tables = _columns_at(op), op[_FIELDS.CODES]
    if tables > 0:
        _read_codes(run, theta, record, count, rows, ld, codes)
    for f in range(op[_FIELDS.COLUMNS]):
        place, after = out + record[Column.AT], record + Column.SIZE
        if f + 1 < tables:  # while its rows are fetched, those of this column are copied
            _read_codes(run, theta, after, count, rows, ld, codes + (f + 1) * ld_codes)
        if f >= tables:
            _numbers(op, record, count, rows + record[Column.SOURCE], ld, place, width)
        elif record[Column.KIND] == VECTOR:
            mine, size = codes + f * ld_codes, record[Column.SIZE_OF]
            for s in range(count):
                row = theta + (record[Column.TABLE] + mine[s] * size)
                copy_rows(plain(1), size, row, size, place + s * width, width)
        record = after
    if op[_FIELDS.UNITS] != 0:
        _add_one_hot(run, theta, scratch, op, codes, ld_codes, count)


@jit(EXACT)
def _slot_of(code, levels, bits):
    """Where the search for a code begins: at its own slot where there is one for each, else as good as anywhere."""
    return code if levels <= 1 << bits else (code * MIX & 0xFFFFFFFF) >> (32 - bits)


@jit(EXACT)
def _find(code, levels, bits, rows, slots):
    """The slot of a code: the one that holds it, or an empty one."""
    slot = _slot_of(code, levels, bits)
    while slots[slot] != 0 and rows[slots[slot] - 1] != code:
        slot = (slot + 1) & ((1 << bits) - 1)
    return slot


@jit(EXACT)
def _sum_by_code(count, codes, levels, bits, slots, rows, size, deltas, ld, sums):
    """Sum the rows of the samples of each code, in the order of the samples; gives how many codes there are.

    rows: the codes, as they come; sums: (codes, size), each of whole registers, so that one can be added to as soon as
    it is stored; slots: where a code is found, counted from 1 in `rows`, 0 in the empty ones, as all are before.
    """
    found, width = 0, lanes(sums)
    whole = whole_registers(size, width)
    for s in range(count):
        slot = _find(codes[s], levels, bits, rows, slots)
        place, delta = slots[slot], deltas + s * ld
        if place == 0:
            rows[found] = codes[s]
            for j in range(0, size, width):
                store(sums + (found * whole + j), load_part(delta + j, size - j))
            found += 1
            slots[slot] = found
        else:
            for j in range(0, size, width):
                target = sums + ((place - 1) * whole + j)
                store(target, load(target) + load_part(delta + j, size - j))
    return found


@jit(EXACT)
def _clear(found, levels, bits, slots, rows):
    """Empty the slots of the codes that were found, the last first: a search then meets no gap before its code."""
    for i in range(found - 1, -1, -1):
        slots[_find(rows[i], levels, bits, rows, slots)] = 0


@jit(EXACT)
def _sort(found, rows, order):
    """The places of the codes in their order (Shell 1959)."""
    gap = 1
    while gap < found // 3:
        gap = 3 * gap + 1
    for i in range(found):
        order[i] = i
    while gap > 0:
        for i in range(gap, found):
            place, j = np.int64(order[i]), i
            while j >= gap and rows[order[j - gap]] > rows[place]:
                order[j] = order[j - gap]
                j -= gap
            order[j] = place
        gap //= 3


@jit(EXACT)
def _any(size, gradient):
    """Whether any number of a row is not zero."""
    if gradient[0] != 0.0:  # saves a sum across the lanes for nearly all rows
        return True
    for j in range(0, size, lanes(gradient)):
        if total(absolute(load_part(gradient + j, size - j))) != 0.0:
            return True
    return False


@jit(EXACT)
def _fetch_moments(run, theta, at, size):
    """Fetch the moments of a row of a table."""
    if run[Run.FIRST_MOMENT] != 0:
        _fetch(size, pointer_at(run[Run.FIRST_MOMENT], theta) + at)
    if run[Run.SECOND_MOMENT] != 0:
        _fetch(size, pointer_at(run[Run.SECOND_MOMENT], theta) + at)


@jit(EXACT)
def _change_row(run, reals, theta, at, size, task, gradient, kept):
    """What a task does with a row of a table; gives the sum of the squares of its gradient.

    kept: whether the gradient is as an earlier task left it, penalised and clipped.
    """
    l2, squares = reals[Real.L2], 0.0
    if l2 == 0.0 and not _any(size, gradient):
        return squares
    if task == UPDATE_PART:
        if not kept:
            updates.visit(run, reals, theta, at, size, gradient, l2, True, False)
        updates.visit(run, reals, theta, at, size, gradient, l2, False, True)
        return squares
    return updates.visit(run, reals, theta, at, size, gradient, l2, True, task == COLLECT_AND_UPDATE)


@jit(EXACT)
def _change_table(run, reals, theta, record, task, rows, order, sums, found):
    """What a task of training does with the touched rows of a table, in their order where squares are summed."""
    size, table, squares = record[Column.SIZE_OF], record[Column.TABLE], 0.0
    whole, sorts = whole_registers(size, lanes(sums)), task == COLLECT
    if sorts:
        _sort(found, rows, order)
    for i in range(found):
        place = np.int64(order[i]) if sorts else i
        if i + AHEAD < found:
            _fetch(size, theta + (table + rows[i + AHEAD] * size))
            _fetch_moments(run, theta, table + rows[i + AHEAD] * size, size)
        at = table + rows[place] * size
        squares += _change_row(run, reals, theta, at, size, task, sums + place * whole, False)
    return squares


@jit(EXACT)
def _change_whole_table(run, reals, theta, record, task, slots, rows, sums, found):
    """What a task of training does with all rows of a table, on which l2 acts."""
    size, table, bits, squares = record[Column.SIZE_OF], record[Column.TABLE], run[Run.SLOT_BITS], 0.0
    whole = whole_registers(size, lanes(sums))
    zeros = sums + found * whole
    for row in range(record[Column.LEVELS]):
        place = slots[_find(row, record[Column.LEVELS], bits, rows, slots)]
        gradient = zeros if place == 0 else sums + (place - 1) * whole
        for j in range(size if place == 0 else 0):
            zeros[j] = 0.0
        squares += _change_row(run, reals, theta, table + row * size, size, task, gradient, False)
    return squares


@jit(EXACT)
def _write_gradient(record, rows, sums, found, gradient):
    """The gradient of a table: the sums of the touched rows, zeros between them."""
    size, zero = record[Column.SIZE_OF], splat(0.0, sums)
    whole = record[Column.LEVELS] * size
    for j in range(0, whole, lanes(sums)):
        store_part(gradient + j, zero, whole - j)
    for i in range(found):
        copy_rows(plain(1), size, sums + i * whole_registers(size, lanes(sums)), size, gradient + rows[i] * size, size)


@jit(EXACT)
def _change_by_gradient(run, reals, theta, record, task, gradients):
    """What a task does with a table whose gradient is given."""
    size, squares = record[Column.SIZE_OF], 0.0
    for row in range(record[Column.LEVELS]):
        at = record[Column.TABLE] + row * size
        squares += _change_row(run, reals, theta, at, size, task, gradients + at, True)
    return squares


@jit(EXACT)
def _table(run, reals, theta, op, thread, index, part, task, gradients):
    """A task over one table."""
    record, command = _columns_at(op) + Column.SIZE * part[Part.ROW], run[Run.COMMAND]
    batch, bits = run[Run.BATCH], run[Run.SLOT_BITS]
    if command & BACKWARD == 0:
        squares = _change_by_gradient(run, reals, theta, record, task, gradients)
        updates.note_squares(run, reals, index, task, squares)
        return
    levels, size, squares = record[Column.LEVELS], record[Column.SIZE_OF], 0.0
    place = record[Column.AT] if record[Column.KIND] == VECTOR else run[Run.VECTORS]
    codes, deltas = int32_at(run[Run.CODES]) + part[Part.ROW] * batch, pointer_at(run[Run.DELTAS], theta) + place
    slots, rows = int32_at(run[Run.SLOTS]) + (thread << bits), int32_at(run[Run.TOUCHED]) + 2 * thread * batch
    sums, ld = pointer_at(run[Run.PART_BUFFER], theta) + thread * run[Run.PART_BUFFER_SIZE], run[Run.DELTA_STRIDE]
    found = _sum_by_code(run[Run.COUNT], codes, levels, bits, slots, rows, size, deltas, ld, sums)
    if command & UPDATE == 0:
        _write_gradient(record, rows, sums, found, gradients + record[Column.TABLE])
    elif reals[Real.L2] != 0.0:
        squares = _change_whole_table(run, reals, theta, record, task, slots, rows, sums, found)
    else:
        squares = _change_table(run, reals, theta, record, task, rows, rows + batch, sums, found)
    _clear(found, levels, bits, slots, rows)
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


@jit(EXACT)
def _add_strided(code, levels, size, table, rs, cs, out, inc):
    """Add the row of a table that a code names; row 0 where it names none, and nothing where there is no row."""
    row = table + (code if code >= 0 and code < levels else 0) * rs
    for j in range(0, size if levels > 0 else 0, lanes(out)):
        left, place = size - j, out + j * inc
        store_strided(place, inc, load_strided(place, inc, left) + load_strided(row + j * cs, cs, left), left)


@jit(EXACT)
def _zero(size, out, inc):
    """Write zeros to a row."""
    for j in range(0, size, lanes(out)):
        store_strided(out + j * inc, inc, splat(0.0, out), size - j)


@jit(EXACT, public=True)
def embedding_gather(codes: Codes, table: Floats, out: Floats) -> None:
    """The rows of a table that codes name: out[i] = table[codes[i]]. A code that names no row counts as 0.

    Parameters
    ----------
    codes : array (m,), int32
        A row each, any stride.
    table : array (levels, size), float32 or float64
        Any strides.
    out : array (m, size), dtype of table
        Receives the rows; zeros where the table has none.
    """
    levels, size = table.shape
    s, inc = table.itemsize, codes.strides[0] // codes.itemsize
    rs, cs, rs_out, cs_out = table.strides[0] // s, table.strides[1] // s, out.strides[0] // s, out.strides[1] // s
    c, t, o = address_of(codes), address_of(table), address_of(out)
    for i in range(codes.size):
        target = o + i * rs_out
        _zero(size, target, cs_out)
        _add_strided(np.int64(c[i * inc]), levels, size, t, rs, cs, target, cs_out)


@jit(EXACT, public=True)
def embedding_sum(codes: Codes, table: Floats, out: Floats) -> None:
    """Sums of the rows of a table: out[i] = sum of table[codes[i, j]] over j, in that order.

    It is the product of one-hot rows with a matrix, without the zeros.

    Parameters
    ----------
    codes : array (m, k), int32
        Rows to be added, any strides; a code that names no row counts as 0.
    table : array (levels, size), float32 or float64
        Any strides.
    out : array (m, size), dtype of table
        Receives the sums.
    """
    levels, size = table.shape
    s, rs_c, cs_c = table.itemsize, codes.strides[0] // codes.itemsize, codes.strides[1] // codes.itemsize
    rs, cs, rs_out, cs_out = table.strides[0] // s, table.strides[1] // s, out.strides[0] // s, out.strides[1] // s
    c, t, o = address_of(codes), address_of(table), address_of(out)
    for i in range(codes.shape[0]):
        target = o + i * rs_out
        _zero(size, target, cs_out)
        for j in range(codes.shape[1]):
            _add_strided(np.int64(c[i * rs_c + j * cs_c]), levels, size, t, rs, cs, target, cs_out)


@jit(EXACT, public=True)
def embedding_gradient(codes: Codes, dOut: Floats, levels: int, work: Codes, rows: Codes, dRows: Floats) -> int:
    """Gradient of a table by the rows that codes name: each is the sum over its samples, in their order.

    An update kernel on one row after the other, `sgd_update(table[rows[i]], dRows[i], rate, 0.0)`, is then a step of
    training that costs as much as the batch, whatever the size of the table.

    Parameters
    ----------
    codes : array (m,), int32
        The row of each sample, any stride; a code that names none counts as 0.
    dOut : array (m, size), float32 or float64
        Gradient with respect to what `embedding_gather` gave; rows of consecutive elements are fast.
    levels : int
        Rows of the table.
    work : array (w,), int32
        Scratch, consecutive: 4 m elements are enough; with fewer than m + 1 it is slower.
    rows : array (m,), int32
        Receives the rows that some sample has, in the order in which they come, any stride.
    dRows : array (m, size), dtype of dOut
        Receives the gradient of each of them.

    Returns
    -------
    int
        How many rows there are; what comes after them is left as it was.
    """
    m, size = dOut.shape
    s, c, r, w = dOut.itemsize, address_of(codes), address_of(rows), address_of(work)
    d, o = address_of(dOut), address_of(dRows)
    inc, inc_rows, bits, found = codes.strides[0] // codes.itemsize, rows.strides[0] // rows.itemsize, 0, 0
    rs, cs, rs_out, cs_out = dOut.strides[0] // s, dOut.strides[1] // s, dRows.strides[0] // s, dRows.strides[1] // s
    while 2 << bits <= min(work.size, 4 * m):
        bits += 1
    hashed = work.size > 0 and 1 << bits > m
    for i in range(1 << bits if hashed else 0):
        w[i] = 0
    for i in range(m):
        code = np.int64(c[i * inc])
        code = code if code >= 0 and code < levels else 0
        slot, place = _slot_of(code, 1 << 62, bits) if hashed else 0, 0
        if hashed:
            while w[slot] != 0 and r[(w[slot] - 1) * inc_rows] != code:
                slot = (slot + 1) & ((1 << bits) - 1)
            place = w[slot] - 1 if w[slot] != 0 else found
        else:
            while place < found and r[place * inc_rows] != code:
                place += 1
        if place == found:
            r[found * inc_rows] = code
            _zero(size, o + found * rs_out, cs_out)
            found += 1
            if hashed:
                w[slot] = found
        _add_strided(i, m, size, d, rs, cs, o + place * rs_out, cs_out)
    return found

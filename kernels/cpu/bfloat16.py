"""A fully connected layer whose products round their operands to bfloat16, and add up in float32 on the tile unit.

Three products are rounded: Z = W X, delta of X = W^T delta, dW = delta X^T. An operand is rounded once and laid out for
the unit: weights when they change, samples and deltas for each block and product. Everything else is that
of `dense.py`.

An operand of k terms is cut into panels of PANEL lanes (rows of A, columns of B), a panel into steps of STEP terms; a
step takes SIZE elements of float32 memory. Lanes and terms past the last one are zeros.

Symbols: those of `dense.py`; steps: of a panel; `along`: whether the terms of a lane are consecutive in memory.
"""

from ..compiler import jit
from ..options import EXACT, FAST
from ..options import lanes as lanes_of
from ..program import Dense, round_up
from ..tables import ADDED, BACKWARD, EXPANDED, FROM_ROWS, INPUT_BACKWARD, LOGITS, Buffer, Op, Run
from .amx import AHEAD, configure_tiles, multiply_tiles, release_tiles, round_tile
from .block import Part, Phase, buffer_at, samples_at, whole_registers
from .dense import activate_rows, add_rows, bias_gradient, delta_rows, gradient_of, slope_rows, takes_rows
from .matmul import ACCUMULATE, ZERO, copy_rows
from .memory import plain, pointer_at
from .simd import lanes, splat, store_part
from .tile import tile_spill, tile_store, tile_zeros
from .units import unit

_FIELDS = Dense.fields
PANEL = STEP = 32
SIZE, TILE = 512, 256  # elements that a step of a panel takes, and one tile of its two
NEXT = AHEAD * 16 // PANEL  # elements of the next panel that a step fetches, for each column of B
STRIP = 4 * PANEL  # rows whose activation follows their product while both are in the inner caches
# Inputs, and units, from which a layer is rounded. A step of four layers of 64 x 64 took 26 us instead of 45 on a Xeon
# (Emerald Rapids) at batch 32, 225 instead of 308 at batch 128; of 48 x 48 it took 34 instead of 25, and of 512 x 10,
# which fill a third of a panel, 324 instead of 293.
LEAST = 64


def is_rounded(operation, record):
    """Whether the products of an operation are rounded: a Dense that is large, and not one that takes rows."""
    n_in, n_out, from_rows = record[Op.N_IN], record[Op.N_OUT], record[Op.FLAGS] & FROM_ROWS != 0
    is_large = isinstance(operation, Dense) and min(n_in, n_out) >= LEAST
    return bool(is_large and not (from_rows and takes_rows(n_in, n_out, lanes_of(32))))


def operand_size(lanes, terms):
    """Elements of float32 memory that an operand takes."""
    return round_up(lanes, PANEL) * round_up(terms, STEP) // 2


def weights_size(n_in, n_out):
    """Elements that the weights of a layer take, as an operand of forward and of backward."""
    return operand_size(n_out, n_in) + operand_size(n_in, n_out)


@jit(EXACT)
def steps_of(terms):
    """Steps of a panel."""
    return (terms + STEP - 1) // STEP


def _operand_of(along, turned):
    """A kernel that rounds (lanes, terms) into an operand of panels of so many steps, as `round_tile` does a tile."""

    @jit(EXACT)
    def operand(count, terms, source, stride, target, steps):
        edge, width = tile_spill(tile_zeros(source, 16, 2)), STEP if along == 1 else 16
        for lane in range(0, (count + PANEL - 1) // PANEL * PANEL, 16):
            line = target + (lane // PANEL * steps * SIZE + lane // 16 % 2 * TILE)
            for term in range(0, terms, STEP):
                p, pitch = source + (lane * stride + term if along == 1 else term * stride + lane), stride
                if count - lane < 16 or terms - term < STEP:
                    tile_store(tile_zeros(source, 16, 2), edge, 32)
                    here, deep = max(0, min(16, count - lane)), min(STEP, terms - term)
                    rows, columns = (here, deep) if along == 1 else (deep, here)
                    copy_rows(rows, columns, p, stride, edge, width)
                    p, pitch = edge, width
                round_tile(p, pitch, line + term // STEP * SIZE, along, turned)

    return operand


rows_of_a, columns_of_b = _operand_of(1, 0), _operand_of(0, 0)  # as they stand in memory
turned_rows_of_a, turned_columns_of_b = _operand_of(0, 1), _operand_of(1, 1)


@jit(FAST)
def product_rounded(m, n, steps, a, steps_a, b, steps_b, c, ld, start):
    """C (m, n) = A B from operands whose panels have steps_a and steps_b steps; `start` is ZERO or ACCUMULATE."""
    edge = tile_spill(tile_zeros(c, 32, 2))
    for i in range(0, m, PANEL):
        for j in range(0, n, PANEL):
            p, q, target = a + i // PANEL * steps_a * SIZE, b + j // PANEL * steps_b * SIZE, c + (i * ld + j)
            rows, columns, ahead = min(PANEL, m - i), min(PANEL, n - j), p + (steps_a * SIZE + j * steps * NEXT)
            if rows == PANEL and columns == PANEL:
                multiply_tiles(steps, p, q, target, ld, start == ACCUMULATE, ahead)
                continue
            multiply_tiles(steps, p, q, edge, PANEL, 0, ahead)
            if start == ACCUMULATE:
                add_rows(rows, columns, target, ld, edge, PANEL)
            copy_rows(rows, columns, edge, PANEL, target, ld)


@jit(EXACT)
def _kept_at(run, theta, scratch, first):
    """(memory, steps of a panel, first step) of the operands of the gradient: of the whole batch, or of the block."""
    steps = run[Run.OPERAND_STEPS]
    if run[Run.BY_PARTS] != 0:
        return pointer_at(run[Run.TILES], theta), steps, (first - run[Run.FIRST]) // STEP
    return scratch, steps, 0


@jit(FAST)
def _forward(run, reals, theta, scratch, op, first, count):
    """Z = W X + b and A = g(Z), strip by strip of the outputs."""
    n_in, n_out, ld, flags = op[Op.N_IN], op[Op.N_OUT], run[Run.LD], op[Op.FLAGS]
    x, y = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT])
    samples, steps = whole_registers(count, lanes(theta)), steps_of(n_in)
    operand, z, b = scratch + run[Run.OPERAND_AT], scratch + y[Buffer.PRE], theta + op[_FIELDS.B_AT]
    weights, added = pointer_at(run[Run.TILES], theta) + x[Buffer.WEIGHTS], scratch + run[Run.ADDED_AT]
    if flags & FROM_ROWS != 0:
        rows, ld_rows = samples_at(run, theta, scratch, first, op)
        turned_columns_of_b(count, n_in, rows, ld_rows, operand, steps)
    else:
        columns_of_b(samples, n_in, scratch + x[Buffer.VALUE], ld, operand, steps)
    for o in range(0, n_out, STRIP):
        height, zo = min(STRIP, n_out - o), z + o * ld
        for i in range(height):
            bias = splat(b[o + i], theta)
            for s in range(0, samples, lanes(theta)):
                store_part(zo + (i * ld + s), bias, samples - s)
        a = weights + o // PANEL * steps * SIZE
        configure_tiles()
        product_rounded(height, samples, steps, a, steps, operand, steps, zo, ld, ACCUMULATE)
        release_tiles()  # what activates may be the user's own, and use the unit
        if flags & ADDED != 0:
            add_rows(height, samples, added + o * ld, ld, zo, ld)
        if flags & LOGITS == 0:
            activate_rows(run, reals, scratch, op, o, height, count)
    if flags & LOGITS != 0:  # it may be softmax
        activate_rows(run, reals, scratch, op, plain(0), n_out, count)


@jit(FAST)
def _backward(run, reals, theta, scratch, op, first, count, start, target):
    """As `dense.py` has it."""
    n_in, n_out, ld, flags = op[Op.N_IN], op[Op.N_OUT], run[Run.LD], op[Op.FLAGS]
    x, y = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT])
    delta, samples = scratch + y[Buffer.DELTA], whole_registers(count, lanes(theta))
    slope_rows(run, reals, scratch, op, count)
    if run[Run.COMMAND] & BACKWARD != 0:
        kept, steps, step = _kept_at(run, theta, scratch, first)
        inputs, deltas = kept + (x[Buffer.INPUTS] + step * SIZE), kept + (x[Buffer.DELTAS] + step * SIZE)
        if flags & FROM_ROWS != 0:
            rows, ld_rows = samples_at(run, theta, scratch, first, op)
            columns_of_b(n_in, count, rows, ld_rows, inputs, steps)
        else:
            turned_columns_of_b(n_in, count, scratch + x[Buffer.VALUE], ld, inputs, steps)
        rows_of_a(n_out, count, delta, ld, deltas, steps)
        if run[Run.BY_PARTS] == 0:
            dW, db = target + op[_FIELDS.W_AT], target + op[_FIELDS.B_AT]
            _gradient(run, theta, scratch, op, first, count, plain(0), n_out, plain(0), n_in, start, dW, n_in, db)
    if flags & FROM_ROWS == 0 or run[Run.COMMAND] & INPUT_BACKWARD != 0:
        steps, operand, out = steps_of(n_out), scratch + run[Run.OPERAND_AT], scratch + x[Buffer.DELTA]
        weights = pointer_at(run[Run.TILES], theta) + (x[Buffer.WEIGHTS] + _forward_size(n_in, n_out))
        columns_of_b(samples, n_out, delta, ld, operand, steps)
        configure_tiles()
        product_rounded(n_in, samples, steps, weights, steps, operand, steps, out, ld, ZERO)
        release_tiles()
    elif flags & EXPANDED != 0 and run[Run.DELTAS] != 0:
        delta_rows(run, theta, op, first, count, delta)


@jit(EXACT)
def _forward_size(n_in, n_out):
    """Elements before the weights as an operand of backward."""
    return steps_of(n_out) * steps_of(n_in) * SIZE


@jit(FAST)
def _gradient(run, theta, scratch, op, first, count, row, rows, column, columns, start, dW, ld_dw, db):
    """As `dense.py` has it; of the shards, whose operands stand side by side, the first makes that of W for all."""
    x, ld = buffer_at(run, op[Op.INPUT]), run[Run.LD]
    kept, steps, step = _kept_at(run, theta, scratch, first)
    if run[Run.BY_PARTS] == 0 or start == ZERO:
        terms = run[Run.COUNT] if run[Run.BY_PARTS] != 0 else count
        deltas = kept + (x[Buffer.DELTAS] + row // PANEL * steps * SIZE)
        inputs = kept + (x[Buffer.INPUTS] + column // PANEL * steps * SIZE)
        configure_tiles()
        product_rounded(rows, columns, steps_of(terms), deltas, steps, inputs, steps, dW, ld_dw, start)
        release_tiles()
    if column == 0:
        delta = scratch + (buffer_at(run, op[Op.OUTPUT])[Buffer.DELTA] + row * ld)
        bias_gradient(rows, count, delta, ld, start, db)


@jit(EXACT)
def _round_weights(run, theta, op, row, rows, column, columns):
    """Round a part of W, as an operand of forward and, where there will be one, of backward."""
    n_in, n_out = op[Op.N_IN], op[Op.N_OUT]
    source = theta + (op[_FIELDS.W_AT] + row * n_in + column)
    target = pointer_at(run[Run.TILES], theta) + buffer_at(run, op[Op.INPUT])[Buffer.WEIGHTS]
    steps = steps_of(n_in)
    rows_of_a(rows, columns, source, n_in, target + (row // PANEL * steps + column // STEP) * SIZE, steps)
    command, from_rows = run[Run.COMMAND], op[Op.FLAGS] & FROM_ROWS != 0
    if command & INPUT_BACKWARD != 0 or command & BACKWARD != 0 and not from_rows:
        steps, target = steps_of(n_out), target + _forward_size(n_in, n_out)
        target = target + (column // PANEL * steps + row // STEP) * SIZE
        turned_rows_of_a(columns, rows, source, n_in, target, steps)


@unit(FAST, "iIRPPIiiIiPi")
def dense_rounded_block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    """A fully connected layer over a block; arguments as `block` says."""
    if phase == Phase.FORWARD:
        _forward(run, reals, theta, scratch, op, first, count)
    elif phase == Phase.BACKWARD:
        _backward(run, reals, theta, scratch, op, first, count, start, target)
    elif phase == Phase.ROUND:
        _round_weights(run, theta, op, part[Part.ROW], part[Part.ROWS], part[Part.COLUMN], part[Part.COLUMNS])
    else:
        row, rows, column, columns, dW, ld_dw, db = gradient_of(op, part, target, packed)
        _gradient(run, theta, scratch, op, first, count, row, rows, column, columns, start, dW, ld_dw, db)


block = dense_rounded_block

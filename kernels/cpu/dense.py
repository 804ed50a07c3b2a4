"""A fully connected layer: Z = X W^T + b, A = g(Z), and the three gradients.

In a run, X, Z, A and the gradients with respect to them (deltas) are (features, ld), the samples along the lanes;
`dense_forward` and `dense_backward` are the public kernels on (samples, features) arrays.

Symbols: W (n_out, n_in), b (n_out,); ld: elements from feature to feature of a block; rs_, cs_: from row to row and
from column to column; inc_: from one element to the next.
"""

from ..annotations import Floats
from ..compiler import jit
from ..formulas import ACTIVATIONS, LINEAR, OWN, SOFTMAX
from ..options import EXACT, FAST
from ..options import lanes as lanes_of
from ..program import Dense
from ..tables import ADDED, BACKWARD, EXPANDED, FROM_ROWS, INPUT_BACKWARD, LOGITS, Buffer, Op, Real, Run
from .activations import activate_any, activate_slope_any, addresses_of, softmax, softmax_slope
from .block import Part, Phase, Purpose, buffer_at, deltas_at, samples_at, whole_registers
from .matmul import (
    ACCUMULATE,
    BIAS,
    PANELS,
    ZERO,
    panel_width,
    product,
    product_any,
    product_columns,
    product_from_rows,
    product_rows_unit,
    to_panels,
    transpose,
)
from .memory import address_of, call, call_checked, plain
from .simd import lanes, load_part, load_strided, splat, store_part, store_strided, total
from .units import unit

_FIELDS = Dense.fields
# Outputs of a layer from which delta takes W brought together, a few inputs at a time. On an Emerald Rapids a step of
# 1024-1024-1024-1024-10, batch 256, took 39 ms instead of 47; with 512 outputs, whose W comes from L3, 10% more.
PACKED_OUTPUTS = 1024
STRIP = 32  # rows whose activation follows their product while both are in the first-level cache


@jit(FAST)
def _forward(run, reals, theta, scratch, op, first, count):
    """Z = W X + b and A = g(Z); logits for a loss stay as they are, since nothing is linked to activate them."""
    n_in, n_out, ld, flags = op[Op.N_IN], op[Op.N_OUT], run[Run.LD], op[Op.FLAGS]
    x, y = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT])
    W, b = theta + op[_FIELDS.W_AT], theta + op[_FIELDS.B_AT]
    inputs, z, samples = scratch + x[Buffer.VALUE], scratch + y[Buffer.PRE], whole_registers(count, lanes(theta))
    after, added = flags & LOGITS != 0, scratch + run[Run.ADDED_AT]  # activated after all outputs: it may be softmax
    by_rows = False
    if flags & FROM_ROWS != 0:
        rows, ld_rows = samples_at(run, theta, scratch, first, op)
        by_rows = run[Run.BY_ROWS] != 0
        if by_rows:
            # saves the transposition, at the price of one sum across the lanes for each output
            call(op[_FIELDS.PRODUCT_ROWS], (n_out, count, n_in, W, n_in, rows, ld_rows, z, ld, 1, BIAS, b))
        elif run[Run.LOADED] == 0:
            transpose(count, n_in, rows, ld_rows, inputs, ld)
    if not by_rows:
        for o in range(0, n_out, STRIP):
            height = min(STRIP, n_out - o)
            zo = z + o * ld
            product(
                height, samples, n_in, W + o * n_in, n_in, plain(1), inputs, ld, plain(1), zo, ld, plain(BIAS), b + o
            )
            if flags & ADDED != 0:
                add_rows(height, samples, added + o * ld, ld, zo, ld)
            if not after:
                activate_rows(run, reals, scratch, op, o, height, count)
    if by_rows and flags & ADDED != 0:
        add_rows(n_out, samples, added, ld, z, ld)
    if after or by_rows:
        activate_rows(run, reals, scratch, op, plain(0), n_out, count)


@jit(FAST)
def activate_rows(run, reals, scratch, op, row, rows, count):
    """A = g(Z) for `rows` outputs from `row` on, where there is something to do."""
    activate, ld, y = op[_FIELDS.ACTIVATE], run[Run.LD], buffer_at(run, op[Op.OUTPUT])
    if activate != 0:
        z, a = scratch + (y[Buffer.PRE] + row * ld), scratch + (y[Buffer.VALUE] + row * ld)
        columns, alpha = _activated(op, count, z), reals[Real.ALPHAS + op[Op.NUMBER]]
        call_checked(activate, (alpha, rows, columns, z, ld, 1, a, ld, 1), run + Run.FAILURE)


@jit(FAST)
def slope_rows(run, reals, scratch, op, count):
    """Delta of Z from that of A, in place, where there is something to do."""
    slope, ld, y = op[_FIELDS.SLOPE], run[Run.LD], buffer_at(run, op[Op.OUTPUT])
    if slope != 0:
        delta, z, a = scratch + y[Buffer.DELTA], scratch + y[Buffer.PRE], scratch + y[Buffer.VALUE]
        columns, alpha = _activated(op, count, z), reals[Real.ALPHAS + op[Op.NUMBER]]
        call_checked(slope, (alpha, op[Op.N_OUT], columns, delta, z, a, ld), run + Run.FAILURE)


@jit(EXACT)
def _activated(op, count, z):
    """Samples that an activation is computed for: functions of the user's own see real ones only."""
    return count if op[_FIELDS.ACTIVATION] == OWN else whole_registers(count, lanes(z))


@jit(FAST)
def add_rows(rows, columns, more, ld_more, z, ld):
    """Z += more, both (rows, columns)."""
    for i in range(rows):
        p, q = more + i * ld_more, z + i * ld
        for j in range(0, columns, lanes(z)):
            left = columns - j
            store_part(q + j, load_part(q + j, left) + load_part(p + j, left), left)


def takes_rows(n_in, n_out, width):
    """Whether a layer takes samples as they lie: a sum across the lanes costs about what ten transposed elements do."""
    return n_in >= width and n_in >= 10 * n_out


@jit(EXACT)
def _narrowest(samples, width):
    """Most inputs of a layer whose weight gradient is summed along the lanes instead of across them."""
    return 2 * width if samples >= 8 * width else width // 2


@jit(EXACT)
def _is_narrow(run, op, samples, width):
    """Whether the weight gradient is summed along the lanes: there the inputs must stand as (n_in, ld)."""
    by_rows = run[Run.BY_ROWS] != 0 and op[Op.FLAGS] & FROM_ROWS != 0
    return op[Op.N_IN] <= _narrowest(samples, width) and not by_rows


@jit(FAST)
def _backward(run, reals, theta, scratch, op, first, count, start, target):
    """Delta of Z from that of A, delta of X = W^T delta; the gradients of W and b, unless they are made by parts."""
    n_in, n_out, ld, flags, width = op[Op.N_IN], op[Op.N_OUT], run[Run.LD], op[Op.FLAGS], lanes(theta)
    x, y = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT])
    delta, samples = scratch + y[Buffer.DELTA], whole_registers(count, width)
    slope_rows(run, reals, scratch, op, count)
    learns = run[Run.COMMAND] & BACKWARD != 0
    if learns and flags & FROM_ROWS == 0 and not _is_narrow(run, op, count, width):
        wide = panel_width(whole_registers(n_in, width), theta)
        to_panels(count, n_in, scratch + x[Buffer.VALUE], plain(1), ld, wide, scratch + x[Buffer.TRANSPOSED], wide)
    if learns and run[Run.BY_PARTS] == 0:
        dW, db, origin = target + op[_FIELDS.W_AT], target + op[_FIELDS.B_AT], plain(0)
        _gradient(run, theta, scratch, op, first, count, origin, n_out, origin, n_in, start, dW, n_in, db)
    if flags & FROM_ROWS == 0 or run[Run.COMMAND] & INPUT_BACKWARD != 0:
        W, out = theta + op[_FIELDS.W_AT], scratch + x[Buffer.DELTA]
        if PANELS and n_out >= PACKED_OUTPUTS:
            packed = scratch + run[Run.PACKED_AT]
            product_columns(n_in, samples, n_out, W, n_in, delta, ld, plain(1), out, ld, plain(ZERO), packed)
        else:
            product(n_in, samples, n_out, W, plain(1), n_in, delta, ld, plain(1), out, ld, plain(ZERO), W)
    elif flags & EXPANDED != 0 and run[Run.DELTAS] != 0:
        delta_rows(run, theta, op, first, count, delta)


@jit(FAST)
def delta_rows(run, theta, op, first, count, delta):
    """What the gradients of tables are made of, a row a sample: delta of the vectors, then of Z for one-hot codes."""
    out, stride = deltas_at(run, theta, first)
    W, n_in, n_out, ld, vectors = theta + op[_FIELDS.W_AT], op[Op.N_IN], op[Op.N_OUT], run[Run.LD], run[Run.VECTORS]
    product(count, vectors, n_out, delta, plain(1), ld, W, n_in, plain(1), out, stride, plain(ZERO), W)
    if op[Op.FLAGS] & ADDED != 0:
        transpose(n_out, count, delta, ld, out + vectors, stride)


@jit(FAST)
def _gradient(run, theta, scratch, op, first, count, row, rows, column, columns, start, dW, ld_dw, db):
    """dW = delta X^T, `rows` x `columns` of it; with column 0 db = the sums of delta, too. ACCUMULATE adds."""
    ld, n_in, x = run[Run.LD], op[Op.N_IN], buffer_at(run, op[Op.INPUT])
    delta = scratch + (buffer_at(run, op[Op.OUTPUT])[Buffer.DELTA] + row * ld)
    if _is_narrow(run, op, count, lanes(theta)):
        # so few inputs would not fill the lanes
        inputs = scratch + (x[Buffer.VALUE] + column * ld)
        call(op[_FIELDS.PRODUCT_ROWS], (rows, columns, count, delta, ld, inputs, ld, dW, ld_dw, 1, start, dW))
    elif op[Op.FLAGS] & FROM_ROWS != 0:
        samples, ld_samples = samples_at(run, theta, scratch, first, op)
        product_from_rows(rows, columns, count, delta, ld, plain(1), samples + column, ld_samples, dW, ld_dw, start)
    else:
        samples, rows_b = scratch + x[Buffer.TRANSPOSED], count if PANELS else 1
        wide, at = panel_width(whole_registers(n_in, lanes(theta)), theta), samples + column * rows_b
        product(rows, columns, count, delta, ld, plain(1), at, wide, rows_b, dW, ld_dw, start, dW)
    if column == 0:
        bias_gradient(rows, count, delta, ld, start, db)


@jit(FAST)
def bias_gradient(n_out, samples, delta, ld, start, db):
    """db = sum of delta over the samples; ACCUMULATE adds."""
    for o in range(n_out):
        summed = splat(0.0, delta)
        for s in range(0, samples, lanes(delta)):
            summed = summed + load_part(delta + (o * ld + s), samples - s)
        db[o] = total(summed) + (db[o] if start == ACCUMULATE else 0.0)


@jit(EXACT)
def gradient_of(op, part, target, packed):
    """(first row, rows, first column, columns, dW, ld_dw, db) of a part, in the whole gradient or packed on its own."""
    row, rows, column, n_in = part[Part.ROW], part[Part.ROWS], part[Part.COLUMN], op[Op.N_IN]
    columns = min(part[Part.COLUMNS], n_in)  # without inputs the part of b alone is a column
    dW, ld_dw, db = target + (op[_FIELDS.W_AT] + row * n_in + column), n_in, target + (op[_FIELDS.B_AT] + row)
    if packed != 0:
        dW, ld_dw, db = target, columns, target + rows * columns
    return row, rows, column, columns, dW, ld_dw, db


@unit(FAST, "iIRPPIiiIiPi")
def dense_block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    """A fully connected layer over a block; arguments as `block` says."""
    if phase == Phase.FORWARD:
        _forward(run, reals, theta, scratch, op, first, count)
    elif phase == Phase.BACKWARD:
        _backward(run, reals, theta, scratch, op, first, count, start, target)
    else:
        row, rows, column, columns, dW, ld_dw, db = gradient_of(op, part, target, packed)
        _gradient(run, theta, scratch, op, first, count, row, rows, column, columns, start, dW, ld_dw, db)


@unit(FAST, "IRPiPiPI")
def dense_few_rows(op, alphas, theta, count, x, ld_x, out, failure):
    """Out = g(x W^T + b) for a few samples as rows, the features along the lanes."""
    n_in, n_out, activate = op[Op.N_IN], op[Op.N_OUT], op[_FIELDS.ACTIVATE]
    W, b = theta + op[_FIELDS.W_AT], theta + op[_FIELDS.B_AT]
    call(op[_FIELDS.PRODUCT_ROWS], (n_out, count, n_in, W, n_in, x, ld_x, out, 1, n_out, BIAS, b))
    if op[Op.FLAGS] & ADDED != 0:
        add_rows(plain(1), count * n_out, x + count * n_in, 0, out, 0)
    if activate != 0:
        call_checked(activate, (alphas[op[Op.NUMBER]], n_out, count, out, 1, n_out, out, 1, n_out), failure)


block, few_rows = dense_block, dense_few_rows


def link(record, dtype, operation, purpose):
    """Complete a record of a program for the CPU, of a library's activation where `operation` is None.

    Gives what must live as long as the addresses in it.
    """
    kept = None
    n_in, n_out, flags = record[Op.N_IN], record[Op.N_OUT], record[Op.FLAGS]
    if purpose != Purpose.TRAIN or flags & LOGITS == 0:
        code = record[_FIELDS.ACTIVATION]
        activation = ACTIVATIONS[code] if operation is None else operation.activation
        activate, slope, kept = addresses_of(activation, dtype, purpose in (Purpose.TRAIN, Purpose.SLOPES))
        record[_FIELDS.ACTIVATE], record[_FIELDS.SLOPE] = activate, slope
    width = lanes_of(8 * dtype.itemsize)
    by_rows = flags & FROM_ROWS != 0 and takes_rows(n_in, n_out, width)
    if purpose == Purpose.FEW_ROWS or by_rows or n_in <= 2 * width:
        record[_FIELDS.PRODUCT_ROWS] = product_rows_unit.address(dtype)
    return kept


@jit(FAST, public=True)
def dense_forward(
    X: Floats, W: Floats, b: Floats, activation: int, param: float, work: Floats, Z: Floats, A: Floats
) -> None:
    """Z = X W^T + b, A = g(Z).

    Parameters
    ----------
    X : array (m, n_in), float32 or float64
        Samples, any strides.
    W : array (n_out, n_in), dtype of X
        Weights.
    b : array (n_out,), dtype of X
        Biases.
    activation : int
        An activation code such as `kernels.RELU`.
    param : float
        alpha of leaky_relu and elu.
    work : array (w,), dtype of X
        Scratch of `work_size(m, n_in, n_out)` elements, consecutive; empty: slower, without it.
    Z, A : array (m, n_out), dtype of X
        Receive the pre-activations and the outputs. Z may be A, but for silu, gelu and gelu_tanh if a backward pass
        follows.
    """
    m, n_in = X.shape
    n_out = W.shape[0]
    s = X.itemsize
    rs_z, cs_z, rs_a, cs_a = Z.strides[0] // s, Z.strides[1] // s, A.strides[0] // s, A.strides[1] // s
    z, a, bias, inc_bias = address_of(Z), address_of(A), address_of(b), b.strides[0] // s
    for i in range(m):
        for o in range(0, n_out, lanes(z)):
            left = n_out - o
            store_strided(z + (i * rs_z + o * cs_z), cs_z, load_strided(bias + o * inc_bias, inc_bias, left), left)
    product_any(
        m,
        n_out,
        n_in,
        address_of(X),
        X.strides[0] // s,
        X.strides[1] // s,
        address_of(W),
        W.strides[1] // s,
        W.strides[0] // s,
        z,
        rs_z,
        cs_z,
        ACCUMULATE,
        address_of(work),
        work.size,
    )
    if activation == SOFTMAX:
        softmax(n_out, m, z, cs_z, rs_z, a, cs_a, rs_a)
    else:
        activate_any(activation, param, m, n_out, z, rs_z, cs_z, a, rs_a, cs_a)


@jit(FAST, public=True)
def dense_backward(
    dA: Floats,
    Z: Floats,
    A: Floats,
    X: Floats,
    W: Floats,
    activation: int,
    param: float,
    work: Floats,
    dX: Floats,
    dW: Floats,
    db: Floats,
) -> None:
    """Gradients of a layer: dZ = dA * g'(Z), dW = dZ^T X, db = sum of dZ, dX = dZ W.

    Parameters
    ----------
    dA : array (m, n_out), float32 or float64
        Gradient with respect to A; overwritten with dZ.
    Z, A : array (m, n_out), dtype of dA
        Of the forward pass.
    X : array (m, n_in), dtype of dA
        Samples.
    W : array (n_out, n_in), dtype of dA
        Weights.
    activation : int
        An activation code.
    param : float
        alpha of leaky_relu and elu.
    work : array (w,), dtype of dA
        Scratch of `work_size(m, n_in, n_out)` elements, consecutive; empty: slower, without it.
    dX : array (m, n_in), dtype of dA
        Receives the gradient with respect to X; shape (0, 0) if not wanted.
    dW : array (n_out, n_in), dtype of dA
        Receives the gradient with respect to W.
    db : array (n_out,), dtype of dA
        Receives the gradient with respect to b.
    """
    m, n_in = X.shape
    n_out = W.shape[0]
    s = dA.itemsize
    rs, cs, rs_z, cs_z = dA.strides[0] // s, dA.strides[1] // s, Z.strides[0] // s, Z.strides[1] // s
    rs_a, cs_a, rs_x, cs_x = A.strides[0] // s, A.strides[1] // s, X.strides[0] // s, X.strides[1] // s
    delta, z, a, x, scratch = address_of(dA), address_of(Z), address_of(A), address_of(X), address_of(work)
    if activation == SOFTMAX:
        softmax_slope(n_out, m, delta, cs, rs, a, cs_a, rs_a, delta, cs, rs)
    elif activation != LINEAR:
        activate_slope_any(activation, param, m, n_out, delta, rs, cs, z, rs_z, cs_z, a, rs_a, cs_a, delta, rs, cs)
    rs_w, cs_w = dW.strides[0] // s, dW.strides[1] // s
    product_any(n_out, n_in, m, delta, cs, rs, x, rs_x, cs_x, address_of(dW), rs_w, cs_w, ZERO, scratch, work.size)
    sums, by = address_of(db), db.strides[0] // s
    for o in range(0, n_out, lanes(delta)):
        left = n_out - o
        summed = splat(0.0, delta)
        for i in range(m):
            summed = summed + load_strided(delta + (i * rs + o * cs), cs, left)
        store_strided(sums + o * by, by, summed, left)
    if dX.size > 0:
        w, out = address_of(W), address_of(dX)
        rs_w, cs_w = W.strides[0] // s, W.strides[1] // s
        rs_x, cs_x = dX.strides[0] // s, dX.strides[1] // s
        product_any(m, n_in, n_out, delta, rs, cs, w, rs_w, cs_w, out, rs_x, cs_x, ZERO, scratch, work.size)

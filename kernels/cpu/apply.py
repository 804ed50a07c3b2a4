"""Prediction of a few rows, for services that ask one at a time: no run, no threads, features along the lanes.

A table is that of a net, or of an ensemble: then the outputs are the average of those of its nets.
"""

import numpy as np

from ..annotations import Floats, Integers
from ..compiler import jit
from ..options import EXACT, FAST
from ..tables import FEW_ROWS_MARK, Header, Op
from .average import add_weighted, round_average
from .memory import address_of, call, flush_denormals, hold, restore_float_control, retyped, stack_integer
from .own import UNFIT

ROWS = 16  # that go through the net together


@jit(FAST)
def _fit(program, size, alphas, theta, item, X, out):
    """Whether a table is one of `link`'s, and all arrays are of the sizes that it names."""
    if size < Header.SIZE or program[Header.FEW_ROWS] != FEW_ROWS_MARK + item:
        return False
    whole = size == program[Header.LENGTH] and theta == program[Header.PARAMETERS]
    whole = whole and alphas == program[Header.OPERATIONS] + program[Header.MEMBERS]
    return whole and X[1] == program[Header.FEATURES] and out[1] == program[Header.OUTPUTS] and X[0] == out[0]


@jit(FAST)
def _outputs(program, alphas, theta, count, x, rs_x, cs_x, work, half, failure):
    """Where the outputs of a net for a few samples stand: in `work`, row by row, one of its two halves."""
    features = program[Header.FEATURES]
    if cs_x != 1:
        for i in range(count):
            for j in range(features):
                work[half + i * features + j] = x[i * rs_x + j * cs_x]
        x, rs_x = work + half, features
    op = program + program[Header.OPERATIONS_AT]
    for i in range(program[Header.OPERATIONS]):
        z = work + (i % 2) * half
        call(op[Op.FEW_ROWS], (op, alphas, theta, count, x, rs_x, z, failure))
        x, rs_x = z, op[Op.N_OUT]
        op = op + Op.SIZE
    return x


@jit(EXACT)
def _average(program, weights, theta, count, x, rs_x, cs_x, work, half, failure):
    """Where the average of the outputs of an ensemble stands, as `_outputs` says; the sums stand behind `work`."""
    members, size = program[Header.MEMBERS], count * program[Header.OUTPUTS]
    sums, alphas, net, total = retyped(work + 2 * half, weights), weights + members, program + Header.SIZE, 0.0
    for i in range(size):
        sums[i] = 0.0
    for k in range(members):
        z = _outputs(net, alphas, theta, count, x, rs_x, cs_x, work, half, failure)
        add_weighted(size, weights[k], z, sums)
        total += weights[k]
        alphas, theta = alphas + net[Header.OPERATIONS], theta + net[Header.PARAMETERS]
        net = net + net[Header.LENGTH]
    round_average(size, total, sums, work)
    return work


@jit(FAST, public=True)
def apply_rows(table: Integers, alphas: Floats, theta: Floats, X: Floats, out: Floats) -> int:
    """Outputs of a net, or of an ensemble, for a few rows: fastest below some tens of them, right for any number.

    It takes its working space, a few rows of the widest layer, from the heap.

    Parameters
    ----------
    table : array (t,), int64
        A linked program without what only trains, as `link` gives it, or several, as `join` gives them.
    alphas : array (operations,), float64
        Parameter of each activation; for an ensemble the weight of each net before them.
    theta : array (p,), float32 or float64
        The flat parameters, of one net after the other.
    X : array (m, n_in), dtype of theta
        Samples, any strides.
    out : array (m, n_out), dtype of theta
        Receives the outputs.

    Returns
    -------
    int
        0, or what `own.failure_at` makes an exception of: that which a function of the user's own raised, or UNFIT.
    """
    m = X.shape[0]
    program, outputs = address_of(table), out.shape[1]
    if not _fit(program, table.size, alphas.size, theta.size, theta.itemsize, X.shape, out.shape):
        return UNFIT
    members, size = program[Header.MEMBERS], X.itemsize
    half, sums = min(m, ROWS) * program[Header.WIDEST], min(m, ROWS) * outputs * (8 // size) if members > 0 else 0
    space = np.empty(2 * half + sums, theta.dtype)
    r, p, work, failure = address_of(alphas), address_of(theta), address_of(space), stack_integer()
    rs_x, cs_x = X.strides[0] // size, X.strides[1] // size
    rs_out, cs_out = out.strides[0] // size, out.strides[1] // size
    control = flush_denormals()
    for first in range(0, m, ROWS):
        count, x = min(ROWS, m - first), address_of(X) + first * rs_x
        if members == 0:
            z = _outputs(program, r, p, count, x, rs_x, cs_x, work, half, failure)
        else:
            z = _average(program, r, p, count, x, rs_x, cs_x, work, half, failure)
        target = address_of(out) + first * rs_out
        for i in range(count):
            for j in range(outputs):
                target[i * rs_out + j * cs_out] = z[i * outputs + j]
    restore_float_control(control)
    result = failure[0]
    hold(space)
    return result

"""Prediction of a few rows, for services that ask one at a time: no run, no threads, features along the lanes."""

import numpy as np

from ..annotations import Floats, Integers
from ..compiler import jit
from ..options import FAST
from ..tables import FEW_ROWS_MARK, Header, Op
from .memory import address_of, call, flush_denormals, hold, restore_float_control, stack_integer
from .own import UNFIT

ROWS = 16  # that go through the net together


@jit(FAST)
def _fit(program, size, alphas, theta, item, X, out):
    """Whether a table is one of `link`'s, and all arrays are of the sizes that it names."""
    if size < Header.SIZE or program[Header.FEW_ROWS] != FEW_ROWS_MARK + item:
        return False
    whole = size == program[Header.LENGTH] and theta == program[Header.PARAMETERS]
    whole = whole and alphas == program[Header.OPERATIONS]
    return whole and X[1] == program[Header.FEATURES] and out[1] == program[Header.OUTPUTS] and X[0] == out[0]


@jit(FAST, public=True)
def apply_rows(table: Integers, alphas: Floats, theta: Floats, X: Floats, out: Floats) -> int:
    """Outputs of a net for a few rows: fastest below some tens of them, right for any number.

    It takes its working space, a few rows of the widest layer, from the heap.

    Parameters
    ----------
    table : array (t,), int64
        A linked program without what only trains, as `link` gives it.
    alphas : array (operations,), float64
        Parameter of each activation.
    theta : array (p,), float32 or float64
        The flat parameters.
    X : array (m, n_in), dtype of theta
        Samples, any strides.
    out : array (m, n_out), dtype of theta
        Receives the outputs.

    Returns
    -------
    int
        0, or what `own.failure_at` makes an exception of: that which a function of the user's own raised, or UNFIT.
    """
    m, features = X.shape
    program, outputs, widest = address_of(table), out.shape[1], features
    if not _fit(program, table.size, alphas.size, theta.size, theta.itemsize, X.shape, out.shape):
        return UNFIT
    operations, first_op = program[Header.OPERATIONS], program + program[Header.OPERATIONS_AT]
    for i in range(operations):
        widest = max(widest, first_op[i * Op.SIZE + Op.N_OUT])
    half = min(m, ROWS) * widest
    space = np.empty(2 * half, theta.dtype)
    r, p, work, failure = address_of(alphas), address_of(theta), address_of(space), stack_integer()
    size = X.itemsize
    rs_x, cs_x = X.strides[0] // size, X.strides[1] // size
    rs_out, cs_out = out.strides[0] // size, out.strides[1] // size
    control = flush_denormals()
    for first in range(0, m, ROWS):
        count = min(ROWS, m - first)
        x, ld_x = address_of(X) + first * rs_x, rs_x
        if cs_x != 1:
            for i in range(count):
                for j in range(features):
                    work[half + i * features + j] = x[i * rs_x + j * cs_x]
            x, ld_x = work + half, features
        op = first_op
        for i in range(operations):
            z = work + (i % 2) * half
            call(op[Op.FEW_ROWS], (op, r, p, count, x, ld_x, z, failure))
            x, ld_x = z, op[Op.N_OUT]
            op = op + Op.SIZE
        target = address_of(out) + first * rs_out
        for i in range(count):
            for j in range(outputs):
                target[i * rs_out + j * cs_out] = x[i * outputs + j]
    restore_float_control(control)
    result = failure[0]
    hold(space)
    return result

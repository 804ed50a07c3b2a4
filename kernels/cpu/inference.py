"""Prediction of a few rows, for services that ask one at a time: no plan, no threads, features along the lanes."""

import numpy as np

from .. import plan
from ..annotations import Floats, Integers
from ..formulas import CUSTOM, LINEAR, SOFTMAX
from ..options import FAST, jit
from .activations import activate, softmax
from .matmul import BIAS, product_rows
from .memory import address_of, call_activation, plain

ROWS = 16  # that go through the net together


@jit(FAST)
def _through(layers, layer, alphas, theta, count, x, ld_x, work, half):
    """Take `count` rows through all layers, in the two halves of `work` by turns; gives where the outputs stand."""
    for i in range(layers):
        n_in, n_out, code = layer[plan.N_IN], layer[plan.N_OUT], layer[plan.ACTIVATION]
        W, b, z = theta + layer[plan.W_AT], theta + layer[plan.B_AT], work + (i % 2) * half
        product_rows(n_out, count, n_in, W, n_in, x, ld_x, z, plain(1), n_out, plain(BIAS), b)
        if code == SOFTMAX:
            softmax(n_out, count, z, plain(1), n_out, z, plain(1), n_out)
        elif code == CUSTOM:
            call_activation(layer[plan.FUNCTION], z, z, count, n_out, n_out)
        elif code != LINEAR:
            activate(code, alphas[i], count, n_out, z, n_out, z, n_out)
        x, ld_x = z, n_out
        layer = layer + plan.RECORD
    return x


@jit(FAST, public=True)
def predict_rows(records: Integers, alphas: Floats, theta: Floats, X: Floats, out: Floats) -> None:
    """Outputs of a net for a few rows: fastest below some tens of them, right for any number.

    It takes its working space, a few rows of the widest layer, from the heap.

    Parameters
    ----------
    records : array (layers, plan.RECORD), int64
        The layers, as `plan.Layout.records` has them.
    alphas : array (layers,), float64
        Parameter of each activation.
    theta : array (p,), float32 or float64
        The flat parameters.
    X : array (m, n_in), dtype of theta
        Samples, any strides.
    out : array (m, n_out), dtype of theta
        Receives the outputs.
    """
    m, features = X.shape
    layers, outputs, widest = len(records), out.shape[1], features
    for i in range(layers):
        widest = max(widest, records[i, plan.N_OUT])
    half = min(m, ROWS) * widest
    space = np.empty(2 * half, theta.dtype)
    t, r, p, work = address_of(records), address_of(alphas), address_of(theta), address_of(space)
    size = X.itemsize
    rs_x, cs_x = X.strides[0] // size, X.strides[1] // size
    rs_out, cs_out = out.strides[0] // size, out.strides[1] // size
    for first in range(0, m, ROWS):
        count = min(ROWS, m - first)
        x, ld_x = address_of(X) + first * rs_x, rs_x
        if cs_x != 1:
            for i in range(count):
                for j in range(features):
                    work[half + i * features + j] = x[i * rs_x + j * cs_x]
            x, ld_x = work + half, features
        z, target = _through(layers, t, r, p, count, x, ld_x, work, half), address_of(out) + first * rs_out
        for i in range(count):
            for j in range(outputs):
                target[i * rs_out + j * cs_out] = z[i * outputs + j]

"""One block of samples on its way through a net: gather, forward, loss, backward. Everything comes from the tables.

Inside, activations are (features, samples) with `ld` elements from row to row, the samples along the lanes.
"""

import numpy as np

from .. import plan
from ..formulas import CUSTOM, LINEAR, SOFTMAX
from ..options import EXACT, FAST, VECTORS, jit
from .activations import activate_slope, softmax
from .dense import (
    bias_gradient,
    forward_lanes,
    forward_rows,
    input_gradient_lanes,
    weight_gradient,
    weight_gradient_narrow,
)
from .dropout import drop_lanes, drop_row
from .losses import loss_sum
from .matmul import ZERO, copy_rows, product, transpose
from .memory import call_activation, call_loss, plain, pointer_at
from .rng import layer_key, permuted
from .simd import lanes, load_part, store_part


@jit(EXACT)
def row_at(t, index):
    """The row of the data that stands at `index` of the epoch's order."""
    if t[plan.SHUFFLE] != 0:
        return permuted(np.uint64(t[plan.KEY]), index, t[plan.ROWS], t[plan.LEFT_BITS], t[plan.RIGHT_BITS])
    return index


@jit(EXACT)
def _gather(t, theta, scratch, first, count):
    """Bring rows, targets and weights together as they are visited; targets as (outputs, ld)."""
    features, stride, ld = t[plan.FEATURES], t[plan.X_STRIDE], t[plan.LD]
    x, y, w = pointer_at(t[plan.X], theta), pointer_at(t[plan.Y], theta), pointer_at(t[plan.WEIGHTS], theta)
    rows, targets = scratch + t[plan.ROWS_AT], scratch + t[plan.TARGETS_AT]
    columns = t[plan.Y_COLUMNS]
    for s in range(count):
        row = row_at(t, first + s)
        copy_rows(plain(1), features, x + row * stride, stride, rows + s * features, features)
        for j in range(columns):
            targets[j * ld + s] = y[row * columns + j]
        if t[plan.WEIGHTS] != 0:
            scratch[t[plan.WEIGHTS_AT] + s] = w[row]
    if t[plan.SHIFTS] != 0:
        shifts, scales = pointer_at(t[plan.SHIFTS], theta), pointer_at(t[plan.SCALES], theta)
        for s in range(count):
            x = rows + s * features
            for j in range(0, features, lanes(x)):
                left = features - j
                value = (load_part(x + j, left) - load_part(shifts + j, left)) * load_part(scales + j, left)
                store_part(x + j, value, left)
    drops = t[t[plan.LAYERS_AT] + plan.DROPS]
    if drops != 0:
        key = layer_key(t[plan.DROPOUT_KEY], plain(0))
        for s in range(count):
            x = rows + s * features
            drop_row(key, drops, features, t[plan.SEEN] + first + s, x, x)


@jit(EXACT)
def _narrowest(samples, width):
    """Most inputs of a layer whose weight gradient is summed along the lanes instead of across them."""
    return 2 * width if samples >= 8 * width else width // 2


@jit(EXACT)
def _samples(t, theta, scratch, first):
    """(rows, their stride) of the block, as (samples, features)."""
    if t[plan.GATHERS] != 0:
        return scratch + t[plan.ROWS_AT], t[plan.FEATURES]
    return pointer_at(t[plan.X], theta) + first * t[plan.X_STRIDE], t[plan.X_STRIDE]


@jit(EXACT)
def _whole_tiles(count, width):
    """Columns that whole register tiles cover: the lanes past the last sample are computed with and never used."""
    tile = VECTORS * width
    return (count + tile - 1) // tile * tile


@jit(FAST)
def _forward(t, r, theta, scratch, first, count):
    """Every layer's outputs for a block of samples; logits where the loss takes them and no output is wanted."""
    layers, ld = t[plan.LAYERS], t[plan.LD]
    samples = _whole_tiles(count, lanes(theta))
    rows, ld_rows = _samples(t, theta, scratch, first)
    layer = t + t[plan.LAYERS_AT]
    by_rows = t[plan.BY_ROWS] != 0
    if not by_rows and t[plan.LOADED] == 0:
        transpose(count, t[plan.FEATURES], rows, ld_rows, scratch + layer[plan.X_AT], ld)
    for i in range(layers):
        n_in, n_out, code = layer[plan.N_IN], layer[plan.N_OUT], layer[plan.ACTIVATION]
        if i == layers - 1 and t[plan.LOGITS] != 0 and t[plan.FLAGS] & plan.WRITE_OUTPUT == 0:
            code = LINEAR
        W, b, alpha = theta + layer[plan.W_AT], theta + layer[plan.B_AT], r[plan.ALPHAS + i]
        x, z, a = scratch + layer[plan.X_AT], scratch + layer[plan.Z_AT], scratch + layer[plan.A_AT]
        by_plan = LINEAR if code == CUSTOM else code
        if i > 0 and layer[plan.DROPS] != 0:
            whole, key = scratch + layer[plan.A_AT - plan.RECORD], layer_key(t[plan.DROPOUT_KEY], i)
            drop_lanes(key, layer[plan.DROPS], n_in, count, t[plan.SEEN] + first, whole, ld, x, ld)
        if i == 0 and by_rows:
            forward_rows(n_in, n_out, count, W, b, by_plan, alpha, rows, ld_rows, ld, z, a)
        else:
            forward_lanes(n_in, n_out, samples, W, b, by_plan, alpha, x, ld, z, a)
        if code == CUSTOM:
            call_activation(layer[plan.FUNCTION], z, a, n_out, count, ld)
        layer = layer + plan.RECORD


@jit(FAST)
def _loss(t, r, theta, scratch, first, count, layer, delta):
    """Loss sum of a block, and, where gradients are wanted, the last layer's delta."""
    ld, columns, n_out = t[plan.LD], t[plan.Y_COLUMNS], layer[plan.N_OUT]
    z, a = scratch + layer[plan.Z_AT], scratch + layer[plan.A_AT]
    y, fs_y, ss_y = pointer_at(t[plan.Y], theta) + first * columns, 1, columns
    w, ss_w = pointer_at(t[plan.WEIGHTS], theta) + first, 1
    if t[plan.GATHERS] != 0:
        y, fs_y, ss_y = scratch + t[plan.TARGETS_AT], ld, 1
        w = scratch + t[plan.WEIGHTS_AT]
    if t[plan.WEIGHTS] == 0:
        ss_w = 0
    scale = 1.0 / r[plan.BATCH_WEIGHT] if t[plan.FLAGS] & plan.WITH_GRADIENT != 0 else 0.0
    if t[plan.LOSS] == CUSTOM:
        function = t[plan.LOSS_FUNCTION]
        summed = call_loss(function, n_out, count, a, ld, y, fs_y, ss_y, w, ss_w, scale, delta, ld)
    else:
        labels = t[plan.LABELS] != 0
        summed = loss_sum(
            t[plan.LOSS],
            r[plan.LOSS_PARAM],
            n_out,
            count,
            a,
            ld,
            1,
            y,
            fs_y,
            ss_y,
            labels,
            w,
            ss_w,
            scale,
            delta,
            ld,
            1,
        )
    if scale != 0.0 and t[plan.LOGITS] == 0:
        _slope(t, r, layer, t[plan.LAYERS] - 1, n_out, count, z, a, delta)
    return summed


@jit(FAST)
def _slope(t, r, layer, i, features, count, z, a, delta):
    """Take a delta back through the activation of layer i: delta *= g'(z)."""
    ld, code = t[plan.LD], layer[plan.ACTIVATION]
    if code == CUSTOM:
        call_activation(layer[plan.SLOPE], z, delta, features, count, ld)
    elif code != LINEAR:
        activate_slope(code, r[plan.ALPHAS + i], features, count, delta, ld, z, ld, a, ld, delta, ld)


@jit(FAST)
def layer_gradient(t, theta, scratch, first, count, layer, row, rows, column, columns, start, dW, ld_dw, db):
    """The gradient of a piece of a layer: `rows` x `columns` of W, and with column 0 the biases of these rows.

    Added to what is there if `start` is ACCUMULATE.
    """
    ld, width, n_in = t[plan.LD], lanes(theta), layer[plan.N_IN]
    delta, turned = scratch + (layer[plan.DELTA_AT] + row * ld), layer[plan.TURNED_AT]
    if _is_narrow(t, layer, count, width):
        x = scratch + (layer[plan.X_AT] + column * ld)
        weight_gradient_narrow(columns, rows, count, delta, x, ld, start, dW, ld_dw)
    else:
        samples, ld_samples = _samples(t, theta, scratch, first)
        if turned >= 0:
            samples, ld_samples = scratch + turned, n_in
        weight_gradient(columns, rows, count, delta, ld, samples + column, ld_samples, start, dW, ld_dw)
    if column == 0:
        bias_gradient(rows, count, delta, ld, start, db)


@jit(EXACT)
def _is_narrow(t, layer, samples, width):
    """Whether the weight gradient of a layer is summed along the lanes: there its inputs must stand as (n_in, LD)."""
    by_rows = t[plan.BY_ROWS] != 0 and layer[plan.TURNED_AT] < 0
    return layer[plan.N_IN] <= _narrowest(samples, width) and not by_rows


@jit(FAST)
def _backward(t, r, theta, scratch, grad, first, count, start, layer):
    """From the last layer's delta to the others'; and, unless that is done piecewise, the gradients, to `grad`."""
    ld, width = t[plan.LD], lanes(theta)
    samples = _whole_tiles(count, width)
    for i in range(t[plan.LAYERS] - 1, -1, -1):
        n_in, n_out = layer[plan.N_IN], layer[plan.N_OUT]
        W, delta, previous = theta + layer[plan.W_AT], scratch + layer[plan.DELTA_AT], layer + -plan.RECORD
        if i > 0 and not _is_narrow(t, layer, count, width):
            transpose(n_in, count, scratch + layer[plan.X_AT], ld, scratch + layer[plan.TURNED_AT], n_in)
        if t[plan.PIECEWISE] == 0:
            dW, db = grad + layer[plan.W_AT], grad + layer[plan.B_AT]
            origin = plain(0)
            layer_gradient(t, theta, scratch, first, count, layer, origin, n_out, origin, n_in, start, dW, n_in, db)
        if i > 0:
            z, a, out = scratch + previous[plan.Z_AT], scratch + previous[plan.A_AT], scratch + previous[plan.DELTA_AT]
            code, alpha = previous[plan.ACTIVATION], r[plan.ALPHAS + i - 1]
            by_plan = LINEAR if code == CUSTOM else code
            input_gradient_lanes(n_in, n_out, samples, W, delta, by_plan, alpha, z, a, ld, out)
            if code == CUSTOM:
                call_activation(previous[plan.SLOPE], z, out, n_in, count, ld)
            if layer[plan.DROPS] != 0:
                key = layer_key(t[plan.DROPOUT_KEY], i)
                drop_lanes(key, layer[plan.DROPS], n_in, count, t[plan.SEEN] + first, out, ld, out, ld)
            layer = previous
        elif t[plan.FLAGS] & plan.WRITE_INPUT_GRADIENT != 0:
            out = scratch + t[plan.INPUT_DELTA_AT]
            product(n_in, samples, n_out, W, plain(1), n_in, delta, ld, out, ld, plain(ZERO), W)
            _write_out(t, theta, n_in, first, count, out)


@jit(EXACT)
def _write_out(t, theta, features, first, count, x):
    """Block of (features, samples) to the rows of the result."""
    stride = t[plan.OUT_STRIDE]
    transpose(features, count, x, t[plan.LD], pointer_at(t[plan.OUT], theta) + first * stride, stride)


@jit(EXACT)
def run_block(t, r, theta, scratch, grad, first, count, start):
    """Take `count` rows from `first` on through the net, and do what the plan's flags ask; gives their loss sum."""
    flags, ld = t[plan.FLAGS], t[plan.LD]
    if t[plan.GATHERS] != 0 and t[plan.LOADED] == 0:
        _gather(t, theta, scratch, first, count)
    _forward(t, r, theta, scratch, first, count)
    last = t + (t[plan.LAYERS_AT] + plan.RECORD * (t[plan.LAYERS] - 1))
    if flags & plan.WRITE_OUTPUT != 0:
        n_out, a = last[plan.N_OUT], scratch + last[plan.A_AT]
        if last[plan.ACTIVATION] == SOFTMAX:
            softmax(n_out, count, a, ld, 1, a, ld, 1)
        _write_out(t, theta, n_out, first, count, a)
    if flags & plan.WITH_LOSS == 0:
        return 0.0
    summed = _loss(t, r, theta, scratch, first, count, last, scratch + last[plan.DELTA_AT])
    if flags & plan.WITH_GRADIENT != 0:
        _backward(t, r, theta, scratch, grad, first, count, start, last)
    return summed

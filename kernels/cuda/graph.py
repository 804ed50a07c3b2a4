"""The loop of large nets: a step is a row of launches, recorded once as a graph and then replayed.

The products of `tile.py` and `skinny.py` do the work, and the kernels here tie them together. All that changes from
step to step (the place in the epoch, the rates, whether the loss is finite) stands on the device, so one recording
serves every step. Samples are rows, as users have them. A short last batch is filled up with its last row, without
weight: where that has finite activations, nothing spoils a sum.
"""

import functools

import numpy as np

from .. import plan as _plan
from ..formulas import ADAM, LINEAR, RMSPROP, SOFTMAX
from ..randomness import DROPOUT, SHUFFLE
from .activations import backward_of, softmax_of, warps
from .dropout import dropped_of
from .launch import THREADS, line, place, plane, run
from .losses import block_sum_of, queue_loss
from .matmul import NOBODY, PLAIN, Side, multiply
from .passes import row_at
from .primitives import global_at, load4, shared_memory, sqrt, store4
from .rng import half_bits, layer_key, stream_key
from .tiling import ACTIVATE, SLOPE
from .toolchain import cuda, device, for_each_real, kernel
from .training import CLIP_TINY, FACTORS
from .updates import STATES, rule_of


@for_each_real
def pick_of(real):
    """The rows of a batch, and their targets and weights; beyond the last row that one, with weight zero.

    `first`: place of the batch in the order of the rows; below zero where the table says it.
    """
    zero, one = real(0.0), real(1.0)

    @kernel(256)
    def pick(table, first, rows, y, w):
        t, s = global_at(table, np.int64), cuda.grid(1)
        if s >= t[_plan.BATCH]:
            return
        index, last = first + s if first >= 0 else t[_plan.POSITION] * t[_plan.BATCH] + s, t[_plan.ROWS] - 1
        key, (left_bits, right_bits) = stream_key(t[_plan.SEED], SHUFFLE, t[_plan.EPOCH]), half_bits(t[_plan.ROWS])
        row = row_at(t, key, min(index, last), left_bits, right_bits)
        global_at(rows, np.int64)[s] = row
        columns, to, j = t[_plan.Y_COLUMNS], global_at(y, real) + s * t[_plan.Y_COLUMNS], 0
        source = global_at(t[_plan.Y], real) + row * columns
        while t[_plan.Y] != 0 and j < columns:
            to[j] = source[j]
            j += 1
        weight = one if index <= last else zero
        if index <= last and t[_plan.WEIGHTS] != 0:
            weight = global_at(t[_plan.WEIGHTS], real)[row]
        global_at(w, real)[s] = weight

    return pick


@for_each_real
def gather_of(real):
    """The picked rows side by side, standardised and with inputs dropped."""
    dropped = dropped_of(real)

    @kernel(256)
    def gather(table, rows, out):
        t = global_at(table, np.int64)
        s, i = place()
        features, drops = t[_plan.FEATURES], t[t[_plan.LAYERS_AT] + _plan.DROPS]
        if s >= t[_plan.BATCH] or i >= features:
            return
        row = global_at(rows, np.int64)[s]
        value = global_at(t[_plan.X], real)[row * t[_plan.X_STRIDE] + i]
        if t[_plan.SHIFTS] != 0:
            shifts, scales = global_at(t[_plan.SHIFTS], real), global_at(t[_plan.SCALES], real)
            value = (value - shifts[i]) * scales[i]
        if drops != 0:
            word = layer_key(stream_key(t[_plan.SEED], DROPOUT, t[_plan.EPOCH]), 0)
            value = dropped(word, drops, t[_plan.SEEN] + t[_plan.POSITION] * t[_plan.BATCH] + s, i, value)
        global_at(out, real)[s * features + i] = value

    return gather


@for_each_real
def drop_of(real):
    """Out = the inputs of a layer, or the gradient by them, with the step's units dropped."""
    dropped = dropped_of(real)

    @kernel(256)
    def drop(table, layer, threshold, m, n, a, out):
        t = global_at(table, np.int64)
        s, j = place()
        if s < m and j < n:
            word = layer_key(stream_key(t[_plan.SEED], DROPOUT, t[_plan.EPOCH]), layer)
            sample = t[_plan.SEEN] + t[_plan.POSITION] * t[_plan.BATCH] + s
            global_at(out, real)[s * n + j] = dropped(word, threshold, sample, j, global_at(a, real)[s * n + j])

    return drop


@device
def of_weights(t, i):
    """Whether parameter `i` stands in the W of a layer."""
    found = False
    for index in range(t[_plan.LAYERS]):
        layer = t + (t[_plan.LAYERS_AT] + _plan.RECORD * index)
        if layer[_plan.W_AT] <= i and i < layer[_plan.B_AT]:
            found = True
    return found


@for_each_real
def collect_of(real):
    """The gradient with what l2 adds, clipped by value, in place; and the sum of its squares in each block."""
    block_sum, zero = block_sum_of(real), real(0.0)

    @kernel(THREADS)
    def collect(table, reals, theta, grad, squares):
        t, r, i, total = global_at(table, np.int64), global_at(reals, real), 4 * cuda.grid(1), zero
        room, limit = shared_memory(real, 32), r[_plan.CLIP_VALUE]
        if i < t[_plan.PARAMETERS]:
            l2, at = r[_plan.L2] if of_weights(t, i) else zero, global_at(grad, real) + i
            p0, p1, p2, p3 = load4(global_at(theta, real) + i)
            g0, g1, g2, g3 = load4(at)
            g0, g1, g2, g3 = g0 + l2 * p0, g1 + l2 * p1, g2 + l2 * p2, g3 + l2 * p3
            g0 = limit if g0 > limit else -limit if g0 < -limit else g0
            g1 = limit if g1 > limit else -limit if g1 < -limit else g1
            g2 = limit if g2 > limit else -limit if g2 < -limit else g2
            g3 = limit if g3 > limit else -limit if g3 < -limit else g3
            store4(at, g0, g1, g2, g3)
            total = g0 * g0 + g1 * g1 + g2 * g2 + g3 * g3
        total = block_sum(total, room)
        if cuda.threadIdx.x == 0:
            global_at(squares, real)[cuda.blockIdx.x] = total

    return collect


@for_each_real
def _grid_sum_of(real):
    """Sum of what the blocks of a grid left, in thread 0 of the one block that asks."""
    block_sum, zero = block_sum_of(real), real(0.0)

    @device
    def grid_sum(p, blocks, room):
        total, i = zero, cuda.threadIdx.x
        while i < blocks:
            total += p[i]
            i += cuda.blockDim.x
        return block_sum(total, room)

    return grid_sum


@for_each_real
def scale_of(real):
    """The factor that brings the norm of a gradient to what is allowed; one block."""
    grid_sum, one, tiny = _grid_sum_of(real), real(1.0), real(CLIP_TINY)

    @kernel(THREADS)
    def scale(reals, blocks, squares, out):
        total = grid_sum(global_at(squares, real), blocks, shared_memory(real, 32))
        if cuda.threadIdx.x == 0:
            global_at(out, real)[0] = min(one, global_at(reals, real)[_plan.CLIP_NORM] / (sqrt(total) + tiny))

    return scale


@for_each_real
def update_of(real, code):
    """One rule over all parameters, if the loss is finite and the batch has weight; and each block's sum of W^2."""
    rule, block_sum, zero, one = rule_of(real, code), block_sum_of(real), real(0.0), real(1.0)
    # where the rule's first three numbers stand
    a_at, b_at, c_at = {
        RMSPROP: (_plan.BETA2, _plan.EPS, _plan.MOMENTUM),
        ADAM: (_plan.BETA1, _plan.BETA2, _plan.EPS),
    }.get(code, (_plan.MOMENTUM,) * 3)

    @kernel(THREADS, roomy=True)
    def update(table, reals, theta, grad, first, second, scale, result, penalties):
        t, r, i, total = global_at(table, np.int64), global_at(reals, real), 4 * cuda.grid(1), zero
        outcome, room, clips = global_at(result, real), shared_memory(real, 32), t[_plan.CLIPS] != 0
        loss, mass = outcome[0], outcome[1]
        if i < t[_plan.PARAMETERS]:
            weights, at = of_weights(t, i), global_at(theta, real) + i
            p0, p1, p2, p3 = load4(at)
            if weights:
                total = p0 * p0 + p1 * p1 + p2 * p2 + p3 * p3
            if t[_plan.STATUS] == _plan.FINE and mass > zero and loss - loss == zero:
                by = global_at(t[_plan.RATES], real) + FACTORS * t[_plan.FINISHED]
                rate, shrink, root, s = by[0], by[1], by[2], one
                decay, a, b, c = r[_plan.WEIGHT_DECAY], r[a_at], r[b_at], r[c_at]
                if clips:
                    s = global_at(scale, real)[0]
                elif weights:
                    decay += r[_plan.L2]
                g0, g1, g2, g3 = load4(global_at(grad, real) + i)
                m0 = m1 = m2 = m3 = v0 = v1 = v2 = v3 = zero
                if first != 0:
                    m0, m1, m2, m3 = load4(global_at(first, real) + i)
                if second != 0:
                    v0, v1, v2, v3 = load4(global_at(second, real) + i)
                p0, m0, v0 = rule(p0, s * g0, m0, v0, rate, decay, a, b, c, shrink, root)
                p1, m1, v1 = rule(p1, s * g1, m1, v1, rate, decay, a, b, c, shrink, root)
                p2, m2, v2 = rule(p2, s * g2, m2, v2, rate, decay, a, b, c, shrink, root)
                p3, m3, v3 = rule(p3, s * g3, m3, v3, rate, decay, a, b, c, shrink, root)
                store4(at, p0, p1, p2, p3)
                if first != 0:
                    store4(global_at(first, real) + i, m0, m1, m2, m3)
                if second != 0:
                    store4(global_at(second, real) + i, v0, v1, v2, v3)
        total = block_sum(total, room)
        if cuda.threadIdx.x == 0:
            global_at(penalties, real)[cuda.blockIdx.x] = total

    return update


@for_each_real
def advance_of(real):
    """Record the step's loss and the weight of its batch, and go on to the next step; one block."""
    grid_sum, zero, half = _grid_sum_of(real), real(0.0), real(0.5)

    @kernel(THREADS)
    def advance(table, reals, result, blocks, penalties):
        t, l2, outcome = global_at(table, np.int64), global_at(reals, real)[_plan.L2], global_at(result, real)
        room, extra = shared_memory(real, 32), zero
        if l2 != zero:
            extra = half * l2 * grid_sum(global_at(penalties, real), blocks, room)
        if cuda.threadIdx.x == 0 and t[_plan.STATUS] == _plan.FINE:
            step, value, mass = t[_plan.FINISHED], outcome[0] + extra, outcome[1]
            out = global_at(t[_plan.LOSSES], real) + 2 * step
            out[0], out[1] = value, mass
            if t[_plan.COMMAND] == _plan.TRAIN and mass > zero and value - value != zero:
                t[_plan.STATUS] = _plan.DIVERGED
            else:
                t[_plan.FINISHED], t[_plan.POSITION] = step + 1, t[_plan.POSITION] + 1
                if t[_plan.POSITION] * t[_plan.BATCH] >= t[_plan.ROWS]:
                    t[_plan.POSITION], t[_plan.EPOCH] = 0, t[_plan.EPOCH] + 1

    return advance


def _product(plan, stream):
    """`multiply` as a plan wants it."""
    return functools.partial(multiply, plan.dtype.type, stream, precision=plan.precision)


def pass_over(size):
    """(blocks, threads) of a pass over a flat vector of parameters, four of them a thread."""
    return line(size // 4)


def queue_step(plan, stream, first=-1):
    """Queue a step of training, or the step of a pass that begins with row `first`.

    Parameters
    ----------
    plan : plans.Plan
        Its table, numbers and parameters are on the device.
    stream : stream or list
        Where it is queued.
    first : int
        Row, below zero for training.
    """
    real, train, flags = plan.dtype.type, first < 0, plan["FLAGS"]
    count = plan["BATCH"] if train else min(plan["BATCH"], plan["ROWS"] - first)
    table, reals = plan.address("table"), plan.address("reals")
    x, y, weights = _rows(plan, stream, first, count)
    inputs, a = _forward(plan, stream, first, count, x)
    last = plan.records[-1]
    outputs, code, alpha = int(last[_plan.N_OUT]), plan.codes[-1], plan.layout.alphas[-1]
    delta, result = NOBODY, plan.within(plan.result_at)
    if flags & _plan.WITH_GRADIENT:
        delta = Side(plan.within(plan.deltas_at[0]), outputs, 1)
    if flags & _plan.WITH_LOSS:
        param, labels = real(plan.reals[_plan.LOSS_PARAM]), plan["LABELS"] != 0
        loss = plan.own_loss or plan["LOSS"]
        queue_loss(real, stream, loss, param, count, outputs, a, y, labels, weights, delta, result)
    if flags & _plan.WITH_GRADIENT:
        if plan["LOGITS"] == 0 and code != LINEAR:
            z = Side(plan.within(last[_plan.Z_AT]), outputs, 1)
            run(
                backward_of(real, code),
                plane(count, outputs),
                stream,
                real(alpha),
                count,
                outputs,
                *delta,
                *z,
                *a,
                *delta,
            )
        _backward(plan, stream, first, count, inputs, delta)
    shape, penalties = pass_over(plan.layout.size), plan.within(plan.penalties_at)
    if train:
        _update(plan, stream, shape, result, penalties)
    if flags & _plan.WITH_LOSS:
        run(advance_of(real), line(1), stream, table, reals, result, shape[0], penalties)


def _rows(plan, stream, first, count):
    """(samples, targets, (address, step) of the weights) of a batch: where they are, or brought together."""
    real, size = plan.dtype.type, plan.dtype.itemsize
    features, columns = plan["FEATURES"], plan["Y_COLUMNS"]
    chosen = plan["SHUFFLE"] or plan["SHIFTS"] or plan.records[0][_plan.DROPS]
    if not chosen and (first >= 0 or plan["ROWS"] == plan["BATCH"]):
        start, stride = max(first, 0), plan.stride
        x = Side(plan.address("X") + start * stride * size, stride, 1)
        y = Side(plan.address("Y") + start * columns * size, columns, 1) if plan["Y"] else NOBODY
        return x, y, (plan.address("WEIGHTS") + start * size, 1) if plan["WEIGHTS"] else (0, 0)
    table, rows = plan.address("table"), plan.within(plan.rows_at)
    x, y, weights = (plan.within(at) for at in (plan.records[0][_plan.X_AT], plan.targets_at, plan.weights_at))
    run(pick_of(real), line(plan["BATCH"]), stream, table, first, rows, y, weights)
    run(gather_of(real), plane(plan["BATCH"], features), stream, table, rows, x)
    return Side(x, features, 1), Side(y, columns, 1), (weights, 1)


def _forward(plan, stream, first, count, x):
    """Queue the layers; gives the inputs of each, and the outputs of the last."""
    real, size, flags, inputs = plan.dtype.type, plan.dtype.itemsize, plan["FLAGS"], []
    product = _product(plan, stream)
    for index, record in enumerate(plan.records):
        n_in, n_out, code = int(record[_plan.N_IN]), int(record[_plan.N_OUT]), plan.codes[index]
        if index > 0 and record[_plan.DROPS]:
            x, before = Side(plan.within(record[_plan.X_AT]), n_in, 1), x
            _drop(plan, stream, index, count, n_in, before, x)
        a, z = (Side(plan.within(record[at]), n_out, 1) for at in (_plan.A_AT, _plan.Z_AT))
        inputs.append(x)
        if index == len(plan.records) - 1:
            if flags & _plan.WRITE_OUTPUT:
                stride = plan["OUT_STRIDE"]
                z = a = Side(plan.address("OUT") + first * stride * size, stride, 1)
            elif plan["LOGITS"]:
                code = LINEAR
        W, b = (plan.address("theta") + int(record[at]) * size for at in (_plan.W_AT, _plan.B_AT))
        then = ACTIVATE, LINEAR if code == SOFTMAX else code, plan.layout.alphas[index]
        sizes, kept = (count, n_out, n_in), NOBODY if z == a else z
        product(sizes, x, Side(W, n_in, 1).turned(), a, then, Side(b, 0, 1), kept)
        if code == SOFTMAX:
            run(softmax_of(real), warps(count), stream, count, n_out, *a, *a)
        x = a
    return inputs, a


def _backward(plan, stream, first, count, inputs, delta):
    """Queue the gradient by the parameters, and by the inputs where it is wanted."""
    product, size = _product(plan, stream), plan.dtype.itemsize
    theta, grad = plan.address("theta"), plan.address("GRADIENTS")
    for index in range(len(plan.records) - 1, -1, -1):
        record, x = plan.records[index], inputs[index]
        n_in, n_out, w, b = (int(record[at]) for at in (_plan.N_IN, _plan.N_OUT, _plan.W_AT, _plan.B_AT))
        dW, sums, work = Side(grad + w * size, n_in, 1), (grad + b * size, 1), (plan.within(plan.work_at), plan.work)
        product((n_out, n_in, count), delta.turned(), x, dW, sums=sums, work=work)
        W, sizes = Side(theta + w * size, n_in, 1), (count, n_in, n_out)
        if index > 0:
            before = plan.records[index - 1]
            code, alpha = plan.codes[index - 1], plan.layout.alphas[index - 1]
            z, a = (Side(plan.within(before[at]), n_in, 1) for at in (_plan.Z_AT, _plan.A_AT))
            to = Side(plan.within(plan.deltas_at[(len(plan.records) - index) % 2]), n_in, 1)
            then = (PLAIN, NOBODY, NOBODY) if code == LINEAR else ((SLOPE, code, alpha), z, a)
            product(sizes, delta, W, to, *then)
            if record[_plan.DROPS]:
                _drop(plan, stream, index, count, n_in, to, to)
            delta = to
        elif plan["FLAGS"] & _plan.WRITE_INPUT_GRADIENT:
            stride = plan["OUT_STRIDE"]
            product(sizes, delta, W, Side(plan.address("OUT") + first * stride * size, stride, 1))


def _drop(plan, stream, layer, count, units, a, to):
    """Queue the dropping of a layer's inputs, or of the gradient by them."""
    threshold, shape = int(plan.records[layer][_plan.DROPS]), plane(count, units)
    arguments = plan.address("table"), layer, threshold, count, units, a.address, to.address
    run(drop_of(plan.dtype.type), shape, stream, *arguments)


def _update(plan, stream, shape, result, penalties):
    """Queue the update of all parameters."""
    real, code, squares, scale = (
        plan.dtype.type,
        plan["OPTIMIZER"],
        plan.within(plan.squares_at),
        plan.within(plan.scale_at),
    )
    table, reals, theta, grad = (plan.address(name) for name in ("table", "reals", "theta", "GRADIENTS"))
    if plan["CLIPS"]:
        run(collect_of(real), shape, stream, table, reals, theta, grad, squares)
        run(scale_of(real), line(1), stream, reals, shape[0], squares, scale)
    states = [plan.address(name) if STATES[code] > i else 0 for i, name in enumerate(("STATE_1", "STATE_2"))]
    run(update_of(real, code), shape, stream, table, reals, theta, grad, *states, scale, result, penalties)

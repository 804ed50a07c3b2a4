"""What the threads of a run do to one batch: gather, forward, loss, backward, gradient and update.

The samples stand side by side, as on the CPU: everything is (features, LD), so that neighbouring threads take
neighbouring samples. A thread computes 4 x 4 elements of a product in registers; the work of a phase is dealt out by
number, and between phases all threads meet. The phases serve one block with its working space `room` in shared memory,
and a whole grid with `room` in global memory.
"""

from types import SimpleNamespace

from .. import plan
from ..formulas import LINEAR
from .activations import any_activation_of
from .dropout import dropped_of
from .losses import any_loss_of
from .primitives import exp, global_at, lane_of, load4, quotient, store4
from .rng import layer_key, permuted
from .toolchain import device, for_each_real


@device
def row_at(t, key, index, left_bits, right_bits):
    """The row of the data that stands at `index` of the epoch's order."""
    if t[plan.SHUFFLE] != 0:
        index = permuted(key, index, t[plan.ROWS], left_bits, right_bits)
    return index


@for_each_real
def passes_of(real, own=(), own_loss=None):
    """The phases for one dtype, and for the pairs of functions that the user's activations and loss are."""
    activate, slope = any_activation_of(real, own)
    loss_of, dropped, zero, one = any_loss_of(real, own_loss), dropped_of(real), real(0.0), real(1.0)

    @device
    def gather(t, room, thread, threads, first, count, key, drop_key, left_bits, right_bits):
        """Bring rows together as (features, LD), standardised and with inputs dropped.

        The last sample fills the last four: where its functions are finite, nothing of theirs spoils a sum.
        """
        layer = t + t[plan.LAYERS_AT]
        features, ld, stride, drops = t[plan.FEATURES], t[plan.LD], t[plan.X_STRIDE], layer[plan.DROPS]
        x, out = global_at(t[plan.X], real), room + layer[plan.X_AT]
        word, padded = layer_key(drop_key, 0), (count + 3) & ~3
        item = thread
        while item < padded * features:
            s = quotient(item, features)
            i, sample = item - s * features, first + min(s, count - 1)
            value = x[row_at(t, key, sample, left_bits, right_bits) * stride + i]
            if t[plan.SHIFTS] != 0:
                shifts, scales = global_at(t[plan.SHIFTS], real), global_at(t[plan.SCALES], real)
                value = (value - shifts[i]) * scales[i]
            if drops != 0:
                value = dropped(word, drops, t[plan.SEEN] + sample, i, value)
            out[i * ld + s] = value
            item += threads

    @device
    def sharing(threads, items, terms):
        """How many neighbouring threads share a sum, a power of two: so many that all are busy, each with 16 terms."""
        most, share = min(quotient(threads, items), terms >> 4, 32), 1
        while 2 * share <= most:
            share *= 2
        return share

    @device
    def tile_product(p, ld, w0, w1, w2, w3, by, terms, lane, share):
        """4 x 4 sums over the terms of four lines of W and four samples: by one thread, or by all that share them."""
        a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = zero
        a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = zero
        i, p = lane, p + lane * ld
        while i < terms:
            x0, x1, x2, x3 = load4(p)
            w = w0[i * by]
            a00, a01, a02, a03 = a00 + w * x0, a01 + w * x1, a02 + w * x2, a03 + w * x3
            w = w1[i * by]
            a10, a11, a12, a13 = a10 + w * x0, a11 + w * x1, a12 + w * x2, a13 + w * x3
            w = w2[i * by]
            a20, a21, a22, a23 = a20 + w * x0, a21 + w * x1, a22 + w * x2, a23 + w * x3
            w = w3[i * by]
            a30, a31, a32, a33 = a30 + w * x0, a31 + w * x1, a32 + w * x2, a33 + w * x3
            i, p = i + share, p + share * ld
        mask = share >> 1
        while mask > 0:
            a00, a01, a02, a03 = both(a00, mask), both(a01, mask), both(a02, mask), both(a03, mask)
            a10, a11, a12, a13 = both(a10, mask), both(a11, mask), both(a12, mask), both(a13, mask)
            a20, a21, a22, a23 = both(a20, mask), both(a21, mask), both(a22, mask), both(a23, mask)
            a30, a31, a32, a33 = both(a30, mask), both(a31, mask), both(a32, mask), both(a33, mask)
            mask >>= 1
        return (
            (a00, a01, a02, a03),
            (a10, a11, a12, a13),
            (a20, a21, a22, a23),
            (a30, a31, a32, a33),
        )

    @device
    def both(value, mask):
        return value + lane_of(value, mask)

    @device
    def line_of(sums, row):
        a, b, c, d = sums
        return a if row == 0 else b if row == 1 else c if row == 2 else d

    @device
    def forward(t, r, theta, room, thread, threads, seen, count, drop_key, index, code):
        """Outputs of layer `index`, with activation `code`; and the inputs of the next, where some are dropped."""
        layer, ld, groups = t + (t[plan.LAYERS_AT] + plan.RECORD * index), t[plan.LD], (count + 3) >> 2
        n_in, n_out, alpha = layer[plan.N_IN], layer[plan.N_OUT], r[plan.ALPHAS + index]
        W, b, x = theta + layer[plan.W_AT], theta + layer[plan.B_AT], room + layer[plan.X_AT]
        z, a = room + layer[plan.Z_AT], room + layer[plan.A_AT]
        drops = layer[plan.RECORD + plan.DROPS] if index + 1 < t[plan.LAYERS] else 0
        dropped_a = room + layer[plan.RECORD + plan.X_AT] if drops != 0 else a
        word, items = layer_key(drop_key, index + 1), groups * ((n_out + 3) >> 2)
        share = sharing(threads, items, n_in)
        item, lane, shared = quotient(thread, share), thread & (share - 1), share > 1
        while item < items or shared:  # who shares has one tile at most, and meets the others of the warp
            tile = quotient(min(item, items - 1), groups)
            o, s, last = 4 * tile, 4 * (min(item, items - 1) - tile * groups), n_out - 1
            w0, w1, w2, w3 = (
                W + o * n_in,
                W + min(o + 1, last) * n_in,
                W + min(o + 2, last) * n_in,
                W + min(o + 3, last) * n_in,
            )
            sums = tile_product(x + s, ld, w0, w1, w2, w3, 1, n_in, lane, share)
            row, lines = lane, min(4, n_out - o) if item < items else 0
            while row < lines:
                v0, v1, v2, v3 = line_of(sums, row)
                bias, place, e = b[o + row], (o + row) * ld + s, 0
                store4(z + place, v0 + bias, v1 + bias, v2 + bias, v3 + bias)
                while (code != LINEAR or drops != 0) and e < 4:
                    value = activate(code, alpha, z[place + e])
                    a[place + e] = value
                    if drops != 0:
                        dropped_a[place + e] = dropped(word, drops, seen + s + e, o + row, value)
                    e += 1
                row += min(share, 4)
            item, shared = item + threads, False

    @device
    def loss(t, r, room, thread, threads, first, count, key, left_bits, right_bits, mass):
        """A thread's share of the sum of w * loss; and, where gradients are wanted, the last delta over mass."""
        layer, ld = t + (t[plan.LAYERS_AT] + plan.RECORD * (t[plan.LAYERS] - 1)), t[plan.LD]
        n_out, code, columns, summed = layer[plan.N_OUT], layer[plan.ACTIVATION], t[plan.Y_COLUMNS], zero
        z, a = room + layer[plan.Z_AT], room + layer[plan.A_AT]
        delta, alpha = room + layer[plan.DELTA_AT], r[plan.ALPHAS + t[plan.LAYERS] - 1]
        y, weights, s = global_at(t[plan.Y], real), global_at(t[plan.WEIGHTS], real), thread
        wanted = t[plan.FLAGS] & plan.WITH_GRADIENT != 0
        while s < (count + 3) & ~3:
            if s < count:
                row = row_at(t, key, first + s, left_bits, right_bits)
                weight = weights[row] if t[plan.WEIGHTS] != 0 else one
                target, d = y + row * columns, delta + s
                labels, param = t[plan.LABELS] != 0, r[plan.LOSS_PARAM]
                value = loss_of(t[plan.LOSS], param, n_out, a + s, ld, target, labels, wanted, weight / mass, d)
                summed += value * weight
                j = 0
                while wanted and t[plan.LOGITS] == 0 and j < n_out:
                    d[j * ld] = d[j * ld] * slope(code, alpha, z[j * ld + s], a[j * ld + s])
                    j += 1
            elif wanted:
                for j in range(n_out):
                    delta[j * ld + s] = zero
            s += threads
        return summed

    @device
    def weight(t, thread, threads, first, count, key, left_bits, right_bits):
        """A thread's share of the sum of the batch's weights."""
        weights, summed, s = global_at(t[plan.WEIGHTS], real), zero, thread
        while s < count:
            summed += weights[row_at(t, key, first + s, left_bits, right_bits)]
            s += threads
        return summed

    @device
    def backward(t, r, theta, room, thread, threads, seen, count, drop_key, index):
        """The delta of the layer before layer `index`; of the inputs for the first."""
        layer, ld, groups = t + (t[plan.LAYERS_AT] + plan.RECORD * index), t[plan.LD], (count + 3) >> 2
        before = layer if index == 0 else layer + -plan.RECORD
        n_in, n_out, drops = layer[plan.N_IN], layer[plan.N_OUT], layer[plan.DROPS]
        W, delta = theta + layer[plan.W_AT], room + layer[plan.DELTA_AT]
        z, a = room + before[plan.Z_AT], room + before[plan.A_AT]
        code, alpha, to = before[plan.ACTIVATION], r[plan.ALPHAS + max(index - 1, 0)], before[plan.DELTA_AT]
        if index == 0:
            code, drops, to = LINEAR, 0, t[plan.INPUT_DELTA_AT]
        out = room + to
        word, items = layer_key(drop_key, index), groups * ((n_in + 3) >> 2)
        share = sharing(threads, items, n_out)
        item, lane, shared = quotient(thread, share), thread & (share - 1), share > 1
        while item < items or shared:
            tile = quotient(min(item, items - 1), groups)
            i, s, last = 4 * tile, 4 * (min(item, items - 1) - tile * groups), n_in - 1
            w0, w1, w2, w3 = W + i, W + min(i + 1, last), W + min(i + 2, last), W + min(i + 3, last)
            sums = tile_product(delta + s, ld, w0, w1, w2, w3, n_in, n_out, lane, share)
            row, lines = lane, min(4, n_in - i) if item < items else 0
            while row < lines:
                v0, v1, v2, v3 = line_of(sums, row)
                place, e = (i + row) * ld + s, 0
                store4(out + place, v0, v1, v2, v3)
                while (code != LINEAR or drops != 0) and e < 4:
                    value = out[place + e] * slope(code, alpha, z[place + e], a[place + e])
                    if drops != 0:
                        value = dropped(word, drops, seen + s + e, i + row, value)
                    out[place + e] = value
                    e += 1
                row += min(share, 4)
            item, shared = item + threads, False

    @device
    def dot4(a, b):
        return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]

    @device
    def line(out, column, step, columns, a, b, c, d):
        """Four elements of a row, `step` apart, as far as it goes."""
        out[column] = a
        if column + step < columns:
            out[column + step] = b
        if column + 2 * step < columns:
            out[column + 2 * step] = c
        if column + 3 * step < columns:
            out[column + 3 * step] = d

    @device
    def tile_gradient(x, delta, ld, n_in, n_out, row, high, column, wide, samples, dW):
        """4 x 4 elements of delta x^T, `high` rows and `wide` columns apart: so neighbours meet in no bank."""
        o1, o2, o3 = min(row + high, n_out - 1), min(row + 2 * high, n_out - 1), min(row + 3 * high, n_out - 1)
        i1, i2, i3 = min(column + wide, n_in - 1), min(column + 2 * wide, n_in - 1), min(column + 3 * wide, n_in - 1)
        a00 = a01 = a02 = a03 = a10 = a11 = a12 = a13 = zero
        a20 = a21 = a22 = a23 = a30 = a31 = a32 = a33 = zero
        s = 0
        while s < samples:
            x0, x1 = load4(x + (column * ld + s)), load4(x + (i1 * ld + s))
            x2, x3 = load4(x + (i2 * ld + s)), load4(x + (i3 * ld + s))
            d = load4(delta + (row * ld + s))
            a00, a01, a02, a03 = a00 + dot4(d, x0), a01 + dot4(d, x1), a02 + dot4(d, x2), a03 + dot4(d, x3)
            d = load4(delta + (o1 * ld + s))
            a10, a11, a12, a13 = a10 + dot4(d, x0), a11 + dot4(d, x1), a12 + dot4(d, x2), a13 + dot4(d, x3)
            d = load4(delta + (o2 * ld + s))
            a20, a21, a22, a23 = a20 + dot4(d, x0), a21 + dot4(d, x1), a22 + dot4(d, x2), a23 + dot4(d, x3)
            d = load4(delta + (o3 * ld + s))
            a30, a31, a32, a33 = a30 + dot4(d, x0), a31 + dot4(d, x1), a32 + dot4(d, x2), a33 + dot4(d, x3)
            s += 4
        line(dW + row * n_in, column, wide, n_in, a00, a01, a02, a03)
        if row + high < n_out:
            line(dW + o1 * n_in, column, wide, n_in, a10, a11, a12, a13)
        if row + 2 * high < n_out:
            line(dW + o2 * n_in, column, wide, n_in, a20, a21, a22, a23)
        if row + 3 * high < n_out:
            line(dW + o3 * n_in, column, wide, n_in, a30, a31, a32, a33)

    @device
    def gradient(t, room, grad, parts, thread, threads, count):
        """The sums over the samples of delta x^T and of delta, for all layers; in parts, each a vector of its own."""
        ld, size, before = t[plan.LD], t[plan.PARAMETERS], 0
        share = (quotient(count + parts - 1, parts) + 3) & ~3
        for index in range(t[plan.LAYERS]):
            layer = t + (t[plan.LAYERS_AT] + plan.RECORD * index)
            n_in, n_out = layer[plan.N_IN], layer[plan.N_OUT]
            x, delta = room + layer[plan.X_AT], room + layer[plan.DELTA_AT]
            high, wide = (n_out + 3) >> 2, (n_in + 3) >> 2
            tiles = high * wide
            items = parts * (tiles + high)
            # the threads that are free after the layer before go first
            item = thread - (before - quotient(before, threads) * threads)
            item = item + threads if item < 0 else item
            before += items
            while item < items:
                part = quotient(item, tiles + high)
                tile, first = item - part * (tiles + high), part * share
                last, out = min(first + share, (count + 3) & ~3), grad + part * size
                if tile < tiles:
                    row = quotient(tile, wide)
                    column = tile - row * wide
                    samples, dW = last - first, out + layer[plan.W_AT]
                    tile_gradient(x + first, delta + first, ld, n_in, n_out, row, high, column, wide, samples, dW)
                else:
                    for o in range(tile - tiles, n_out, high):
                        summed = zero
                        for s in range(first, last):
                            summed += delta[o * ld + s]
                        out[layer[plan.B_AT] + o] = summed
                item += threads

    @device
    def softmax(t, room, thread, threads, count):
        """Softmax of the last layer's outputs, in place, a thread a sample."""
        layer, ld = t + (t[plan.LAYERS_AT] + plan.RECORD * (t[plan.LAYERS] - 1)), t[plan.LD]
        a, n_out, s = room + layer[plan.A_AT], layer[plan.N_OUT], thread
        while s < count:
            peak, mass = a[s], zero
            for j in range(1, n_out):
                value = a[j * ld + s]
                peak = value if value > peak or value != value else peak
            for j in range(n_out):
                value = exp(a[j * ld + s] - peak)
                a[j * ld + s] = value
                mass += value
            for j in range(n_out):
                a[j * ld + s] = a[j * ld + s] / mass
            s += threads

    @device
    def write_out(t, x, features, thread, threads, first, count):
        """The batch's (features, LD) to the rows of the result."""
        out, item = global_at(t[plan.OUT], real), thread
        while item < count * features:
            s = quotient(item, features)
            out[(first + s) * t[plan.OUT_STRIDE] + item - s * features] = x[(item - s * features) * t[plan.LD] + s]
            item += threads

    return SimpleNamespace(
        backward=backward,
        forward=forward,
        gather=gather,
        gradient=gradient,
        loss=loss,
        softmax=softmax,
        weight=weight,
        write_out=write_out,
    )

"""A fully connected layer: Z = X W^T + b, A = g(Z), and its gradients.

X (m, n_in), W (n_out, n_in), b (n_out,), Z, A and dZ (m, n_out); in the loops of one block and of a grid buffers are
(features, LD), in the graph (samples, features). The backward pass takes the gradient with respect to A, makes of it
that with respect to Z, in place, and of that dX = dZ W, dW = dZ^T X and db, the sum of dZ.
"""

from contextlib import nullcontext

import numpy as np

from ..annotations import DeviceArray, Stream
from ..contract import SCRATCH
from ..formulas import LEAKY_RELU, LINEAR, RELU, SOFTMAX
from ..program import KINDS, Dense, Embedding
from ..tables import ADDED, LOGITS, OUTPUT, Buffer, Fields, Header, Op, Real, Run
from .activations import (
    activation_backward,
    activation_forward,
    activations_of,
    backward_of,
    softmax_of,
    softmax_slope_of,
    warps,
)
from .launch import checked, plane, run
from .loop_tiles import ITEMS, SPREAD, SPREAD_FOLD, of_a_grid, tiles_of
from .loop_updates import at_once_of
from .matmul import NO_OPERAND, PLAIN, Side, multiply, side, space
from .phases import (
    AT_ONCE,
    Phases,
    buffer_of,
    divided,
    element_at,
    first_item,
    gradient_width_of,
    inverse_of,
    padded_count,
)
from .primitives import exp, larger, load4, quotient, store4, turn_by_turn
from .tiling import ACTIVATE, SLOPE
from .toolchain import cuda, device, for_each_real

IN_PLACE = False  # dW needs the inputs, and dZ after dX
UPDATES_AT_ONCE = True  # where the loop is to: parameters by who has made their gradient
KIND = KINDS.index(Dense)
W_AT, B_AT, ACTIVATION = Dense.fields.W_AT, Dense.fields.B_AT, Dense.fields.ACTIVATION


# What the loops keep of an operation. DOES: bits of what its phases do. Of the product forward and of the one backward,
# the tiles and by how many bits threads share the sums of one (FOLD, -1 where the warps of a block do); GROUPS of four
# samples; COLUMNS and ROWS of tiles of dW, of which there are TILES in all parts, each of so many SAMPLES. In a grid of
# float32 those are columns and rows of patches, each of tiles by PATCH bits, whose samples TILE_FOLD bits of lanes
# share. OF_: what `divided` takes for a divisor. NUMBER: the operation's.
Work = Fields(
    "Work",
    """
    FIRST FIRST_BIAS DOES CODE
    N_IN N_OUT LD GROUPS
    X W_AT Z A
    B_AT OF_GROUPS FORWARD_ITEMS FORWARD_FOLD
    DELTA OUT Z_BEFORE WIDTH
    BACKWARD_ITEMS BACKWARD_FOLD SAMPLES PADDED
    TILES BIASES COLUMNS ROWS
    OF_COLUMNS OF_ROWS OF_OUTPUTS NUMBER
    CODE_BEFORE PATCH TILE_FOLD
    """,
)
APPLIES, SOFTMAXES, SLOPES, SLOPES_BEFORE, IN_FOURS, BACKWARDS = 1, 2, 4, 8, 16, 32


@device
def samples_of(step):
    """Samples of a part of the gradient."""
    return np.int32((quotient(step.count + step.parts - 1, step.parts) + 3) & ~3)


@device
def deal_tiles(step, op, work, tiles, columns, rows):
    """Fill what both ways to compute a gradient need."""
    work[Work.TILES], work[Work.BIASES] = np.int32(step.parts * tiles), np.int32(step.parts * op[Op.N_OUT])
    work[Work.COLUMNS], work[Work.ROWS], work[Work.SAMPLES] = columns, rows, samples_of(step)
    work[Work.OF_COLUMNS], work[Work.OF_ROWS] = inverse_of(columns), inverse_of(rows)
    work[Work.OF_OUTPUTS] = inverse_of(np.int32(op[Op.N_OUT]))


@for_each_real
def gradients_of(real):
    """(prepare, gradient) as `Phases` has them, of dW and db: a thread has a tile, or a bias."""
    tiles, zero = tiles_of(real), real(0.0)
    fours, tile_gradient = tiles.fours, tiles.tile_gradient

    @device
    def tiles_of_dW(step, op):
        return np.int32(step.parts * fours(op[Op.N_IN]) * fours(op[Op.N_OUT]))

    @device
    def biases(step, op):
        return np.int32(step.parts * op[Op.N_OUT])

    @device
    def prepare(step, op, work):
        columns, rows = fours(op[Op.N_IN]), fours(op[Op.N_OUT])
        deal_tiles(step, op, work, columns * rows, columns, rows)

    @device
    def gradient_W(step, op, work):
        """dW; in parts of the samples, each a vector of its own."""
        tiles, _, columns, rows = load4(work + Work.TILES)
        item = first_item(step, work[Work.FIRST])
        if item >= tiles:
            return
        n_in, n_out, ld, _ = load4(work + Work.N_IN)
        of_columns, of_rows, _, _ = load4(work + Work.OF_COLUMNS)
        _, _, samples, padded = load4(work + Work.BACKWARD_ITEMS)
        x, delta = step.workspace + work[Work.X], step.workspace + work[Work.DELTA]
        dW = step.gradients + work[Work.W_AT]
        while item < tiles:
            turn_by_turn()
            row, column = divided(item, columns, of_columns)
            part, row = divided(row, rows, of_rows)
            at = np.int32(part * samples)
            length, out = min(samples, np.int32(padded - at)), dW + part * step.size
            tile_gradient(x + at, delta + at, ld, n_in, n_out, row, rows, column, columns, length, out)
            item = np.int32(item + step.threads)

    @device
    def gradient_b(step, op, work):
        """db, likewise."""
        _, items, _, _ = load4(work + Work.TILES)
        item = first_item(step, work[Work.FIRST_BIAS])
        if item >= items:
            return
        n_out, ld, of_outputs = work[Work.N_OUT], work[Work.LD], work[Work.OF_OUTPUTS]
        _, _, samples, padded = load4(work + Work.BACKWARD_ITEMS)
        delta, db = step.workspace + work[Work.DELTA], step.gradients + work[Work.B_AT]
        while item < items:
            turn_by_turn()
            part, o = divided(item, n_out, of_outputs)
            s, summed = np.int32(part * samples), zero
            last = min(np.int32(s + samples), padded)
            while s < last:
                turn_by_turn()
                d0, d1, d2, d3 = load4(delta + np.int32(o * ld + s))
                summed += (d0 + d1) + (d2 + d3)
                s = np.int32(s + 4)
            db[part * step.size + o] = summed
            item = np.int32(item + step.threads)

    return prepare, ((tiles_of_dW, gradient_W), (biases, gradient_b))


@for_each_real
def gradients_of_lanes(real, structure):
    """The same, where lanes share the samples of a tile, or of a bias: so they read whole lines of global memory.

    Four tiles side by side, in up to four rows, are a patch: neighbours read the same samples. Where the loop updates
    at once, the parameters are updated.
    """
    tiles, grid, at_once = tiles_of(real), of_a_grid(real), structure.update == AT_ONCE
    fold_of, dealt, fours, first_row, rows_of = tiles.fold_of, tiles.dealt, tiles.fours, tiles.first_row, tiles.rows_of
    rows_of_lanes, sum_of_lanes, put_row = grid.rows_of_lanes, grid.sum_of_lanes, grid.put_row
    by_rule = at_once_of(real, structure.rule) if at_once else [None] * 5
    numbers_of, now_at, update_four, update_one, update_few = by_rule

    @device
    def tile_fold(step):
        """By how many bits lanes share a tile: as many as keep all threads busy."""
        return fold_of(step.threads, np.int32(step.parts * (step.size >> 4)), samples_of(step))

    @device
    def bias_fold(samples):
        """The same of a bias: four trips to memory at most, or all lanes of a warp (an estimate)."""
        return np.int32(SPREAD_FOLD if samples <= 16 * SPREAD else 5)

    @device
    def patch_bits(rows):
        """Bits of the tiles of a patch."""
        return np.int32(4 if rows > 2 else 3 if rows > 1 else 2)

    @device
    def patched(op):
        """(tiles in all patches, patches side by side, rows of patches)."""
        columns, rows = fours(fours(op[Op.N_IN])), fours(op[Op.N_OUT])
        return np.int32(np.int32(columns * fours(rows)) << patch_bits(rows)), columns, fours(rows)

    @device
    def tiles_of_dW(step, op):
        return np.int32(np.int32(step.parts * patched(op)[0]) << tile_fold(step))

    @device
    def biases(step, op):
        return np.int32(np.int32(step.parts * op[Op.N_OUT]) << bias_fold(samples_of(step)))

    @device
    def prepare(step, op, work):
        tiles, columns, rows = patched(op)
        deal_tiles(step, op, work, tiles, columns, rows)
        work[Work.PATCH], work[Work.TILE_FOLD] = patch_bits(fours(op[Op.N_OUT])), tile_fold(step)

    @device
    def gradient_W(step, op, work):
        """dW, or what it makes of W."""
        tiles, _, columns, rows = load4(work + Work.TILES)
        item, bits, fold = first_item(step, work[Work.FIRST]), work[Work.PATCH], work[Work.TILE_FOLD]
        n_in, n_out, ld, _ = load4(work + Work.N_IN)
        of_columns, of_rows, _, _ = load4(work + Work.OF_COLUMNS)
        _, _, samples, padded = load4(work + Work.BACKWARD_ITEMS)
        x, delta = step.workspace + work[Work.X], step.workspace + work[Work.DELTA]
        W_at, in_fours, gradients, end = work[Work.W_AT], n_in & 3 == 0, step.gradients, padded
        numbers, first = numbers_of(step) if at_once else None, np.int32(0)
        while np.int32(item & ~31) < np.int32(tiles << fold):  # all lanes of a warp that has a tile take part
            turn_by_turn()
            tile, lane, _ = dealt(item, fold, tiles)
            row, column = divided(np.int32(tile >> bits), columns, of_columns)
            if not at_once:  # else there is one part
                part, row = divided(row, rows, of_rows)
                first = np.int32(min(part, np.int32(step.parts - 1)) * samples)
                gradients, end = step.gradients + part * step.size, min(np.int32(first + samples), padded)
            row = np.int32(4 * ((row << (bits - 2)) + ((tile & ((1 << bits) - 1)) >> 2)))
            o, i = np.int32(row + first_row(lane)), np.int32(4 * (4 * column + (tile & 3)))
            at, its_rows = np.int32(W_at + o * n_in + i), min(rows_of(lane, fold), np.int32(n_out - o))
            left = its_rows if tile < tiles and i < n_in else np.int32(0)
            if at_once:
                now = now_at(step, at, in_fours and left > 0)
            g = rows_of_lanes(x, delta, ld, n_in, n_out, row, i, lane, fold, first, end)
            while left > 0:
                turn_by_turn()
                if not at_once:
                    put_row(gradients + at, np.int32(n_in - i), in_fours, g[0])
                elif in_fours:
                    then = now_at(step, np.int32(at + n_in), left > 1)
                    update_four(step, at, now, g[0], numbers)
                    now = then
                else:
                    update_few(step, at, np.int32(n_in - i), g[0], numbers)
                at, left, g = np.int32(at + n_in), np.int32(left - 1), (g[1], g[2], g[3], g[0])
            item = np.int32(item + step.threads)

    @device
    def gradient_b(step, op, work):
        """db, or what it makes of b."""
        _, items, _, _ = load4(work + Work.TILES)
        item = first_item(step, work[Work.FIRST_BIAS])
        n_out, ld, of_outputs = work[Work.N_OUT], work[Work.LD], work[Work.OF_OUTPUTS]
        _, _, samples, padded = load4(work + Work.BACKWARD_ITEMS)
        delta, b_at, fold = step.workspace + work[Work.DELTA], work[Work.B_AT], bias_fold(samples)
        numbers = numbers_of(step) if at_once else None
        while np.int32(item & ~31) < np.int32(items << fold):
            turn_by_turn()
            bias, lane, _ = dealt(item, fold, items)
            part, o = divided(min(bias, np.int32(items - 1)), n_out, of_outputs)
            first = np.int32(part * samples)
            g = sum_of_lanes(delta + np.int32(o * ld), lane, fold, first, min(np.int32(first + samples), padded))
            if bias < items and lane == 0:
                if at_once:
                    update_one(step, np.int32(b_at + o), g, numbers)
                else:
                    step.gradients[part * step.size + b_at + o] = g
            item = np.int32(item + step.threads)

    return prepare, ((tiles_of_dW, gradient_W), (biases, gradient_b))


@for_each_real
def loop_of(real, structure):
    """The phases of the loops."""
    activate, slope = activations_of(real, structure.activations)
    tiles = tiles_of(real)
    fold_of, tile_forward, tile_backward = tiles.fold_of, tiles.tile_forward, tiles.tile_backward
    dealt, fours, tile_at = tiles.dealt, tiles.fours, tiles.tile_at
    first_row, rows_of, own_rows, whole_grid = tiles.first_row, tiles.rows_of, tiles.own_rows, structure.loop == "grid"
    grid = of_a_grid(real)
    spread, spread_item, warps_row = grid.spread, grid.spread_item, grid.warps_row
    # lanes share the samples of a tile of dW; for float64 a thread has too few registers
    by_lanes = whole_grid and real is np.float32
    prepare_gradient, gradient = gradients_of_lanes(real, structure) if by_lanes else gradients_of(real)
    expands = Embedding.name in structure.kinds
    outputs, zero = structure.command & OUTPUT != 0, real(0.0)
    # activations worth no loop: they are written out for four numbers, for which float64 has too few registers
    short = real is np.float32 and {LINEAR, RELU, LEAKY_RELU, SOFTMAX}.issuperset(structure.activations)
    gradient_width = gradient_width_of(structure)

    @device
    def activates(op):
        """Whether the activation is this operation's: else the loss takes what goes into it."""
        return outputs or op[Op.FLAGS] & LOGITS == 0

    @device
    def pointwise(op):
        """Whether the activation is this operation's, and one of single numbers that changes them."""
        return activates(op) and op[ACTIVATION] != SOFTMAX and op[ACTIVATION] != LINEAR

    @device
    def dense_at(step, op, number):
        """Whether operation `number` is of this kind; `op` is its record."""
        program = step.table + step.table[Run.PROGRAM]
        return 0 <= number and number < program[Header.OPERATIONS] and op[Op.KIND] == KIND

    @device
    def prepare(step, op, work):
        n_in, n_out, padded = np.int32(op[Op.N_IN]), np.int32(op[Op.N_OUT]), np.int32(padded_count(step))
        width, groups, does, before = gradient_width(step, op), np.int32(padded >> 2), 0, op + -Op.SIZE
        if pointwise(op):
            does |= APPLIES
            if not dense_at(step, op + Op.SIZE, op[Op.NUMBER] + 1):
                does |= SLOPES  # else the operation that follows applies them
        if op[ACTIVATION] == SOFTMAX and activates(op):
            does |= SOFTMAXES
        if n_in > 0 and n_in & 3 == 0:
            does |= IN_FOURS
        if width > 0:
            does |= BACKWARDS
        if dense_at(step, before, op[Op.NUMBER] - 1):
            work[Work.CODE_BEFORE] = np.int32(before[ACTIVATION])
            if pointwise(before):
                does |= SLOPES_BEFORE
        work[Work.DOES], work[Work.CODE] = np.int32(does), np.int32(op[ACTIVATION])
        work[Work.NUMBER] = np.int32(op[Op.NUMBER])
        work[Work.N_IN], work[Work.N_OUT], work[Work.WIDTH] = n_in, n_out, width
        work[Work.LD], work[Work.GROUPS], work[Work.PADDED] = np.int32(step.table[Run.LD]), groups, padded
        work[Work.W_AT], work[Work.B_AT] = np.int32(op[W_AT]), np.int32(op[B_AT])
        given, made = buffer_of(step, op[Op.INPUT]), buffer_of(step, op[Op.OUTPUT])
        work[Work.X], work[Work.Z_BEFORE] = np.int32(given[Buffer.VALUE]), np.int32(given[Buffer.PRE])
        work[Work.A], work[Work.Z] = np.int32(made[Buffer.VALUE]), np.int32(made[Buffer.PRE])
        work[Work.OUT], work[Work.DELTA] = np.int32(given[Buffer.DELTA]), np.int32(made[Buffer.DELTA])
        forward_items, backward_items = np.int32(groups * fours(n_out)), np.int32(groups * fours(width))
        work[Work.FORWARD_ITEMS], work[Work.BACKWARD_ITEMS] = forward_items, backward_items
        work[Work.FORWARD_FOLD] = fold_of(step.threads, forward_items, n_in)
        # terms of a lane: about four, one of far ones
        terms = np.int32(n_out << 2 if whole_grid else 2 * n_out - 1)
        work[Work.BACKWARD_FOLD] = fold_of(step.threads, backward_items, terms)
        if whole_grid:
            if spread(forward_items, n_in, cuda.gridDim.x):
                work[Work.FORWARD_FOLD] = np.int32(-1)
            if spread(backward_items, n_out, cuda.gridDim.x):
                work[Work.BACKWARD_FOLD] = np.int32(-1)
        work[Work.OF_GROUPS] = inverse_of(groups)
        prepare_gradient(step, op, work)

    @device
    def shared_out(step, fold, items):
        """How a thread takes part in sums.

        (item, lane, lanes that share one, by how many bits those of a warp do, whether lanes beyond the items take
        part, whether the warps of the block share sums, whether the thread has none).
        """
        if whole_grid:
            if fold < 0:
                item, lane = spread_item()
                lanes, none = np.int32(SPREAD * (cuda.blockDim.x >> 5)), np.int32(ITEMS * cuda.blockIdx.x) >= items
                return item, lane, lanes, np.int32(SPREAD_FOLD), True, True, none
        item, lane, shared = dealt(step.thread, fold, items)
        return item, lane, np.int32(1 << fold), fold, shared, False, item >= items and not shared

    @device
    def all_rows(sums, lane, fold, by_block):
        """The sums of all lanes that share them, as `own_rows` has it; where warps share them, in the first one."""
        a, b, c, d = own_rows(sums, lane, fold)
        if whole_grid:
            if by_block:
                a = warps_row(a)
        return a, b, c, d

    @device
    def forward(step, op, work):
        """Z and, element by element, A."""
        b_at, inverse, items, fold = load4(work + Work.B_AT)
        item, lane, share, fold, shared, by_block, none = shared_out(step, fold, items)
        if none:
            return True
        n_in, n_out, ld, groups = load4(work + Work.N_IN)
        x_at, w_at, z_at, a_at = load4(work + Work.X)
        _, _, does, code = load4(work)
        W, b, z, a = step.parameters + w_at, step.parameters + b_at, step.workspace + z_at, step.workspace + a_at
        alpha, rows = step.reals[Real.ALPHAS + work[Work.NUMBER]], rows_of(lane, fold)
        applied, in_fours = np.int32(does & APPLIES) != 0, np.int32(does & IN_FOURS) != 0
        while item < items or shared:
            o, s = tile_at(item, items, groups, inverse)
            x, first, row = step.workspace + (x_at + s), np.int32(o + first_row(lane)), np.int32(0)
            bias = b[min(first, np.int32(n_out - 1))]  # there when the sums are
            sums = tile_forward(x, ld, W, n_in, in_fours, o, n_out, lane, share)
            sums, o = all_rows(sums, lane, fold, by_block), first
            end = min(rows, np.int32(n_out - o)) if item < items else row
            while row < end:
                turn_by_turn()
                v0, v1, v2, v3 = sums[0]
                at, e = np.int32((o + row) * ld + s), 0
                v0, v1, v2, v3 = v0 + bias, v1 + bias, v2 + bias, v3 + bias
                if expands:
                    if op[Op.FLAGS] & ADDED != 0:
                        a0, a1, a2, a3 = load4(z + at)
                        v0, v1, v2, v3 = v0 + a0, v1 + a1, v2 + a2, v3 + a3
                store4(z + at, v0, v1, v2, v3)
                if short:
                    if applied:
                        v0, v1 = activate(code, alpha, v0), activate(code, alpha, v1)
                        v2, v3 = activate(code, alpha, v2), activate(code, alpha, v3)
                        store4(a + at, v0, v1, v2, v3)
                else:
                    while applied and e < 4:
                        a[at + e] = activate(code, alpha, z[at + e])
                        e += 1
                row = np.int32(row + 1)
                if row < end:
                    sums, bias = (sums[1], sums[2], sums[3], sums[0]), b[o + row]
            item, shared = np.int32(item + step.threads), False
        return True

    @device
    def softmax(step, op, work):
        """A = softmax(Z) of a sample, in place, a thread a sample."""
        if np.int32(work[Work.DOES] & SOFTMAXES) == 0:
            return False
        n_out, ld, s = work[Work.N_OUT], work[Work.LD], step.thread
        a = step.workspace + work[Work.A]
        while s < work[Work.PADDED]:
            peak, mass = a[s], zero
            for j in range(1, n_out):
                peak = larger(peak, a[j * ld + s])
            for j in range(n_out):
                value = exp(a[j * ld + s] - peak)
                a[j * ld + s] = value
                mass += value
            for j in range(n_out):
                a[j * ld + s] = a[j * ld + s] / mass
            s = np.int32(s + step.threads)
        return True

    @device
    def activation_gradient(step, op, work):
        """dZ from dA, in place; where a layer of this kind follows, it has done so."""
        if np.int32(work[Work.DOES] & SLOPES) == 0:
            return False
        code, alpha, item = work[Work.CODE], step.reals[Real.ALPHAS + work[Work.NUMBER]], step.thread
        delta, z, a = step.workspace + work[Work.DELTA], step.workspace + work[Work.Z], step.workspace + work[Work.A]
        while item < work[Work.N_OUT] * work[Work.PADDED]:
            _, _, at = element_at(step, item)
            delta[at] = delta[at] * slope(code, alpha, z[at], a[at])
            item = np.int32(item + step.threads)
        return True

    @device
    def softmax_gradient(step, op, work):
        """dZ = A * (dA - the sum of dA * A) of a sample, in place, a thread a sample."""
        if np.int32(work[Work.DOES] & SOFTMAXES) == 0:
            return False
        n_out, ld, s = work[Work.N_OUT], work[Work.LD], step.thread
        delta, a = step.workspace + work[Work.DELTA], step.workspace + work[Work.A]
        while s < work[Work.PADDED]:
            mean = zero
            for j in range(n_out):
                mean += delta[j * ld + s] * a[j * ld + s]
            for j in range(n_out):
                delta[j * ld + s] = a[j * ld + s] * (delta[j * ld + s] - mean)
            s = np.int32(s + step.threads)
        return True

    @device
    def input_gradient(step, op, work):
        """dX from dZ; where a layer of this kind came before, that with respect to its Z."""
        if np.int32(work[Work.DOES] & BACKWARDS) == 0:
            return False
        items, fold, _, _ = load4(work + Work.BACKWARD_ITEMS)
        item, lane, share, fold, shared, by_block, none = shared_out(step, fold, items)
        if none:
            return True
        n_in, n_out, ld, groups = load4(work + Work.N_IN)
        x_at, w_at, _, _ = load4(work + Work.X)
        delta_at, out_at, z_at, width = load4(work + Work.DELTA)
        does, code = work[Work.DOES], work[Work.CODE_BEFORE]
        W, inverse, rows = step.parameters + w_at, work[Work.OF_GROUPS], rows_of(lane, fold)
        out, z, a = step.workspace + out_at, step.workspace + z_at, step.workspace + x_at
        alpha, applied = step.reals[Real.ALPHAS - 1 + work[Work.NUMBER]], np.int32(does & SLOPES_BEFORE) != 0
        while item < items or shared:
            i, s = tile_at(item, items, groups, inverse)
            first, row = np.int32(i + first_row(lane)), np.int32(0)
            p = q = zero, zero, zero, zero
            if short:
                if applied:  # there when the sums are
                    at = np.int32(min(first, np.int32(width - 1)) * ld + s)
                    p, q = load4(z + at), load4(a + at)
            sums = tile_backward(step.workspace + (delta_at + s), ld, W, n_in, i, n_out, lane, share)
            sums, i = all_rows(sums, lane, fold, by_block), first
            end = min(rows, np.int32(width - i)) if item < items else row
            while row < end:
                turn_by_turn()
                (v0, v1, v2, v3), at, e = sums[0], np.int32((i + row) * ld + s), 0
                if short:
                    if applied:
                        v0, v1 = v0 * slope(code, alpha, p[0], q[0]), v1 * slope(code, alpha, p[1], q[1])
                        v2, v3 = v2 * slope(code, alpha, p[2], q[2]), v3 * slope(code, alpha, p[3], q[3])
                    store4(out + at, v0, v1, v2, v3)
                else:
                    store4(out + at, v0, v1, v2, v3)
                    while applied and e < 4:
                        out[at + e] = out[at + e] * slope(code, alpha, z[at + e], a[at + e])
                        e += 1
                row = np.int32(row + 1)
                if row < end:
                    sums = sums[1], sums[2], sums[3], sums[0]
                    if short:
                        if applied:
                            p, q = load4(z + np.int32(at + ld)), load4(a + np.int32(at + ld))
            item, shared = np.int32(item + step.threads), False
        return True

    if SOFTMAX in structure.activations:
        backward = activation_gradient, softmax_gradient, input_gradient
        return Phases((forward, softmax), backward, prepare, gradient)
    return Phases((forward,), (activation_gradient, input_gradient), prepare, gradient)


def queue_forward(step, op):
    """Queue the forward pass of a `graph.Step`: the activation follows the product before it leaves the chip."""
    size, activates, before = op.n_out, op.activates, op.number
    z, a = step.pres[op.number + 1], step.values[op.number + 1]
    key = op.key if activates and op.key != SOFTMAX else LINEAR
    W, b = step.parameter(op.record[W_AT]), Side(step.parameter(op.record[B_AT]), 0, 1)
    if op.record[Op.FLAGS] & ADDED:
        b = z  # which the sums of one-hot weights are in already, with the bias
    epilogue, kept = (ACTIVATE, key, op.alpha), NO_OPERAND if z == a else z
    sizes = step.count, size, op.n_in
    step.multiply(sizes, step.values[before], Side(W, op.n_in, 1).transposed(), a, epilogue, b, kept, work=step.work)
    if activates and op.key == SOFTMAX:
        run(softmax_of(step.real), warps(step.count), step.stream, step.count, size, *a, *a)


def _slope_of(step, number):
    """The slope of an operation as the epilogue of what makes its delta, with its operands; None if it has none."""
    if number < 0 or step.kind_of(number) != Dense.name:
        return None
    op = step.operations[number]
    if not op.activates or op.key in (LINEAR, SOFTMAX):
        return None
    return (SLOPE, op.key, op.alpha), step.pres[number + 1], step.values[number + 1]


def queue_backward(step, op):
    """Queue the backward pass and the gradients with respect to W and b.

    The gradient with respect to X comes with the slope of the layer before: that layer then has it already.
    """
    (real, count), n_in, n_out = (step.real, step.count), op.n_in, op.n_out
    delta, z, a = step.deltas[op.number + 1], step.pres[op.number + 1], step.values[op.number + 1]
    if op.activates and op.key == SOFTMAX:
        run(softmax_slope_of(real), warps(count), step.stream, count, n_out, *delta, *a, *delta)
    elif _slope_of(step, op.number) and step.kind_of(op.number + 1) != Dense.name:
        arguments = real(op.alpha), count, n_out, *delta, *z, *a, *delta
        run(backward_of(real, op.key), plane(count, n_out), step.stream, *arguments)
    dW, sums = Side(step.gradient(op.record[W_AT]), n_in, 1), (step.gradient(op.record[B_AT]), 1)
    split = {"split": step.split} if step.split[0] > 1 else {"work": step.work}
    rounded = {"work": step.work} if step.plan.precision != "float32" else {}
    apart = op.gradient_width and not rounded  # these two share no working space
    with step.beside() if apart else nullcontext():
        step.multiply((n_out, n_in, count), delta.transposed(), step.values[op.number], dW, sums=sums, **split)
    if op.gradient_width:
        W, slope = Side(step.parameter(op.record[W_AT]), n_in, 1), _slope_of(step, op.number - 1) or ()
        step.multiply((count, op.gradient_width, n_out), delta, W, step.deltas[op.number], *slope, **rounded)


@checked()
def dense_forward(
    X: DeviceArray,
    W: DeviceArray,
    b: DeviceArray,
    activation: int,
    param: float,
    work: DeviceArray | None,
    Z: DeviceArray,
    A: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """Z = X W^T + b, A = g(Z): bias and activation follow the product before it leaves the chip.

    Parameters
    ----------
    X : device array (m, n_in), float32 or float64
        Samples, any strides.
    W : device array (n_out, n_in), dtype of X
        Weights.
    b : device array (n_out,), dtype of X
        Biases.
    activation : int
        An activation code such as `kernels.RELU`.
    param : float
        alpha of leaky_relu and elu.
    work : device array (w,), dtype of X
        Working space of `work_size(m, n_in, n_out, precision)` elements, consecutive; None: slower, without it, for
        large layers of a lower precision. In "float32" it is not used.
    Z, A : device array (m, n_out), dtype of X
        Receive the pre-activations and the outputs. Z may be A, but for silu, gelu and gelu_tanh if a backward pass
        follows.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    z, a = side(Z), side(A)
    multiply(
        X.dtype.type,
        stream,
        (X.shape[0], *W.shape),
        side(X),
        side(W).transposed(),
        a,
        (ACTIVATE, LINEAR if activation == SOFTMAX else activation, param),
        Side(b.address, 0, *b.strides),
        NO_OPERAND if z == a else z,
        work=space(work),
        precision=precision,
    )
    if activation == SOFTMAX:
        activation_forward.kernel(SOFTMAX, param, A, A, stream)


@checked(work=SCRATCH)
def input_gradient(
    dZ: DeviceArray,
    W: DeviceArray,
    activation: int,
    param: float,
    Z: DeviceArray | None,
    A: DeviceArray | None,
    dX: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
    work: DeviceArray | None = None,
) -> None:
    """dX = (dZ W) * g'(Z): the gradient with respect to the pre-activations of the layer before, in one pass.

    Parameters
    ----------
    dZ : device array (m, n_out), float32 or float64
        Gradient with respect to the pre-activations of this layer.
    W : device array (n_out, n_in), dtype of dZ
        Its weights.
    activation : int
        Code of the activation of the layer before; LINEAR for the inputs of a net.
    param : float
        alpha of leaky_relu and elu.
    Z, A : device array (m, n_in), dtype of dZ
        Of the layer before; Z may be A, but for silu, gelu and gelu_tanh. None for LINEAR.
    dX : device array (m, n_in), dtype of dZ
        Receives the gradient.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    work : device array (w,), dtype of dZ, optional
        Working space of `work_size(m, n_in, n_out, precision)` elements, consecutive; None: slower, without it, for
        large layers of a lower precision.
    """
    epilogue, z, a = PLAIN, NO_OPERAND, NO_OPERAND
    if activation != LINEAR:
        epilogue, z, a = (SLOPE, activation, param), side(Z), side(A)
    given, sizes = {"work": space(work), "precision": precision}, (dZ.shape[0], W.shape[1], W.shape[0])
    multiply(dZ.dtype.type, stream, sizes, side(dZ), side(W), side(dX), epilogue, z, a, **given)


@checked()
def weight_gradient(
    dZ: DeviceArray,
    X: DeviceArray,
    work: DeviceArray | None,
    dW: DeviceArray,
    db: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """dW = dZ^T X and db = the sum of dZ, in one pass; a long batch is cut into parts, combined in their order.

    Parameters
    ----------
    dZ : device array (m, n_out), float32 or float64
        Gradient with respect to the pre-activations.
    X : device array (m, n_in), dtype of dZ
        Inputs of the layer.
    work : device array (w,), dtype of dZ
        Working space of `work_size(m, n_in, n_out, precision)` elements, consecutive; None: slower, without it,
        for long batches and for large layers of a lower precision.
    dW : device array (n_out, n_in), dtype of dZ
        Receives the gradient with respect to W.
    db : device array (n_out,), dtype of dZ
        Receives the gradient with respect to b.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    real, sizes, sums = dZ.dtype.type, (*dW.shape, dZ.shape[0]), (db.address, *db.strides)
    a, b, c = side(dZ).transposed(), side(X), side(dW)
    multiply(real, stream, sizes, a, b, c, sums=sums, work=space(work), precision=precision)


@checked()
def dense_backward(
    dA: DeviceArray,
    Z: DeviceArray,
    A: DeviceArray,
    X: DeviceArray,
    W: DeviceArray,
    activation: int,
    param: float,
    work: DeviceArray | None,
    dX: DeviceArray | None,
    dW: DeviceArray,
    db: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """Gradients of a layer: dZ = dA * g'(Z), dW = dZ^T X, db = sum of dZ, dX = dZ W.

    Parameters
    ----------
    dA : device array (m, n_out), float32 or float64
        Gradient with respect to A; overwritten with dZ.
    Z, A : device array (m, n_out), dtype of dA
        Of the forward pass.
    X : device array (m, n_in), dtype of dA
        Samples.
    W : device array (n_out, n_in), dtype of dA
        Weights.
    activation : int
        An activation code.
    param : float
        alpha of leaky_relu and elu.
    work : device array (w,), dtype of dA
        Working space of `work_size(m, n_in, n_out, precision)` elements, consecutive; None: slower, without it,
        for long batches and for large layers of a lower precision.
    dX : device array (m, n_in), dtype of dA
        Receives the gradient with respect to X; None if it is not wanted.
    dW : device array (n_out, n_in), dtype of dA
        Receives the gradient with respect to W.
    db : device array (n_out,), dtype of dA
        Receives the gradient with respect to b.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    if activation != LINEAR:
        activation_backward.kernel(activation, param, dA, Z, A, dA, stream)
    weight_gradient.kernel(dA, X, work, dW, db, stream, precision)
    if dX is not None:
        input_gradient.kernel(dA, W, LINEAR, 0.0, None, None, dX, stream, precision, work)

"""The compiled loop: many steps of shuffle, gather, forward, loss, backward and update in one call.

`run` is the only compiled entry. It reads everything from the plan's tables, allocates nothing, and is called by one
leading thread and any number of helpers. The work of a phase is cut into blocks by its shape alone; whoever is free
takes the next one, and sums are combined in a fixed order, so the same bits come out on any number of threads.
"""

from math import sqrt

import numpy as np

from .. import plan
from ..annotations import Floats, Integers
from ..formulas import ADAM, NESTEROV, RMSPROP, SGD
from ..options import EXACT, VECTORS, jit
from ..randomness import DROPOUT, SHUFFLE
from . import updates
from .losses import weight_sum
from .matmul import ACCUMULATE, ZERO
from .memory import (
    address_of,
    atomic_add,
    atomic_load,
    atomic_store,
    atomic_swap_if,
    give_way,
    pause,
    plain,
    pointer_at,
)
from .passes import layer_gradient, row_at, run_block
from .rng import half_bits, stream_key
from .simd import lanes, like, load_strided, store_strided, total

SPINS = 2000  # looks at a ticket before a thread offers its core to others
MANY = 1 << 15  # parameters from which an update is worth sharing: below, it takes less than two phases cost


@jit(EXACT)
def _share(t, theta, slot):
    """(first, past the last) row of one slot's share of the batch, counted from the batch's first."""
    slots, count, step = t[plan.SLOTS_NOW], t[plan.COUNT], VECTORS * lanes(theta)
    panels = (count + step - 1) // step
    return slot * panels // slots * step, min(count, (slot + 1) * panels // slots * step)


@jit(EXACT)
def _slot(t, r, theta, scratch, slot):
    """The loss, and what is wanted of the gradient, of one slot's share of the batch."""
    low, high = _share(t, theta, slot)
    grad = pointer_at(t[plan.GRADIENTS], theta) + slot * t[plan.PARAMETERS]
    summed = 0.0
    start = ZERO
    for at in range(low, high, t[plan.BLOCK]):
        if t[plan.STOP] != 0:
            break
        count = min(t[plan.BLOCK], high - at)
        summed += run_block(t, r, theta, scratch, grad, t[plan.FIRST] + at, count, start)
        start = ACCUMULATE
    slot_losses = pointer_at(t[plan.SLOT_LOSSES], r)
    slot_losses[slot] = summed


@jit(EXACT)
def _piece(t, r, theta, thread, kind, index):
    """One piece of the parameters: its gradient, from the slots in order, its update, or both."""
    piece = t + (t[plan.PIECES_AT] + plan.PIECE * index)
    layer = t + (t[plan.LAYERS_AT] + plan.RECORD * piece[plan.LAYER])
    row, rows, column, columns = piece[plan.ROW], piece[plan.ROWS_OF], piece[plan.COLUMN], piece[plan.COLUMNS_OF]
    n_in, collects, updates_it = layer[plan.N_IN], kind != plan.UPDATE_PHASE, kind != plan.COLLECT_PHASE
    weights, biases = layer[plan.W_AT] + row * n_in + column, layer[plan.B_AT] + row
    gradients = pointer_at(t[plan.GRADIENTS], theta)
    dW, ld_dw, db = gradients + weights, n_in, gradients + biases
    if t[plan.PIECEWISE] != 0 and collects:
        if updates_it:
            dW, ld_dw = pointer_at(t[plan.PIECE_ROOM], theta) + thread * t[plan.PIECE_ROOM_SIZE], columns
            db = dW + rows * columns
        for slot in range(t[plan.SLOTS_NOW]):
            low, high = _share(t, theta, slot)
            scratch = pointer_at(t[plan.SCRATCH], theta) + slot * t[plan.SCRATCH_SIZE]
            start = ZERO if slot == 0 else ACCUMULATE
            first, count = t[plan.FIRST] + low, high - low
            layer_gradient(t, theta, scratch, first, count, layer, row, rows, column, columns, start, dW, ld_dw, db)
    lines, length = (1, rows * columns) if columns == n_in else (rows, columns)
    squares = 0.0
    for line in range(lines + 1):
        at, grad, count, l2 = weights + line * n_in, dW + line * ld_dw, length, r[plan.L2]
        if line == lines:
            if column > 0:
                break
            at, grad, count, l2 = biases, db, rows, 0.0
        if collects and t[plan.PIECEWISE] == 0:
            _combine(t, grad, count)
        if t[plan.CLIPS] != 0:
            if collects:
                squares += updates.penalize_and_clip(count, theta + at, grad, l2, r[plan.CLIP_VALUE])
            else:
                updates.scale(count, grad, r[plan.GRADIENT_SCALE])
            l2 = 0.0
        if updates_it:
            _update_piece(t, r, theta, at, count, grad, l2)
    if t[plan.CLIPS] & plan.BY_NORM != 0 and collects:
        sums = pointer_at(t[plan.SQUARES], r)
        sums[index] = squares


@jit(EXACT)
def _update_piece(t, r, theta, at, count, grad, l2):
    """Update `count` parameters from `at` on."""
    p = theta + at
    first, second = pointer_at(t[plan.STATE_1], theta) + at, pointer_at(t[plan.STATE_2], theta) + at
    rate, decay, code = r[plan.RATE], r[plan.WEIGHT_DECAY] + l2, t[plan.OPTIMIZER]
    if code == SGD:
        updates.sgd(count, p, 1, grad, 1, rate, decay)
    elif code == RMSPROP:
        rho, eps, keep = r[plan.BETA2], r[plan.EPS], r[plan.MOMENTUM]
        updates.rmsprop(count, p, 1, grad, 1, first, 1, second, 1, rate, rho, eps, keep, decay)
    elif code == ADAM:
        updates.adam(
            count,
            p,
            1,
            grad,
            1,
            first,
            1,
            second,
            1,
            rate,
            r[plan.BETA1],
            r[plan.BETA2],
            r[plan.EPS],
            decay,
            r[plan.SHRINK],
            r[plan.ROOT_CORRECTION],
        )
    else:
        updates.momentum_pass(count, p, 1, grad, 1, first, 1, rate, r[plan.MOMENTUM], code == NESTEROV, decay)


@jit(EXACT)
def _combine(t, grad, count):
    slots, size = t[plan.SLOTS_NOW], t[plan.PARAMETERS]
    if slots == 1:
        return
    for i in range(0, count, lanes(grad)):
        left = count - i
        summed = load_strided(grad + i, 1, left)
        for slot in range(1, slots):
            summed = summed + load_strided(grad + (slot * size + i), 1, left)
        store_strided(grad + i, 1, summed, left)


@jit(EXACT)
def _work(t, r, theta, thread, kind, index):
    """One block of a phase."""
    if kind != plan.SLOT_PHASE:
        _piece(t, r, theta, thread, kind, index)
        return
    # what is kept for the pieces stands apart for each slot; else each thread uses its own scratch again
    place = index if t[plan.PIECEWISE] != 0 else thread
    _slot(t, r, theta, pointer_at(t[plan.SCRATCH], theta) + place * t[plan.SCRATCH_SIZE], index)


@jit(EXACT)
def _help(t, r, theta, thread):
    """Take blocks as they are published until the leader sends everybody home."""
    spins = 0
    while True:
        ticket = atomic_load(t + plan.TICKET)
        if ticket == plan.NOBODY:
            return
        if ticket > 0 and atomic_swap_if(t + plan.TICKET, ticket, ticket - 1):
            _work(t, r, theta, thread, t[plan.KIND], ticket - 1)
            atomic_add(t + plan.DONE, 1)
            spins = 0
        else:
            spins += 1
            if spins < SPINS:
                pause()
            else:
                give_way()


@jit(EXACT)
def _phase(t, r, theta, kind, blocks, shared):
    """All blocks of a phase, by this thread alone or together with the helpers."""
    if not shared:
        for index in range(blocks):
            _work(t, r, theta, plain(0), kind, index)
        return
    t[plan.KIND] = kind
    atomic_store(t + plan.DONE, 0)
    atomic_store(t + plan.TICKET, blocks)
    while True:
        ticket = atomic_load(t + plan.TICKET)
        if ticket == 0:
            break
        if atomic_swap_if(t + plan.TICKET, ticket, ticket - 1):
            _work(t, r, theta, plain(0), kind, ticket - 1)
            atomic_add(t + plan.DONE, 1)
    spins = 0
    while atomic_load(t + plan.DONE) < blocks:
        spins += 1
        if spins < SPINS:
            pause()
        else:
            give_way()


@jit(EXACT)
def _rows_pass(t, r, theta, first, count):
    """Loss sum of `count` rows from `first` on; gradients where wanted, divided by the batch's weight."""
    t[plan.FIRST], t[plan.COUNT] = first, count
    step = VECTORS * lanes(theta)
    slots = min(t[plan.SLOTS], (count + step - 1) // step)
    t[plan.SLOTS_NOW] = slots
    weights = pointer_at(t[plan.WEIGHTS], theta)
    if t[plan.WEIGHTS] == 0 or t[plan.SHUFFLE] == 0:
        r[plan.BATCH_WEIGHT] = weight_sum(count, weights + first, 1 if t[plan.WEIGHTS] != 0 else 0)
    else:
        mass = 0.0
        for i in range(first, first + count):
            mass += weights[row_at(t, i)]
        r[plan.BATCH_WEIGHT] = mass
    _phase(t, r, theta, plain(plan.SLOT_PHASE), slots, slots > 1 and t[plan.THREADS] > 1)
    # one block of all rows in their own order stays in the leader's scratch from step to step
    same = t[plan.SHUFFLE] == 0 and t[t[plan.LAYERS_AT] + plan.DROPS] == 0
    t[plan.LOADED] = same and slots == 1 and count == t[plan.ROWS] and count <= t[plan.BLOCK]
    slot_losses = pointer_at(t[plan.SLOT_LOSSES], r)
    summed = 0.0
    for slot in range(slots):
        summed += slot_losses[slot]
    return summed


@jit(EXACT)
def _penalty(t, r, theta):
    """l2 / 2 times the sum of the squared weights."""
    summed = 0.0
    for i in range(t[plan.LAYERS]):
        layer = t + (t[plan.LAYERS_AT] + plan.RECORD * i)
        summed += updates.squares(layer[plan.N_IN] * layer[plan.N_OUT], theta + layer[plan.W_AT])
    return 0.5 * r[plan.L2] * summed


@jit(EXACT)
def _step(t, r, theta, rate):
    """One step of training on the next batch; False where its loss is not finite, or it was told to stop."""
    rows, batch = t[plan.ROWS], t[plan.BATCH]
    first = t[plan.POSITION] * batch
    count = min(batch, rows - first)
    if t[plan.SHUFFLE] != 0 and t[plan.POSITION] == 0:
        t[plan.LEFT_BITS], t[plan.RIGHT_BITS] = half_bits(rows)
        t[plan.KEY] = np.int64(stream_key(t[plan.SEED], SHUFFLE, t[plan.EPOCH]))
    if t[plan.POSITION] == 0:
        t[plan.DROPOUT_KEY] = np.int64(stream_key(t[plan.SEED], DROPOUT, t[plan.EPOCH]))
    summed = _rows_pass(t, r, theta, first, count)
    if t[plan.STOP] != 0:
        return False
    mass = r[plan.BATCH_WEIGHT]
    if mass > 0.0:  # a batch whose weights are all zero changes nothing
        loss = summed / mass
        if r[plan.L2] != 0.0:
            loss += _penalty(t, r, theta)
        r[plan.LAST_LOSS] = loss
        if not loss - loss == 0.0:
            t[plan.STATUS] = plan.DIVERGED
            return False
        _update(t, r, theta, rate, t[plan.STEP] + 1)
        r[plan.EPOCH_LOSS] += loss * mass
        r[plan.EPOCH_WEIGHT] += mass
    t[plan.STEP] += 1
    t[plan.POSITION] += 1
    if first + count == rows:
        losses = pointer_at(t[plan.LOSSES], r)
        losses[t[plan.FINISHED]] = r[plan.EPOCH_LOSS] / r[plan.EPOCH_WEIGHT]
        r[plan.EPOCH_LOSS] = r[plan.EPOCH_WEIGHT] = 0.0
        t[plan.POSITION] = 0
        t[plan.FINISHED] += 1
        t[plan.EPOCH] += 1
    return True


@jit(EXACT)
def _update(t, r, theta, rate, step):
    """Update number `step` of all parameters, from the gradients of the batch."""
    r[plan.RATE], r[plan.SHRINK] = rate, 1.0 - rate * r[plan.DECOUPLED]
    if t[plan.OPTIMIZER] == ADAM:
        r[plan.RATE] = rate / (1.0 - r[plan.BETA1] ** step)
        r[plan.ROOT_CORRECTION] = 1.0 / sqrt(1.0 - r[plan.BETA2] ** step)
    if t[plan.CLIPS] & plan.BY_NORM == 0:
        _all_pieces(t, r, theta, plain(plan.COLLECT_AND_UPDATE_PHASE))
        return
    _all_pieces(t, r, theta, plain(plan.COLLECT_PHASE))
    squares, summed = pointer_at(t[plan.SQUARES], r), 0.0
    for i in range(t[plan.PIECES]):
        summed += squares[i]
    # as torch.nn.utils.clip_grad_norm_ does
    scale = r[plan.CLIP_NORM] / (sqrt(summed) + 1e-6)
    r[plan.GRADIENT_SCALE] = 1.0 if scale > 1.0 else scale
    _all_pieces(t, r, theta, plain(plan.UPDATE_PHASE))


@jit(EXACT)
def _all_pieces(t, r, theta, kind):
    """A phase over the pieces of the parameters, shared where there is work for more than one thread."""
    _phase(t, r, theta, kind, t[plan.PIECES], t[plan.THREADS] > 1 and t[plan.PARAMETERS] >= MANY)


@jit(EXACT)
def _all_finite(count, theta):
    """Whether no parameter is NaN or infinite."""
    bad = like(0.0, load_strided(theta, 1, 0))
    for i in range(0, count, lanes(theta)):
        bad = bad + load_strided(theta + i, 1, count - i) * 0.0
    return total(bad) == 0.0


@jit(EXACT, public=True)
def run(table: Integers, reals: Floats, theta: Floats, thread: int) -> None:
    """Carry out a plan, as its leader (thread 0) or as a helper.

    Parameters
    ----------
    table : array (t,), int64
        The plan's integers; those under TICKET, DONE and STATUS are written, and what counts progress.
    reals : array (r,), float64
        The plan's numbers.
    theta : array (p,), float32 or float64
        The flat parameters, updated in place by a training run.
    thread : int
        0 for the leader, else the helper's number below the plan's THREADS.
    """
    t, r, p = address_of(table), address_of(reals), address_of(theta)
    if thread > 0:
        _help(t, r, p, thread)
        return
    t[plan.STATUS], t[plan.LOADED] = plan.FINE, 0
    if t[plan.COMMAND] == plan.TRAIN:
        rates = pointer_at(t[plan.RATES], r)
        for i in range(t[plan.STEPS]):
            if not _step(t, r, p, rates[i * t[plan.RATES_STRIDE]]):
                break
        if not _all_finite(theta.size, p):
            t[plan.STATUS] = plan.DIVERGED
    else:
        r[plan.LAST_LOSS] = _rows_pass(t, r, p, plain(0), t[plan.ROWS]) / r[plan.BATCH_WEIGHT]
        if t[plan.FLAGS] & plan.WITH_GRADIENT != 0:
            _all_pieces(t, r, p, plain(plan.COLLECT_PHASE))
    atomic_store(t + plan.TICKET, plan.NOBODY)

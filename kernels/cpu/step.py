"""The compiled loop: many steps of gather, forward, loss, backward and update in one call.

`entry` reads everything from the tables of a run, allocates nothing, and is called by one leading thread and any number
of helpers: from Python through `run`, by its address from `sweep.py`. A batch is cut into shards, each into blocks of
samples that go through the net together; the parameters are cut into parts. The work of a phase is cut by its shape
alone, whoever is free takes the next task, and sums are combined in a fixed order, so the same bits come out on any
number of threads.

Symbols: run, reals, state, sums: the tables of `kernels.tables`; theta: the flat parameters; scratch: the working
memory of a shard or a thread; ld: elements from feature to feature of a block.
"""

from math import sqrt

import numpy as np

from ..annotations import Floats, Integers
from ..compiler import jit
from ..options import EXACT, VECTORS
from ..randomness import DROPOUT, SHUFFLE
from ..tables import (
    BACKWARD,
    BY_NORM,
    DIVERGED,
    FINE,
    FROM_ROWS,
    INPUT_BACKWARD,
    LOSS,
    OUTPUT,
    ROUNDED,
    UPDATE,
    Buffer,
    Header,
    Op,
    Range,
    Real,
    Run,
    State,
    Sums,
)
from . import updates
from .block import (
    COLLECT,
    COLLECT_AND_UPDATE,
    ROUND_PART,
    SHARD,
    UPDATE_PART,
    Part,
    Phase,
    buffer_at,
    operations_at,
    program_at,
)
from .losses import weight_sum
from .matmul import ACCUMULATE, ZERO, copy_rows, transpose
from .memory import (
    address_of,
    atomic_add,
    atomic_load,
    atomic_store,
    atomic_swap_if,
    call,
    call_real_checked,
    flush_denormals,
    integers_at,
    pause,
    plain,
    pointer_at,
    restore_float_control,
    yield_core,
)
from .rng import half_bits, permuted, stream_key
from .simd import lanes, load_part, splat, store_part, total
from .units import unit

NO_MORE = -1  # for the number of tasks: helpers return
LINE = 8  # integers of a cache line: how many tasks of each thread wait stands on one of its own
SPINS = 2000  # looks for a task before a thread offers its core to others
# Parameters from which an update is shared, fewer where the gradients of shards are added. An estimate: a phase costs
# about 1 us, which is the update of 32,768 parameters by SGD from the second-level cache.
SHARED_UPDATE = 1 << 15


@jit(EXACT)
def row_at(run, index):
    """The row of the data that stands at `index` of the order of the epoch."""
    if run[Run.SHUFFLE] != 0:
        index = permuted(np.uint64(run[Run.KEY]), index, run[Run.ROWS], run[Run.LEFT_BITS], run[Run.RIGHT_BITS])
    if run[Run.ROW_INDEX] != 0:
        index = integers_at(run[Run.ROW_INDEX])[index]
    return index


@jit(EXACT)
def _gather(run, theta, scratch, first, count):
    """Rows, targets and weights as they are visited, side by side; targets as (outputs, ld)."""
    features, stride, ld = program_at(run)[Header.FEATURES], run[Run.X_STRIDE], run[Run.LD]
    x, y, w = pointer_at(run[Run.X], theta), pointer_at(run[Run.Y], theta), pointer_at(run[Run.WEIGHTS], theta)
    rows, targets, weights = scratch + run[Run.ROWS_AT], scratch + run[Run.TARGETS_AT], scratch + run[Run.WEIGHTS_AT]
    columns = run[Run.Y_COLUMNS]
    for s in range(count):
        row = row_at(run, first + s)
        copy_rows(plain(1), features, x + row * stride, stride, rows + s * features, features)
        for j in range(columns):
            targets[j * ld + s] = y[row * columns + j]
        if run[Run.WEIGHTS] != 0:
            weights[s] = w[row]


@jit(EXACT)
def _loss(run, reals, theta, scratch, first, count):
    """Loss sum of a block, and, where gradients are wanted, the delta of the last buffer."""
    program, ld, columns = program_at(run), run[Run.LD], run[Run.Y_COLUMNS]
    last, n_out = buffer_at(run, program[Header.OPERATIONS]), program[Header.OUTPUTS]
    y, fs_y, ss_y = pointer_at(run[Run.Y], theta) + first * columns, 1, columns
    w, ss_w = pointer_at(run[Run.WEIGHTS], theta) + first, 1
    if run[Run.GATHERS] != 0:
        y, fs_y, ss_y = scratch + run[Run.TARGETS_AT], ld, 1
        w = scratch + run[Run.WEIGHTS_AT]
    if run[Run.WEIGHTS] == 0:
        ss_w = 0
    scale = 1.0 / reals[Real.BATCH_WEIGHT] if run[Run.COMMAND] & BACKWARD != 0 else 0.0
    z, delta, param = scratch + last[Buffer.VALUE], scratch + last[Buffer.DELTA], reals[Real.LOSS_PARAM]
    labels = run[Run.LABELS]
    sides = param, n_out, count, z, ld, 1, y, fs_y, ss_y, labels, w, ss_w, scale, delta, ld, 1
    return call_real_checked(program[Header.LOSS], sides, run + Run.FAILURE)


@jit(EXACT)
def _write_rows(run, theta, buffer, features, first, count, scratch, column):
    """A block, (features, samples), to the rows of the result, from a column on."""
    stride = run[Run.OUT_STRIDE]
    out = pointer_at(run[Run.OUT], theta) + (first * stride + column)
    transpose(features, count, scratch + buffer, run[Run.LD], out, stride)


@jit(EXACT)
def _unit_delta(run, theta, scratch, outputs, which):
    """The delta of the last buffer for one output alone: 1 for it, 0 for the others."""
    ld, program = run[Run.LD], program_at(run)
    delta = scratch + buffer_at(run, program[Header.OPERATIONS])[Buffer.DELTA]
    for j in range(outputs):
        value = splat(1.0 if j == which else 0.0, theta)
        for s in range(0, ld, lanes(theta)):
            store_part(delta + (j * ld + s), value, ld - s)


@jit(EXACT)
def _block(run, reals, theta, scratch, gradient, first, count, start):
    """Take `count` rows from `first` on through the net, and do what the command asks; gives their loss sum."""
    command, program = run[Run.COMMAND], program_at(run)
    if run[Run.GATHERS] != 0 and run[Run.LOADED] == 0:
        _gather(run, theta, scratch, first, count)
    op, operations = operations_at(program), program[Header.OPERATIONS]
    for _ in range(operations):
        on_rows = op[Op.FLAGS] & FROM_ROWS != 0 and op[Op.RANGES] == 0
        if run[Run.LOADED] == 0 or not on_rows:
            call(op[Op.BLOCK], (Phase.FORWARD, run, reals, theta, scratch, op, first, count, op, start, gradient, 0))
        op = op + Op.SIZE
    if command & OUTPUT != 0:
        value = buffer_at(run, operations)[Buffer.VALUE]
        _write_rows(run, theta, value, program[Header.OUTPUTS], first, count, scratch, plain(0))
    summed, backwards, outputs = 0.0, plain(1), program[Header.OUTPUTS]
    if command & LOSS != 0:
        summed = _loss(run, reals, theta, scratch, first, count)
    elif command & INPUT_BACKWARD != 0:
        backwards = outputs
    if command & (BACKWARD | INPUT_BACKWARD) == 0:
        return summed
    features, delta = program[Header.FEATURES], buffer_at(run, plain(0))[Buffer.DELTA]
    for o in range(backwards):
        if command & LOSS == 0:
            _unit_delta(run, theta, scratch, outputs, o)
        back = op
        for _ in range(operations):
            back = back + -Op.SIZE
            here = Phase.BACKWARD, run, reals, theta, scratch, back, first, count, back, start, gradient, 0
            call(back[Op.BLOCK], here)
        if command & INPUT_BACKWARD != 0:
            _write_rows(run, theta, delta, features, first, count, scratch, o * features)
    return summed


@jit(EXACT)
def _limits(run, theta, shard):
    """(first, past the last) row of a shard, counted from the batch's first."""
    shards, count, step = run[Run.SHARDS_NOW], run[Run.COUNT], lanes(theta)
    if run[Run.TILES] != 0:
        step = VECTORS * lanes(theta)  # terms of a step of the tile unit
    units = (count + step - 1) // step
    return shard * units // shards * step, min(count, (shard + 1) * units // shards * step)


@jit(EXACT)
def _shard(run, reals, theta, scratch, shard):
    """The loss, and what is wanted of the gradient, of one shard of the batch."""
    low, high = _limits(run, theta, shard)
    gradient = pointer_at(run[Run.GRADIENTS], theta)
    if shard > 0:
        gradient = pointer_at(run[Run.PARTIALS], theta) + (shard - 1) * program_at(run)[Header.DENSE]
    summed, start = 0.0, ZERO
    for at in range(low, high, run[Run.BLOCK]):
        if run[Run.STOP] | run[Run.FAILURE] != 0:
            break
        count = min(run[Run.BLOCK], high - at)
        summed += _block(run, reals, theta, scratch, gradient, run[Run.FIRST] + at, count, start)
        start = ACCUMULATE
    shard_losses = pointer_at(run[Run.SHARD_LOSSES], reals)
    shard_losses[shard] = summed


@jit(EXACT)
def _gradient_by_parts(run, reals, theta, op, part, target, packed):
    """The gradient of a part from all shards, in their order."""
    for shard in range(run[Run.SHARDS_NOW]):
        low, high = _limits(run, theta, shard)
        scratch, start = pointer_at(run[Run.SCRATCH], theta) + shard * run[Run.SCRATCH_SIZE], ACCUMULATE
        if shard == 0:
            start = ZERO
        first, count = run[Run.FIRST] + low, high - low
        call(op[Op.BLOCK], (Phase.GRADIENT, run, reals, theta, scratch, op, first, count, part, start, target, packed))


@jit(EXACT)
def _part(run, reals, theta, thread, phase, index):
    """One part of the parameters: its gradient, from the shards in their order, its update, or both."""
    part, program = run + (run[Run.PARTS_AT] + Part.SIZE * index), program_at(run)
    op, gradients = operations_at(program) + Op.SIZE * part[Part.OPERATION], pointer_at(run[Run.GRADIENTS], theta)
    if phase == ROUND_PART:
        _round_part(run, reals, theta, op, part)
        return
    if (program + (program[Header.RANGES_AT] + Range.SIZE * op[Op.RANGE]))[Range.BY_TOUCHED_ROWS] != 0:
        call(op[Op.BLOCK], (Phase.TABLE, run, reals, theta, theta, op, thread, index, part, phase, gradients, 0))
        return
    row, rows, column, columns = part[Part.ROW], part[Part.ROWS], part[Part.COLUMN], part[Part.COLUMNS]
    by_parts, collects, updates_it = run[Run.BY_PARTS] != 0, phase != UPDATE_PART, phase != COLLECT
    packed, target = by_parts and collects and updates_it, gradients
    if packed:
        target = pointer_at(run[Run.PART_BUFFER], theta) + thread * run[Run.PART_BUFFER_SIZE]
    if by_parts and collects:
        _gradient_by_parts(run, reals, theta, op, part, target, packed)
    squares, filled = 0.0, 0
    for i in range(op[Op.RANGE], op[Op.RANGE] + op[Op.RANGES]):
        where = program + (program[Header.RANGES_AT] + Range.SIZE * i)
        across, height = where[Range.COLUMNS], min(rows, where[Range.ROWS] - row)
        width, l2 = min(columns, across - column), reals[Real.L2] if where[Range.DECAYS] != 0 else 0.0
        if width <= 0 or height <= 0:
            continue
        lines, length = (1, height * width) if width == across else (height, width)
        for line in range(lines):
            at = where[Range.OFFSET] + (row + line) * across + column
            gradient = target + (filled + line * width if packed else at)
            if collects and not by_parts:
                _combine(run, theta, at, gradient, length)
            squares += updates.visit(run, reals, theta, at, length, gradient, l2, collects, updates_it)
        filled += height * width
    updates.note_squares(run, reals, index, phase, squares)
    if updates_it and run[Run.TILES] != 0:
        _round_part(run, reals, theta, op, part)


@jit(EXACT)
def _round_part(run, reals, theta, op, part):
    """Round the weights of a part, where its operation does."""
    if op[Op.FLAGS] & ROUNDED != 0:
        call(op[Op.BLOCK], (Phase.ROUND, run, reals, theta, theta, op, 0, 0, part, 0, theta, 0))


@jit(EXACT)
def _combine(run, theta, at, gradient, count):
    """Add the gradients of all shards to that of the first, for `count` parameters from `at` on."""
    shards, size = run[Run.SHARDS_NOW], program_at(run)[Header.DENSE]
    if shards == 1:
        return
    others = pointer_at(run[Run.PARTIALS], theta) + at
    for i in range(0, count, lanes(gradient)):
        left = count - i
        summed = load_part(gradient + i, left)
        for shard in range(shards - 1):
            summed = summed + load_part(others + (shard * size + i), left)
        store_part(gradient + i, summed, left)


@jit(EXACT)
def _task(run, reals, theta, thread, phase, index):
    """One task of a phase."""
    if phase != SHARD:
        _part(run, reals, theta, thread, phase, index)
        return
    # what is kept for the parts stands apart for each shard; else each thread uses its own scratch again
    place = index if run[Run.BY_PARTS] != 0 else thread
    _shard(run, reals, theta, pointer_at(run[Run.SCRATCH], theta) + place * run[Run.SCRATCH_SIZE], index)


@jit(EXACT)
def _first_of(run, thread):
    """The first task of a phase that a thread looks after: in each step the same, so that what it takes is near it."""
    return run[Run.TASKS] * thread // run[Run.THREADS]


@jit(EXACT)
def _claim(run, thread):
    """The number of a task that is now this thread's: its own first, then those that another has not begun; or -1."""
    threads = run[Run.THREADS]
    for i in range(threads):
        owner = (thread + i) % threads
        waiting = run + (run[Run.WAITING_AT] + LINE * owner)
        left = atomic_load(waiting)
        if left > 0 and atomic_swap_if(waiting, left, left - 1):
            return _first_of(run, owner) + left - 1
    return -1


@jit(EXACT)
def _work(run, reals, theta, thread, tasks):
    """Take tasks as they are published: a helper until there are no more, the leader (`tasks` > 0) those of a phase."""
    spins, leads = 0, tasks > 0
    while atomic_load(run + Run.TASKS) != NO_MORE:
        task = _claim(run, thread)
        if task >= 0:
            _task(run, reals, theta, thread, run[Run.PHASE], task)
            atomic_add(run + Run.DONE, 1)
            spins = 0
            continue
        if leads and atomic_load(run + Run.DONE) >= tasks:
            return
        spins += 1
        if spins < SPINS:
            pause()
        else:
            yield_core()


@jit(EXACT)
def _phase(run, reals, theta, phase, tasks, shared):
    """All tasks of a phase, by this thread alone or together with the helpers."""
    if not shared:
        for index in range(tasks):
            _task(run, reals, theta, plain(0), phase, index)
        return
    run[Run.PHASE] = phase
    atomic_store(run + Run.DONE, 0)
    atomic_store(run + Run.TASKS, tasks)
    for thread in range(run[Run.THREADS]):
        waiting = run + (run[Run.WAITING_AT] + LINE * thread)
        atomic_store(waiting, _first_of(run, thread + 1) - _first_of(run, thread))
    _work(run, reals, theta, plain(0), tasks)


@jit(EXACT)
def _rows_pass(run, reals, theta, first, count):
    """Loss sum of `count` rows from `first` on; gradients where wanted, divided by the batch's weight."""
    run[Run.FIRST], run[Run.COUNT] = first, count
    step = VECTORS * lanes(theta)
    shards = min(run[Run.SHARDS], (count + step - 1) // step)
    run[Run.SHARDS_NOW] = shards
    weights = pointer_at(run[Run.WEIGHTS], theta)
    if run[Run.WEIGHTS] == 0 or run[Run.SHUFFLE] | run[Run.ROW_INDEX] == 0:
        reals[Real.BATCH_WEIGHT] = weight_sum(count, weights + first, 1 if run[Run.WEIGHTS] != 0 else 0)
    else:
        mass = 0.0
        for i in range(first, first + count):
            mass += weights[row_at(run, i)]
        reals[Real.BATCH_WEIGHT] = mass
    _phase(run, reals, theta, plain(SHARD), shards, shards > 1 and run[Run.THREADS] > 1)
    # one block of all rows in their own order stays in the leader's scratch from step to step
    whole = shards == 1 and count == run[Run.ROWS] and count <= run[Run.BLOCK] and run[Run.OPEN_EPOCH] == 0
    run[Run.LOADED] = whole and run[Run.KEEPS_ROWS] != 0
    shard_losses = pointer_at(run[Run.SHARD_LOSSES], reals)
    summed = 0.0
    for shard in range(shards):
        summed += shard_losses[shard]
    return summed


@jit(EXACT)
def _penalty(run, reals, theta):
    """l2 / 2 times the sum of the squares of the parameters that it acts on."""
    summed, program = 0.0, program_at(run)
    for i in range(program[Header.RANGES]):
        where = program + (program[Header.RANGES_AT] + Range.SIZE * i)
        if where[Range.DECAYS] != 0:
            summed += updates.squares(where[Range.ROWS] * where[Range.COLUMNS], theta + where[Range.OFFSET])
    return 0.5 * reals[Real.L2] * summed


@jit(EXACT)
def _step(run, reals, theta, rate):
    """One step of training on the next batch; False where its loss is not finite, or it is to stop."""
    state, sums = integers_at(run[Run.STATE]), pointer_at(run[Run.SUMS], reals)
    rows, batch, position = run[Run.ROWS], run[Run.BATCH], state[State.POSITION]
    first = 0 if run[Run.OPEN_EPOCH] != 0 else position * batch
    count = min(batch, rows - first)
    if first == 0:
        if run[Run.SHUFFLE] != 0:
            run[Run.LEFT_BITS], run[Run.RIGHT_BITS] = half_bits(rows)
            run[Run.KEY] = np.int64(stream_key(state[State.SEED], SHUFFLE, state[State.EPOCH]))
        run[Run.DROPOUT_KEY] = np.int64(stream_key(state[State.SEED], DROPOUT, state[State.EPOCH]))
    summed = _rows_pass(run, reals, theta, first, count)
    if run[Run.STOP] | run[Run.FAILURE] != 0:
        return False
    mass = reals[Real.BATCH_WEIGHT]
    if mass > 0.0:  # a batch whose weights are all zero is no step
        loss = summed / mass
        if reals[Real.L2] != 0.0:
            loss += _penalty(run, reals, theta)
        reals[Real.LAST_LOSS] = loss
        if not loss - loss == 0.0:
            run[Run.STATUS] = DIVERGED
            return False
        _update(run, reals, theta, rate, state[State.STEP] + 1)
        sums[Sums.LOSS] += loss * mass
        sums[Sums.WEIGHT] += mass
        state[State.STEP] += 1
    state[State.POSITION] = position + 1
    if first + count == rows and run[Run.OPEN_EPOCH] == 0:
        losses = pointer_at(run[Run.LOSSES], reals)
        losses[run[Run.FINISHED]] = sums[Sums.LOSS] / sums[Sums.WEIGHT]
        sums[Sums.LOSS] = sums[Sums.WEIGHT] = 0.0
        state[State.POSITION] = 0
        run[Run.FINISHED] += 1
        state[State.EPOCH] += 1
    return True


@jit(EXACT)
def _update(run, reals, theta, rate, step):
    """Update number `step` of all parameters, from the gradients of the batch."""
    reals[Real.RATE] = rate
    if run[Run.PREPARE] != 0:
        call(run[Run.PREPARE], (reals + Real.RATE, rate, step))
    if run[Run.CLIPS] & BY_NORM == 0:
        _all_parts(run, reals, theta, plain(COLLECT_AND_UPDATE))
        return
    _all_parts(run, reals, theta, plain(COLLECT))
    squares, summed = pointer_at(run[Run.SQUARES], reals), 0.0
    for i in range(run[Run.PARTS]):
        summed += squares[i]
    # as torch.nn.utils.clip_grad_norm_ does
    scale = reals[Real.CLIP_NORM] / (sqrt(summed) + 1e-6)
    reals[Real.GRADIENT_SCALE] = 1.0 if scale > 1.0 else scale
    _all_parts(run, reals, theta, plain(UPDATE_PART))


@jit(EXACT)
def _all_parts(run, reals, theta, phase):
    """A phase over the parts of the parameters, shared where there is work for more than one thread."""
    gradients = run[Run.SHARDS_NOW] if run[Run.PARTIALS] != 0 else 1  # of each parameter, to be added
    work, parts = program_at(run)[Header.PARAMETERS] * gradients, run[Run.PARTS]
    shared = run[Run.THREADS] > 1 and parts > 1 and work >= SHARED_UPDATE
    _phase(run, reals, theta, phase, parts, shared)


@jit(EXACT)
def _all_finite(count, theta):
    """Whether no parameter is NaN or infinite."""
    bad = splat(0.0, theta)
    for i in range(0, count, lanes(theta)):
        bad = bad + load_part(theta + i, count - i) * 0.0
    return total(bad) == 0.0


@jit(EXACT)
def _lead(t, r, p, size):
    """The command of a run with `size` parameters."""
    command = t[Run.COMMAND]
    t[Run.STATUS], t[Run.FAILURE], t[Run.LOADED] = FINE, 0, 0
    if t[Run.TILES] != 0:
        _all_parts(t, r, p, plain(ROUND_PART))
    if command & UPDATE == 0:
        r[Real.LAST_LOSS] = _rows_pass(t, r, p, plain(0), t[Run.ROWS]) / r[Real.BATCH_WEIGHT]
        if command & BACKWARD != 0:
            _all_parts(t, r, p, plain(COLLECT))
    else:
        rates, stride, state = pointer_at(t[Run.RATES], r), t[Run.RATES_STRIDE], integers_at(t[Run.STATE])
        for i in range(t[Run.STEPS]):
            if command & LOSS != 0:
                if not _step(t, r, p, rates[i * stride]):
                    break
            else:  # the gradient is there
                _update(t, r, p, rates[i * stride], state[State.STEP] + 1)
                state[State.STEP] += 1
        if not _all_finite(size, p):
            t[Run.STATUS] = DIVERGED
    atomic_store(t + Run.TASKS, NO_MORE)


@unit(EXACT, "IRPii")
def entry(t, r, p, size, thread):
    """The part of one thread in the command of a run, its leader's or a helper's; the caller flushes denormals."""
    if thread > 0:
        _work(t, r, p, thread, plain(0))
    else:
        _lead(t, r, p, size)


@jit(EXACT, public=True)
def run(table: Integers, reals: Floats, theta: Floats, thread: int) -> None:
    """Carry out the command of a run, as its leader (thread 0) or as a helper.

    Parameters
    ----------
    table : array (t,), int64
        The fields of `tables.Run`, and parts and buffers after them; progress is written there.
    reals : array (r,), float64
        The fields of `tables.Real`.
    theta : array (p,), float32 or float64
        The flat parameters, updated in place by training.
    thread : int
        0 for the leader, else the helper's number below Run.THREADS.
    """
    t, control = address_of(table), flush_denormals()
    call(t[Run.ENTRY], (t, address_of(reals), address_of(theta), theta.size, thread))
    restore_float_control(control)

"""The loop of large nets: a step is a row of launches, recorded once as a graph and then replayed.

The products of `tile.py` and `skinny.py` do the work, the operations queue them, and the kernels here tie them
together. All that changes from step to step (the place in the epoch, the rates, whether the loss is finite) stands on
the device, so one recording serves every step. Samples are rows, as users have them. A short last batch is filled up
with its last row, without weight: where that has finite activations, nothing of it spoils a sum.

t is the table of `driver.Plan`, r the reals, both on the device. Vectors of parameters are read four elements at a
time: their ranges start at multiples of 16, and what stands between them is zero.
"""

from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from ..formulas import RULES
from ..randomness import SHUFFLE
from ..tables import (
    BACKWARD,
    DIVERGED,
    EXPANDED,
    FINE,
    FROM_ROWS,
    INPUT_BACKWARD,
    LOGITS,
    LOSS,
    OUTPUT,
    UPDATE,
    Buffer,
    Header,
    Op,
    Range,
    Real,
    Run,
    State,
)
from .launch import THREADS, line, processors, run
from .losses import block_sum_of, queue_loss
from .matmul import NO_OPERAND, PLAIN, Side, multiply
from .own import key_of
from .phases import operation_module
from .primitives import add4, atomic_add_release, global_at, load4, load_acquire, shared_memory, sqrt, store4, viewed
from .rng import first_of, half_bits, row_at, stream_key
from .step import CLIP_TINY
from .toolchain import cuda, device, for_each_real, kernel
from .updates import FACTORS, rule_of

ON_EACH = 4  # blocks of a pass over the parameters on each multiprocessor at most: in float32 so many fit there
MOST_DRAWN = 32  # samples that a block gathers at most (an estimate)


@for_each_real
def pick_of(real):
    """The rows of a step, their targets and weights; beyond the last row that one, with weight zero.

    `first`: place of the first row in the order of the rows; below zero where the table says it. A block draws the
    numbers of `each` samples, then a warp copies a sample.
    """
    zero, one, words = real(0.0), real(1.0), 2 * MOST_DRAWN

    @device
    def copy(source, target, size, lane):
        """A warp's copy of a row, four reads on their way at a time."""
        while lane + 96 < size:
            a, b, c, d = source[lane], source[lane + 32], source[lane + 64], source[lane + 96]
            target[lane], target[lane + 32], target[lane + 64], target[lane + 96] = a, b, c, d
            lane += 128
        while lane < size:
            target[lane] = source[lane]
            lane += 32

    @kernel(THREADS)
    def pick(table, first, each, features, x, y, w):
        t, thread = global_at(table, np.int64), cuda.threadIdx.x
        drawn = viewed(shared_memory(real, words), np.int64)
        state, begin, last = t + t[Run.STATE], cuda.blockIdx.x * each, t[Run.ROWS] - 1
        place, end, columns = first_of(t, first) + begin, min(t[Run.BATCH] - begin, each), t[Run.Y_COLUMNS]
        if thread < end:
            key = stream_key(state[State.SEED], SHUFFLE, state[State.EPOCH])
            left_bits, right_bits = half_bits(t[Run.ROWS])
            row, inside = row_at(t, key, min(place + thread, last), left_bits, right_bits), place + thread <= last
            drawn[thread], weight = row, one if inside else zero
            if inside and t[Run.WEIGHTS] != 0:
                weight = global_at(t[Run.WEIGHTS], real)[row]
            global_at(w, real)[begin + thread] = weight
        cuda.syncthreads()
        s, lane = thread >> 5, thread & 31
        while s < end:
            row, to = drawn[s], begin + s
            copy(global_at(t[Run.X], real) + row * t[Run.X_STRIDE], global_at(x, real) + to * features, features, lane)
            if t[Run.Y] != 0:
                copy(global_at(t[Run.Y], real) + row * columns, global_at(y, real) + to * columns, columns, lane)
            s += cuda.blockDim.x >> 5

    return pick


@device
def decays_at(t, i):
    """Whether l2 acts on parameter i."""
    program, found = t + t[Run.PROGRAM], False
    ranges = program + program[Header.RANGES_AT]
    for index in range(program[Header.RANGES]):
        part = ranges + Range.SIZE * index
        inside = part[Range.OFFSET] <= i and i < part[Range.OFFSET] + part[Range.ROWS] * part[Range.COLUMNS]
        if inside and part[Range.DECAYS] != 0:
            found = True
    return found


@for_each_real
def _sum_parts_of(real):
    """Four elements of a gradient in parts, `size` elements apart, added in order."""

    @device
    def sum_parts(p, size, parts):
        g, k = load4(p), 1
        while k + 3 < parts:  # four on their way at a time
            at = p + k * size
            a, b, c, d = load4(at), load4(at + size), load4(at + 2 * size), load4(at + 3 * size)
            g, k = add4(add4(add4(add4(g, a), b), c), d), k + 4
        while k < parts:
            g, k = add4(g, load4(p + k * size)), k + 1
        return g

    return sum_parts


@for_each_real
def clip_of(real):
    """The sum of the parts of the gradient with what l2 adds, clipped by value, in the place of the first part.

    Also the sum of its squares in each block.
    """
    block_sum, sum_parts, zero = block_sum_of(real), _sum_parts_of(real), real(0.0)

    @kernel(THREADS, min_blocks_per_sm=ON_EACH if real is np.float32 else 2)
    def clip(table, reals, theta, grad, size, parts, squares):
        t, r, i, total = global_at(table, np.int64), global_at(reals, real), 4 * cuda.grid(1), zero
        warps, limit = shared_memory(real, 32), r[Real.CLIP_VALUE]
        while i < size:
            l2, at = r[Real.L2], global_at(grad, real) + i
            if l2 != zero and not decays_at(t, i):
                l2 = zero
            p0, p1, p2, p3 = load4(global_at(theta, real) + i)
            g0, g1, g2, g3 = sum_parts(at, size, parts)
            g0, g1, g2, g3 = g0 + l2 * p0, g1 + l2 * p1, g2 + l2 * p2, g3 + l2 * p3
            g0 = limit if g0 > limit else -limit if g0 < -limit else g0
            g1 = limit if g1 > limit else -limit if g1 < -limit else g1
            g2 = limit if g2 > limit else -limit if g2 < -limit else g2
            g3 = limit if g3 > limit else -limit if g3 < -limit else g3
            store4(at, g0, g1, g2, g3)
            total += g0 * g0 + g1 * g1 + g2 * g2 + g3 * g3
            i += 4 * cuda.gridsize(1)
        total = block_sum(total, warps)
        if cuda.threadIdx.x == 0:
            global_at(squares, real)[cuda.blockIdx.x] = total

    return clip


@for_each_real
def _grid_sum_of(real):
    """Sum of what the blocks of a grid left; the same bits in all threads of each block that calls it."""
    block_sum, zero = block_sum_of(real), real(0.0)

    @device
    def grid_sum(p, blocks, warps):
        total, i = zero, cuda.threadIdx.x
        while i < blocks:
            total += p[i]
            i += cuda.blockDim.x
        return block_sum(total, warps)

    return grid_sum


@for_each_real
def scale_of(real):
    """The factor that brings the norm of a gradient to what is allowed; one block."""
    grid_sum, one, tiny = _grid_sum_of(real), real(1.0), real(CLIP_TINY)

    @kernel(THREADS)
    def scale(reals, blocks, squares, out):
        total = grid_sum(global_at(squares, real), blocks, shared_memory(real, 32))
        if cuda.threadIdx.x == 0:
            global_at(out, real)[0] = min(one, global_at(reals, real)[Real.CLIP_NORM] / (sqrt(total) + tiny))

    return scale


@for_each_real
def _advance_of(real):
    """Record the step's loss and the weight of its batch, and go on to the next step; for one block."""
    grid_sum, zero, half = _grid_sum_of(real), real(0.0), real(0.5)

    @device
    def advance(t, l2, loss, mass, blocks, penalties):
        extra, state = zero, t + t[Run.STATE]
        if l2 != zero:
            extra = half * l2 * grid_sum(penalties, blocks, shared_memory(real, 32))
        if cuda.threadIdx.x == 0 and t[Run.STATUS] == FINE:
            step, value = t[Run.FINISHED], loss + extra
            out = global_at(t[Run.LOSSES], real) + 2 * step
            out[0], out[1] = value, mass
            if t[Run.COMMAND] & UPDATE != 0 and mass > zero and value - value != zero:
                t[Run.STATUS] = DIVERGED
            else:
                t[Run.FINISHED], state[State.POSITION] = step + 1, state[State.POSITION] + 1
                if t[Run.OPEN_EPOCH] == 0 and state[State.POSITION] * t[Run.BATCH] >= t[Run.ROWS]:
                    state[State.POSITION], state[State.EPOCH] = 0, state[State.EPOCH] + 1

    return advance


@for_each_real
def update_of(real, code):
    """One rule over all parameters by the sum of the parts of the gradient, if loss and weight allow it.

    Each block adds the losses that the blocks of the loss left, `blocks` of them; where there are none, result[0] has
    them. Also each block's sum of the squares of those parameters that l2 acts on, as they were. With a counter of
    `arrivals` the last block to arrive goes on to the next step, and leaves the counter as it was: at zero.
    """
    rule, states, block_sum = rule_of(real, code), len(RULES[code].states), block_sum_of(real)
    zero, one, sum_parts, grid_sum = real(0.0), real(1.0), _sum_parts_of(real), _grid_sum_of(real)
    advance, nothing = _advance_of(real), (zero, zero, zero, zero)

    @device
    def loss_of(outcome, blocks):
        """(loss, weight) of the step, where the blocks of the loss left their sums or where it is whole."""
        mass = outcome[1]
        if blocks == 0:
            return outcome[0], mass
        loss = grid_sum(outcome + 2, blocks, shared_memory(real, 32)) / mass
        if cuda.grid(1) == 0:
            outcome[0] = loss
        return loss, mass

    @device
    def read(theta, grad, size, parts, first, second, i):
        """(parameters, gradients, moments) from element i on, which are on their way when this is done."""
        g = sum_parts(grad + i, size, parts)  # first: many parts are on their way in as many registers
        p, m, v = load4(theta + i), nothing, nothing
        if states > 0:
            m = load4(first + i)
        if states > 1:
            v = load4(second + i)
        return p, g, m, v

    @kernel(THREADS, min_blocks_per_sm=ON_EACH if real is np.float32 else 2)
    def update(table, reals, theta, grad, size, parts, scale, blocks, result, penalties, arrivals):
        t, r, i, total = global_at(table, np.int64), global_at(reals, real), 4 * cuda.grid(1), zero
        last, theta, grad = shared_memory(real, 1), global_at(theta, real), global_at(grad, real)
        first, second = global_at(t[Run.FIRST_MOMENT], real), global_at(t[Run.SECOND_MOMENT], real)
        p, g, m, v = nothing, nothing, nothing, nothing
        if i < size:  # before the loss is added
            p, g, m, v = read(theta, grad, size, parts, first, second, i)
        loss, mass = loss_of(global_at(result, real), blocks)
        changes = t[Run.STATUS] == FINE and mass > zero and loss - loss == zero
        f, s, by, l2 = global_at(t[Run.RATES], real) + FACTORS * t[Run.FINISHED], r + Real.SETTINGS, one, r[Real.L2]
        n = (f[0], f[1], f[2], s[0], s[1], s[2], s[3])
        if t[Run.CLIPS] != 0:
            by = global_at(scale, real)[0]
        while i < size:
            decays, decay = l2 != zero and decays_at(t, i), r[Real.WEIGHT_DECAY]
            if decays:
                total += p[0] * p[0] + p[1] * p[1] + p[2] * p[2] + p[3] * p[3]
                if t[Run.CLIPS] == 0:  # else the gradient has it
                    decay += l2
            if changes:
                p0, m0, v0 = rule(p[0], by * g[0], m[0], v[0], decay, n)
                p1, m1, v1 = rule(p[1], by * g[1], m[1], v[1], decay, n)
                p2, m2, v2 = rule(p[2], by * g[2], m[2], v[2], decay, n)
                p3, m3, v3 = rule(p[3], by * g[3], m[3], v[3], decay, n)
                store4(theta + i, p0, p1, p2, p3)
                if states > 0:
                    store4(first + i, m0, m1, m2, m3)
                if states > 1:
                    store4(second + i, v0, v1, v2, v3)
            i += 4 * cuda.gridsize(1)
            if i < size:
                p, g, m, v = read(theta, grad, size, parts, first, second, i)
        total = block_sum(total, shared_memory(real, 32))
        if cuda.threadIdx.x == 0:
            global_at(penalties, real)[cuda.blockIdx.x] = total
        if arrivals != 0:
            if cuda.threadIdx.x == 0:
                last[0] = one if arrived_last(global_at(arrivals, np.uint32)) else zero
            cuda.syncthreads()
            if last[0] != zero:
                advance(t, l2, loss, mass, cuda.gridDim.x, global_at(penalties, real))

    return update


@device
def arrived_last(counter):
    """Whether all other blocks have called this; what they wrote before can then be read, and the counter is zero."""
    if atomic_add_release(counter, np.uint32(1)) + 1 < cuda.gridDim.x:
        return False
    load_acquire(counter, np.uint32(0))
    counter[0] = np.uint32(0)
    return True


@for_each_real
def advance_of(real):
    """Record the step's loss and the weight of its batch, and go on to the next step; one block."""
    step_on = _advance_of(real)

    @kernel(THREADS)
    def advance(table, reals, result, blocks, penalties):
        t, l2, outcome = global_at(table, np.int64), global_at(reals, real)[Real.L2], global_at(result, real)
        step_on(t, l2, outcome[0], outcome[1], blocks, global_at(penalties, real))

    return advance


@for_each_real
def clear_of(real):
    """Zeros from one element of a vector to another."""
    zero = real(0.0)

    @kernel(THREADS)
    def clear(vector, first, end):
        i = first + cuda.grid(1)
        if i < end:
            global_at(vector, real)[i] = zero

    return clear


class Operation(NamedTuple):
    """An operation of a step; `key` is that of its activation, `activates` false where the loss takes what goes in.

    `gradient_width`: of how many features of its input the gradient is wanted.
    """

    number: int
    record: np.ndarray
    n_in: int
    n_out: int
    key: object
    alpha: float
    activates: bool
    gradient_width: int


class Step:
    """A step as operations queue it.

    Parameters
    ----------
    plan : driver.Plan
        Its table, numbers and parameters are on the device.
    stream : stream or list
        Where it is queued.
    first : int
        Place of its first row; below zero for training, where the tables say it.

    Attributes
    ----------
    split : tuple of int
        How many parts of the gradient stand one behind the other, and elements of each.
    values, pres, deltas : list of Side
        Of each buffer: what it holds, what went into the activation that made it, the gradient with respect to it.
    """

    def __init__(self, plan, stream, first):
        self.plan, self.stream, self.first, self.real = plan, stream, first, plan.dtype.type
        self.count = plan["BATCH"] if first < 0 else min(plan["BATCH"], plan["ROWS"] - first)
        self.table = plan.address("table")
        places, widths = plan.schedule.buffers, plan.program.widths
        self.values, self.pres, self.deltas = (
            [Side(plan.within(at), width, 1) for at, width in zip(places[:, field], widths, strict=True)]
            for field in (Buffer.VALUE, Buffer.PRE, Buffer.DELTA)
        )
        command, stride = plan.command, plan["OUT_STRIDE"]
        if command & (OUTPUT | INPUT_BACKWARD):
            out = Side(plan.address("OUT") + first * stride * plan.dtype.itemsize, stride, 1)
            if command & OUTPUT:
                self.values[-1] = out
                if places[-1, Buffer.PRE] == places[-1, Buffer.VALUE]:
                    self.pres[-1] = out
            else:
                self.deltas[0] = out
        self.split = plan.schedule.parts, passed_over(plan)
        self.work = plan.within(plan.schedule.work_at), plan.schedule.work_size
        self.operations = [
            self._operation(i, operation, record)
            for i, (operation, record) in enumerate(zip(plan.program.operations, plan.records, strict=True))
        ]

    def _operation(self, number, operation, record):
        command, flags, activation = self.plan.command, record[Op.FLAGS], operation.activation
        wanted = command & INPUT_BACKWARD or not flags & FROM_ROWS
        return Operation(
            number,
            record,
            int(record[Op.N_IN]),
            int(record[Op.N_OUT]),
            None if activation is None else key_of(activation),
            operation.alpha,
            bool(command & OUTPUT or not flags & LOGITS),
            int(record[Op.N_IN]) if wanted else self.plan["VECTORS"] if flags & EXPANDED else 0,
        )

    def kind_of(self, number):
        """Name of the kind of an operation; None behind the last one."""
        operations = self.plan.program.operations
        return operations[number].name if number < len(operations) else None

    def parameter(self, at):
        """Address of a parameter."""
        return self.plan.address("parameters") + int(at) * self.plan.dtype.itemsize

    def gradient(self, at):
        """Address of what receives the gradient with respect to a parameter."""
        return self.plan.address("gradient") + int(at) * self.plan.dtype.itemsize

    def multiply(self, sizes, a, b, c, epilogue=PLAIN, *operands, **more):
        """Queue a product, as `matmul.multiply`."""
        multiply(self.real, self.stream, sizes, a, b, c, epilogue, *operands, precision=self.plan.precision, **more)

    @contextmanager
    def beside(self):
        """What is queued meanwhile may run beside the launch that follows it."""
        recorded = self.stream if isinstance(self.stream, list) else []
        first = len(recorded)
        yield
        for launch in recorded[first:]:
            launch.beside = True

    def queue_rows(self):
        """Find or gather the samples; gives (targets, (address, step) of the weights)."""
        plan, size, first = self.plan, self.plan.dtype.itemsize, self.first
        features, columns = plan.program.n_features, plan["Y_COLUMNS"]
        if not plan["SHUFFLE"] and not plan["ROW_INDEX"] and (first >= 0 or plan["ROWS"] == plan["BATCH"]):
            start, stride = max(first, 0), plan["X_STRIDE"]
            self.values[0] = Side(plan.address("X") + start * stride * size, stride, 1)
            y = Side(plan.address("Y") + start * columns * size, columns, 1) if plan["Y"] else NO_OPERAND
            return y, (plan.address("WEIGHTS") + start * size, 1) if plan["WEIGHTS"] else (0, 0)
        y, weights = (plan.within(at) for at in plan.schedule.picked_at)
        each = max(1, min(-(-plan["BATCH"] // (2 * processors())), MOST_DRAWN))
        shape, arguments = (-(-plan["BATCH"] // each), THREADS), (first, each, features, self.values[0].address)
        run(pick_of(self.real), shape, self.stream, self.table, *arguments, y, weights)
        return Side(y, columns, 1), (weights, 1)


def pass_over(size):
    """(blocks, threads) of a pass over a flat vector of parameters, four of them a thread at a time."""
    blocks, threads = line(size // 4)
    return min(blocks, ON_EACH * processors()), threads


def passed_over(plan):
    """How many parameters an update passes over: those of all table rows only where l2 acts on them."""
    return plan.program.size if plan.reals[Real.L2] != 0 else plan.program.dense_size


def goes_on(plan):
    """Whether the pass over the parameters ends a step: no rows of tables are updated after it."""
    return passed_over(plan) == plan.program.size


def queue_step(plan, stream, first=-1):
    """Queue a step of training, or the step of another command that begins with row `first`; as `Step` takes them."""
    step, command, result = Step(plan, stream, first), plan.command, plan.within(plan.schedule.result_at)
    y, weights = step.queue_rows()
    for operation in step.operations:
        module_of(plan, operation).queue_forward(step, operation)
    if command & LOSS:
        param, labels, key = step.real(plan.reals[Real.LOSS_PARAM]), plan["LABELS"] != 0, plan.structure.loss
        delta = step.deltas[-1] if command & BACKWARD else NO_OPERAND
        sizes = step.count, plan.program.outputs
        outputs, combines = (step.values[-1], y, labels, weights, delta, result), not command & UPDATE
        summed = queue_loss(step.real, stream, key, param, *sizes, *outputs, combines)
    if command & BACKWARD:
        for operation in reversed(step.operations):
            module_of(plan, operation).queue_backward(step, operation)
    if command & UPDATE:
        queue_update(plan, stream, step, summed)
    if command & LOSS and not (command & UPDATE and goes_on(plan)):
        blocks, penalties = pass_over(passed_over(plan))[0], plan.within(plan.schedule.penalties_at)
        run(advance_of(step.real), line(1), stream, step.table, plan.address("reals"), result, blocks, penalties)


def module_of(plan, operation):
    """The file of an operation's kind."""
    return operation_module(plan.program.operations[operation.number].name)


def queue_update(plan, stream, step=None, summed=0):
    """Queue the update of all parameters from the gradient on the device.

    Where a `step` is given and l2 is 0, its gradient has no table rows: those that it touched are updated from its
    deltas. Where none is, the gradient is all there is. `summed`: blocks of the loss whose sums are still to be added.
    """
    real, size, places = plan.dtype.type, passed_over(plan), plan.schedule
    squares, scale, result = (plan.within(at) for at in (places.squares_at, places.scale_at, places.result_at))
    table, reals, theta, grad = (plan.address(name) for name in ("table", "reals", "parameters", "gradient"))
    penalties, embedding, parts = plan.within(places.penalties_at), None, places.parts if step else 1
    if size < plan.program.size:
        embedding = operation_module(plan.program.embedding.name)
    if plan["CLIPS"]:
        clipped = plan.program.size if step is None else size
        shape = pass_over(clipped)
        run(clip_of(real), shape, stream, table, reals, theta, grad, clipped, parts, squares)
        parts = 1  # which are together now
        blocks = shape[0]
        if embedding and step:
            blocks += embedding.queue_squares(step, squares + blocks * plan.dtype.itemsize)
        run(scale_of(real), line(1), stream, reals, blocks, squares, scale)
    rule = plan.structure.rule
    arrivals = plan.address("counter") if step and goes_on(plan) else 0
    arguments = theta, grad, size, parts, scale, summed, result, penalties, arrivals
    run(update_of(real, rule), pass_over(size), stream, table, reals, *arguments)
    if embedding and step:
        embedding.queue_update(step, scale, result)
    elif embedding:
        embedding.queue_given(plan, stream, grad, scale, result)
    rows = size - plan.program.dense_size
    if step and rows > 0:  # the next step writes the gradients of those alone that it touches
        run(clear_of(real), line(rows), stream, grad, plan.program.dense_size, size)

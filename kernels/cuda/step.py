"""The loops of one block, of shards and of a grid: many steps of gather, forward, loss, backward, update in a launch.

One block is enough for a net so small that all of a step fits in its shared memory: parameters, batch and gradient stay
there from step to step, and a barrier takes some tens of cycles. Any number of such nets train in one launch, a block
each, by tables of their own. For a larger batch each of many blocks does the same with a shard of it, and all
parameters in its shared memory; its gradient is in global memory. Then it adds a part of all gradients, in the order of
the blocks, updates that part of the parameters, and reads all of them. A grid runs the phases on many multiprocessors,
with the workspace in global memory; threads that have no part in the loss gather the next samples meanwhile, and most
often a thread updates what it has made the gradient of. The blocks of shards and of a grid, all of them resident, wait
for one another at a counter.
All loops copy the tables of the run to shared memory first. What the phases of an operation would find anew in each
step, where its buffers stand and how its work is dealt, they find once for steps of as many samples (`phases.WORK`):
a phase of a small net would else spend most of its time on it. They allocate nothing, and leave a loss for each step on
the device.

t is the table of `driver.Plan`, r the reals; x (features, LD) with the samples of a step side by side; `turn` counts
what the counter must reach at the next barrier of a grid.
"""

from typing import Any, NamedTuple

import numpy as np

from ..program import KINDS
from ..randomness import DROPOUT, SHUFFLE
from ..tables import (
    BACKWARD,
    BY_NORM,
    DIVERGED,
    INPUT_BACKWARD,
    LOSS,
    OUTPUT,
    UPDATE,
    Buffer,
    Fields,
    Header,
    Op,
    Range,
    Real,
    Run,
    State,
)
from .loop_tiles import tiles_of
from .loop_updates import fours_of, passes_of
from .losses import sample_loss_of
from .phases import (
    AT_ONCE,
    FIRST,
    FOURS,
    PARTS,
    PASSES,
    WORK,
    Step,
    buffer_of,
    delta_of,
    divided,
    inverse_of,
    operation_module,
    padded_count,
    value_of,
)
from .primitives import (
    add4,
    atomic_add_release,
    await_copies,
    copy1_async,
    global_at,
    lane_of,
    load4,
    load_acquire,
    log2_of,
    opaque,
    quotient,
    shared_memory,
    sqrt,
    store4,
    turn_by_turn,
    viewed,
    warp_sum,
)
from .rng import half_bits, row_at, stream_key
from .toolchain import cuda, device, for_each_real, kernel
from .updates import FACTORS

# Of a block at most. An H100 (2026-11-27) took in one block, by 128, 256 and 512 threads, 14.7, 14.1 and 14.5 us a step
# of 2x16 by 32; in the loops of shards and of a grid a thread takes more than half of the registers of 512
THREADS = 256
# Blocks that a multiprocessor holds of many nets at once, by the bytes of an element: in float32 a thread then has 128
# registers and spills none; in float64 it takes 248, with an Embedding 222 (sm_90)
TOGETHER = {4: 2, 8: 1}
SUMS, WARPS = 4, THREADS >> 5  # sums over all threads in a step, each with a place for each warp
CLIP_TINY = 1e-6  # added to the norm of a gradient, as torch.nn.utils.clip_grad_norm_ has it


@device
def arrive_at(counter):
    """The first half of a barrier of the grid: what this block has written is there for those who pass it."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        atomic_add_release(counter, np.uint32(1))


@device
def pass_by(counter, turn):
    """The second half: all blocks have arrived; gives the next turn."""
    turn += cuda.gridDim.x
    if cuda.threadIdx.x == 0:
        while load_acquire(counter, np.uint32(0)) < turn:
            pass
    cuda.syncthreads()
    return turn


@device
def grid_barrier(counter, turn):
    """All threads of the grid wait for one another; gives the next turn."""
    arrive_at(counter)
    return pass_by(counter, turn)


class Batches(NamedTuple):
    """Those of an epoch: the position of the last one, rows from one to the next, samples of one and of the last."""

    last: int
    by: int
    size: int
    tail: int


class Samples(NamedTuple):
    """The samples of a step: the first one in its epoch, their number, the first and the number of the block's own."""

    first: int
    count: int
    at: int
    own: int


class Order(NamedTuple):
    """Which rows of the data a step takes: `first` of the epoch's order, and what `rng.row_at` draws that from.

    `rows`: where one block finds the numbers of the rows, each of which takes some hundred instructions to draw.
    """

    first: int
    key: int
    left_bits: int
    right_bits: int
    rows: Any


@for_each_real
def gather_of(real, whole_grid, copies):
    """The phases that find and gather samples and weights, and write results.

    `copies`: numbers may be copied to shared memory past the registers, so that nothing waits for them.
    """
    zero, past_registers = real(0.0), copies and real is np.float32 and not whole_grid

    @device
    def drawn(t, order, count, s):
        return row_at(t, order.key, order.first + min(s, count - 1), order.left_bits, order.right_bits)

    @device
    def draw(t, order, count):
        """Find the rows of a step, once each, by the last threads, which often have no other work.

        The last row fills the last four samples.
        """
        if not whole_grid:
            s, end = np.int32(cuda.blockDim.x - 1 - cuda.threadIdx.x), np.int32((count + 3) & ~3)
            while s < end:
                turn_by_turn()
                order.rows[s] = drawn(t, order, count, s)
                s = np.int32(s + cuda.blockDim.x)

    @device
    def row_of(step, order, s):
        """The row of sample s; a barrier of a grid takes longer than to draw it anew."""
        return drawn(step.table, order, step.count, s) if whole_grid else order.rows[s]

    @device
    def gather(step, features, of_features, order):
        """Copy the rows of the step to buffer 0, where they are after `await_rows` and a barrier."""
        t, out, item, end = step.table, value_of(step, 0), step.thread, np.int32(padded_count(step) * features)
        if item >= end:
            return
        ld, stride, x = np.int32(t[Run.LD]), t[Run.X_STRIDE], global_at(t[Run.X], real)
        while item < end:
            turn_by_turn()
            s, i = divided(item, features, of_features)
            to, source = out + np.int32(i * ld + s), x + (row_of(step, order, s) * stride + i)
            if past_registers:
                copy1_async(to, source, True)
            else:
                to[0] = source[0]
            item = np.int32(item + step.threads)

    @device
    def await_rows():
        """Until the rows that this thread has gathered are there."""
        if past_registers:
            await_copies()

    @device
    def weigh(step, order):
        """A thread's share of the sum of the step's weights."""
        t, summed, s = step.table, zero, step.thread
        weights = global_at(t[Run.WEIGHTS], real)
        while s < step.count:
            summed += weights[row_of(step, order, s)]
            s = np.int32(s + step.threads)
        return summed

    @device
    def write_out(step, x, features, first):
        """The samples to the rows of the result."""
        t, item = step.table, step.thread
        out = global_at(t[Run.OUT], real)
        while item < step.count * features:
            s = quotient(item, features)
            i = item - s * features
            out[(first + s) * t[Run.OUT_STRIDE] + i] = x[i * t[Run.LD] + s]
            item += step.threads

    return draw, row_of, gather, await_rows, weigh, write_out


# What the loss of a step needs, behind the work of the operations. FOLD: by how many bits threads share a sample's
# outputs. WARPS: how many have a share of it. From JOBS on: in which part of a gradient each warp of a block has its
# first items, all parts counted, and whether it has no others.
LossWork = Fields("LossWork", "FOLD N_OUT LD PADDED A DELTA COLUMNS LABELS WARPS JOBS")


@for_each_real
def loss_of_step(real, whole_grid, structure, row_of):
    """(prepare, loss) of a step.

    prepare(step, last, work) fills the LossWork. loss gives a warp's share of the sum of w * loss, in its first lane;
    where a gradient is wanted, also that with respect to the outputs. share: 1 / mass.
    """
    loss_of, wanted = sample_loss_of(real, structure.loss), structure.command & BACKWARD != 0
    zero, one, fold_of, double = real(0.0), real(1.0), tiles_of(real).fold_of, real is np.float64

    @device
    def prepare(step, last, work):
        t, padded, n_out, made = step.table, np.int32(padded_count(step)), np.int32(last[Op.N_OUT]), last[Op.OUTPUT]
        # two outputs each; in a grid of float64 the sums of lanes take more registers than a thread has
        fold = np.int32(0) if whole_grid and double else fold_of(step.threads, padded, np.int32(n_out << 1))
        work[LossWork.FOLD], work[LossWork.N_OUT], work[LossWork.PADDED] = fold, n_out, padded
        work[LossWork.WARPS] = min(np.int32(((padded << fold) + 31) >> 5), np.int32(step.threads >> 5))
        work[LossWork.LD], work[LossWork.A] = np.int32(t[Run.LD]), np.int32(buffer_of(step, made)[Buffer.VALUE])
        work[LossWork.DELTA] = np.int32(buffer_of(step, made)[Buffer.DELTA])
        work[LossWork.COLUMNS], work[LossWork.LABELS] = np.int32(t[Run.Y_COLUMNS]), np.int32(t[Run.LABELS])

    @device
    def loss(step, work, order, mass, share):
        t, summed = step.table, zero
        fold, n_out, ld, padded = load4(work)
        a_at, delta_at, columns, labels = load4(work + LossWork.A)
        # neighbouring lanes share a sample; all lanes of a warp that has one take part
        lanes, s = np.int32(1 << fold), np.int32(step.thread >> fold)
        lane = np.int32(step.thread & (lanes - 1))
        if np.int32((step.thread & ~31) >> fold) >= padded:
            return summed
        shared = fold > 0
        a, delta = step.workspace + a_at, step.workspace + delta_at
        y, weights, weighs = global_at(t[Run.Y], real), global_at(t[Run.WEIGHTS], real), t[Run.WEIGHTS] != 0
        param = step.reals[Real.LOSS_PARAM]
        while s < padded or shared:
            inside, sample = s < step.count, min(s, np.int32(step.count - 1))
            row = row_of(step, order, sample)
            weight = weights[row] if weighs else one
            factor = weight / mass if weighs else share
            target, d, write = y + row * columns, delta + sample, wanted and inside
            value = loss_of(param, n_out, a + sample, ld, target, 1, labels != 0, write, factor, d, ld, lane, lanes)
            if inside and lane == 0:
                summed += value * weight
            if wanted and not inside and s < padded:
                j = lane
                while j < n_out:
                    delta[j * ld + s] = zero
                    j = np.int32(j + lanes)
            s, shared = np.int32(s + step.threads), False
        return warp_sum(summed)

    return prepare, loss


@for_each_real
def exchange_of(real):
    """What the blocks of shards tell one another, by global memory; `told`: a number of each block."""
    zero = real(0.0)

    @device
    def tell(value, told):
        """A number of this block, to where the others find it."""
        if cuda.threadIdx.x == 0:
            told[cuda.blockIdx.x] = value

    @device
    def heard(told):
        """The sum of what all blocks have told, the same bits in all."""
        value, block = zero, np.int32(cuda.threadIdx.x & 31)
        while block < cuda.gridDim.x:
            value += told[block]
            block = np.int32(block + 32)
        return warp_sum(value)

    @device
    def agreed(value, told, counter, turn):
        """The sum of a number of each block, the same bits in all; and the next turn."""
        tell(value, told)
        turn = grid_barrier(counter, turn)
        return heard(told), turn

    @device
    def fold_for(size):
        """By how many bits lanes share the sum of four numbers of all blocks."""
        most = min(quotient(cuda.gridsize(1), max((size + 3) >> 2, 1)), cuda.gridDim.x, 32)
        return log2_of(max(np.int32(most), np.int32(1)))

    @device
    def four_of(at, step):
        """Four numbers of each of four blocks."""
        return load4(at), load4(at + step), load4(at + 2 * step), load4(at + 3 * step)

    @device
    def plus4(sums, parts):
        p, q, r, s = parts
        return add4(add4(sums, p), add4(add4(q, r), s))

    @device
    def collect(exchange, size, blocks, fold):
        """Sum the gradients of blocks, in their order, to the place of the first one; the first lanes do the update."""
        thread = np.int32(cuda.grid(1))
        lanes, end = np.int32(1 << fold), np.int32(size)
        by, step, lane = np.int32(cuda.gridsize(1) >> fold << 2), lanes * size, np.int32(thread & (lanes - 1))
        i, first = np.int32(thread >> fold << 2), np.int32((thread & ~31) >> fold << 2)
        while first < end:  # all lanes of a warp that has a number take part
            turn_by_turn()
            sums, k, mask = (zero, zero, zero, zero), lane if i < end else blocks, np.int32(1)
            at = exchange + (lane * size + i)
            while k + 7 * lanes < blocks:  # eight, then four at a time: the reads of all are on their way
                turn_by_turn()
                first4, second4 = four_of(at, step), four_of(at + 4 * step, step)
                sums, k, at = plus4(plus4(sums, first4), second4), np.int32(k + 8 * lanes), at + 8 * step
            while k + 3 * lanes < blocks:
                turn_by_turn()
                sums, k, at = plus4(sums, four_of(at, step)), np.int32(k + 4 * lanes), at + 4 * step
            while k < blocks:
                turn_by_turn()
                sums, k, at = add4(sums, load4(at)), np.int32(k + lanes), at + step
            while mask < lanes:
                turn_by_turn()
                a, b, c, d = sums
                sums = add4(sums, (lane_of(a, mask), lane_of(b, mask), lane_of(c, mask), lane_of(d, mask)))
                mask = np.int32(2 * mask)
            if lane == 0 and i < end:
                store4(exchange + i, sums[0], sums[1], sums[2], sums[3])
            i, first = np.int32(i + by), np.int32(first + by)

    return tell, heard, agreed, fold_for, collect


@for_each_real
def phases_of(real, whole_grid, structure):
    """(forward, backward, gradient, items, prepare, rows, wait): the phases of all kinds of operations of a program.

    forward and backward take (step, op, work, counter, turn), let all threads wait where something was written, and
    give the next turn. rows: of the operation that has parameters by touched rows, None where there is none.
    """

    @device
    def wait(counter, turn):
        if whole_grid:
            return grid_barrier(counter, turn)
        cuda.syncthreads()
        return turn

    @device
    def nothing(step, op, work, counter, turn):
        return turn

    @device
    def no_work(step, op, work):
        pass

    @device
    def no_items(step, op):
        return np.int32(0)

    def followed(phase, rest):
        @device
        def row(step, op, work, counter, turn):
            if phase(step, op, work):
                turn = wait(counter, turn)
            return rest(step, op, work, counter, turn)

        return row

    def row_of(phases):
        made = nothing
        for phase in reversed(phases):
            made = followed(phase, made)
        return made

    def chosen(kind, this, other):
        if this is None or other is None:
            return this or other

        @device
        def of_kind(step, op, *more):
            return this(step, op, *more) if opaque(op[Op.KIND]) == kind else other(step, op, *more)

        return of_kind

    forward = backward = prepare = rows = None
    gradient, items = [None] * PARTS, [None] * PARTS
    for kind, name in enumerate(each.name for each in KINDS):
        if name in structure.kinds:
            phases = operation_module(name).loop_of(real, structure)
            forward = chosen(kind, row_of(phases.forward), forward)
            backward = chosen(kind, row_of(phases.backward), backward)
            for part in range(PARTS):
                own = phases.gradient[part] if part < len(phases.gradient) else (no_items, no_work)
                items[part], gradient[part] = chosen(kind, own[0], items[part]), chosen(kind, own[1], gradient[part])
            prepare = chosen(kind, phases.prepare or no_work, prepare)
            rows = phases.rows or rows
    return forward, backward, gradient, items, prepare, rows, wait


@for_each_real
def sums_of(real, whole_grid, wait):
    """(leave, lanes_share, gathered, total): sums over all threads, of what each warp leaves in a place of its own."""
    zero = real(0.0)

    @device
    def leave(value, sums, thread):
        """A warp's share of a sum, of its first lane, to where `gathered` finds it behind a barrier."""
        if thread & 31 == 0:
            sums[thread >> 5] = value

    @device
    def lanes_share(sums, thread, warps):
        """A lane's share of the sum of what so many warps have left; nobody waits for it yet."""
        value, warp = zero, np.int32(thread & 31)
        while warp < warps:
            value += sums[warp]
            warp = np.int32(warp + 32)
        return value

    @device
    def gathered(sums, thread, warps):
        """Sum of what so many warps have left, the same bits in each thread."""
        if not whole_grid:  # WARPS numbers, zero for warps that are not there
            (a, b, c, d), (e, f, g, h) = load4(sums), load4(sums + 4)
            return ((a + e) + (c + g)) + ((b + f) + (d + h))
        return warp_sum(lanes_share(sums, thread, warps))

    @device
    def total(value, sums, thread, threads, counter, turn):
        """Sum over all threads, the same bits in each; and the next turn."""
        leave(warp_sum(value), sums, thread)
        turn = wait(counter, turn)
        return gathered(sums, thread, np.int32(threads >> 5)), turn

    return leave, lanes_share, gathered, total


@device
def one_range(ranges, size):
    """Make one range of all: then an update passes over them at once. What stands between the ranges is zero."""
    ranges[Range.OFFSET], ranges[Range.ROWS], ranges[Range.COLUMNS], ranges[Range.DECAYS] = 0, 1, size, 0


@device
def batches_of(t):
    """The `Batches` of an epoch; one that is open takes the same rows in each step, and does not end."""
    rows, batch = t[Run.ROWS], t[Run.BATCH]
    whole = np.int32(min(batch, rows))
    if t[Run.OPEN_EPOCH] != 0:
        return Batches(np.int32(0x7FFFFFFF), np.int64(0), whole, whole)
    last = (rows - 1) // batch
    return Batches(np.int32(last), batch, whole, np.int32(rows - last * batch))


@device
def keys_of(state, epoch):
    """What an epoch draws the order of its rows from, and what its masks."""
    return stream_key(state[State.SEED], SHUFFLE, epoch), stream_key(state[State.SEED], DROPOUT, epoch)


@for_each_real
def run_of(real, loop, structure, copies):
    """The kernel for one dtype of a loop, "block", "shards" or "grid", and of what a program and a run use.

    `copies`: for a GPU that copies past the registers.
    """
    whole_grid, shards, structure = loop == "grid", loop == "shards", structure._replace(loop=loop)
    command, zero, one, tiny = structure.command, real(0.0), real(1.0), real(CLIP_TINY)
    draw, row_of, gather, await_rows, weigh, write_out = gather_of(real, whole_grid, copies)
    forward, backward, gradient, items, prepare, of_rows, wait = phases_of(real, whole_grid, structure)
    (first_gradient, second_gradient), (first_items, second_items) = gradient, items
    has_loss, has_backward, updates = command & LOSS != 0, command & BACKWARD != 0, command & UPDATE != 0
    has_output, has_input_gradient = command & OUTPUT != 0, command & INPUT_BACKWARD != 0
    prepare_loss, loss = loss_of_step(real, whole_grid, structure, row_of) if has_loss else (None, None)
    penalty, clip, update = passes_of(real, structure.rule) if updates else (None, None, None)
    moments, update_fours, keep_moments = fours_of(real, structure.rule) if updates else (None, None, None)
    by_rows, passes = of_rows is not None, structure.update == PASSES
    in_fours, at_once = structure.update == FOURS, structure.update == AT_ONCE
    # the next samples are gathered beside the update; but rows of tables are updated by the codes of these. In a grid,
    # beside the loss, which leaves most threads without work: there the samples of every second step stand elsewhere
    beside_loss, beside_update = whole_grid and has_loss, updates and not whole_grid and not by_rows
    gathers_ahead = beside_loss or beside_update
    leave, lanes_share, gathered, total = sums_of(real, whole_grid, wait)
    tell, heard, agreed, fold_for, collect = exchange_of(real)

    @device
    def held(source, length, shared):
        """(table, reals) in shared memory: a copy of the table, behind it of its program, then of the reals."""
        t, thread, threads = viewed(shared, np.int64), cuda.threadIdx.x, cuda.blockDim.x
        program, reals = source + source[Run.PROGRAM], global_at(source[Run.REALS], real)
        end = length + program[Header.RANGES_AT] + Range.SIZE * program[Header.RANGES]
        r, i, end_of_reals = viewed(t + end, real), thread, Real.ALPHAS + program[Header.OPERATIONS]
        while i < end:
            if i != Run.STATUS and i != Run.FINISHED:  # which a block that is ahead may write meanwhile
                t[i] = program[i - length] if i >= length else length if i == Run.PROGRAM else source[i]
            i += threads
        i = thread
        while i < end_of_reals:
            r[i] = reals[i]
            i += threads
        cuda.syncthreads()
        return t, r

    @device
    def places(shared, scratch, master, theta_at):
        """(workspace, parameters): one block has both in its shared memory, a grid in global memory."""
        if whole_grid:
            return scratch, master
        return shared, shared + theta_at

    @device
    def gradients_at(own, scratch, size):
        """Where a block has its gradient: one of shards where the others find it."""
        return scratch + cuda.blockIdx.x * size if shards else own

    @device
    def clear(vector, size, thread, threads):
        """Zeros, a multiple of four."""
        i = np.int32(4 * thread)
        while i < np.int32(size):
            turn_by_turn()
            store4(vector + i, zero, zero, zero, zero)
            i = np.int32(i + 4 * threads)

    @device
    def copy(source, target, size, thread, threads):
        """Of a multiple of four; four reads of four are on their way at a time."""
        i, by, end = np.int32(4 * thread), np.int32(4 * threads), np.int32(size)
        while i + 3 * by < end:
            turn_by_turn()
            a, b = load4(source + i), load4(source + np.int32(i + by))
            c, d = load4(source + np.int32(i + 2 * by)), load4(source + np.int32(i + 3 * by))
            store4(target + i, a[0], a[1], a[2], a[3])
            store4(target + np.int32(i + by), b[0], b[1], b[2], b[3])
            store4(target + np.int32(i + 2 * by), c[0], c[1], c[2], c[3])
            store4(target + np.int32(i + 3 * by), d[0], d[1], d[2], d[3])
            i = np.int32(i + 4 * by)
        while i < end:
            turn_by_turn()
            a, b, c, d = load4(source + i)
            store4(target + i, a, b, c, d)
            i = np.int32(i + by)

    @device
    def samples_of(batches, position, shard):
        """The samples of the step at a position of the epoch."""
        first, at = np.int64(position) * batches.by, np.int32(0)
        count = batches.tail if position == batches.last else batches.size
        if not shards:
            return Samples(first, count, at, count)
        at = min(np.int32(shard * cuda.blockIdx.x), count)
        return Samples(first, count, at, min(np.int32(shard), np.int32(count - at)))

    @device
    def not_finite(values, size, thread, threads):
        """One if a thread's share of the values holds NaN or an infinity, else zero."""
        found, i = zero, thread
        while i < size:
            if values[i] - values[i] != zero:
                found = one
            i += threads
        return found

    @device
    def share_of(step, master, scratch, fold):
        """The step as the update of shards sees it: each first lane of some has what it has collected."""
        thread, threads, size = np.int32(cuda.grid(1)), np.int32(cuda.gridsize(1)) >> fold, step.size
        item = thread >> fold if thread & ((1 << fold) - 1) == 0 else size  # beyond the end
        t, r, count, seen, key = step.table, step.reals, step.count, step.seen, step.mask_key
        item, threads, one_part = np.int32(item), np.int32(threads), np.int32(1)
        workspace, factors = step.workspace, step.factors
        return Step(t, r, master, scratch, workspace, item, threads, count, seen, key, one_part, size, factors)

    @device
    def turned(step, by):
        """The step elsewhere in the workspace, its threads the other way round."""
        t, r, theta, grad, workspace = step.table, step.reals, step.parameters, step.gradients, step.workspace + by
        thread, threads, count = np.int32(step.threads - 1 - step.thread), step.threads, step.count
        seen, key, parts, size = step.seen, step.mask_key, step.parts, step.size
        return Step(t, r, theta, grad, workspace, thread, threads, count, seen, key, parts, size, step.factors)

    @device
    def combine(grad, whole, ranges, count, parts, size, thread, threads):
        """The sum of the parts of a gradient."""
        for index in range(count):
            part = ranges + Range.SIZE * index
            i, end = part[Range.OFFSET] + thread, part[Range.OFFSET] + part[Range.ROWS] * part[Range.COLUMNS]
            while i < end:
                g = zero
                for k in range(parts):
                    g += grad[k * size + i]
                whole[i] = g
                i += threads

    @device
    def deal_gradients(step, operations, works, end):
        """Give each part of a gradient the thread that takes its first item, the first one of a warp; by one thread.

        The first parts of all operations come first. Where no thread has more than one item, a warp has those of one
        part, and looks up which.
        """
        first, job, warp, jobs = 0, np.int32(0), np.int32(0), works + (WORK * end + LossWork.JOBS)
        ahead = cuda.blockIdx.x * cuda.blockDim.x if whole_grid else 0
        while job < PARTS * end:
            second = job >= end
            index = np.int32(job - end if second else job)
            op = operations + Op.SIZE * index
            items = second_items(step, op) if second else first_items(step, op)
            at = WORK * index + (FIRST + 1 if second else FIRST)
            works[at] = np.int32(first - quotient(first, step.threads) * step.threads)
            first = (first + items + 31) & ~31
            while warp < WARPS and 32 * warp < first - ahead:
                jobs[warp] = job
                warp = np.int32(warp + 1)
            job = np.int32(job + 1)
        once = first <= step.threads and not by_rows
        for other in range(WARPS):
            if not once or other >= warp:
                jobs[other] = np.int32(PARTS * end if once else 0)
        jobs[WARPS] = np.int32(once)

    @device
    def prepare_all(step, operations, works, end):
        """Fill the work of all operations, a thread each, for steps of as many samples."""
        index = np.int32(cuda.threadIdx.x)
        cuda.syncthreads()  # the step before may still use it
        if has_loss and index == end:
            prepare_loss(step, operations + Op.SIZE * (end - 1), works + WORK * end)
        if has_backward and index == 0:
            deal_gradients(step, operations, works, end)
        while index < end:
            prepare(step, operations + Op.SIZE * index, works + WORK * index)
            index = np.int32(index + cuda.blockDim.x)
        cuda.syncthreads()

    @device
    def forward_pass(step, operations, works, begin, end, counter, turn):
        index = begin
        while index < end:
            turn_by_turn()
            turn = forward(step, operations + Op.SIZE * index, works + WORK * index, counter, turn)
            index = np.int32(index + 1)
        return turn

    @device
    def backward_pass(step, operations, works, end, counter, turn):
        """The gradients with respect to what the operations take."""
        index = end
        while index > 0:
            turn_by_turn()
            index = np.int32(index - 1)
            turn = backward(step, operations + Op.SIZE * index, works + WORK * index, counter, turn)
        return turn

    @device
    def gradient_pass(step, operations, works, end):
        """The parts of the gradient, or the update of the parameters by it."""
        jobs = works + (WORK * end + LossWork.JOBS)
        job = jobs[cuda.threadIdx.x >> 5]
        once = jobs[WARPS] != 0
        while job < PARTS * end:
            turn_by_turn()
            if job < end:
                first_gradient(step, operations + Op.SIZE * job, works + WORK * job)
            else:
                index = np.int32(job - end)
                second_gradient(step, operations + Op.SIZE * index, works + WORK * index)
            job = np.int32(PARTS * end if once else job + 1)

    @device
    def update_after_passes(step, op, ranges, count, clips, sums, told, counter, turn):
        """Clip the gradient and update the parameters; `op` is the operation by touched rows."""
        clips, scale, parts = opaque(clips), one, step.parts
        if by_rows:
            if step.reals[Real.L2] != zero:
                of_rows.collect(step, op)
                turn = wait(counter, turn)
        if clips != 0:
            squares, parts = clip(step, ranges, count), np.int32(1)
            if clips & BY_NORM != 0:
                if by_rows:
                    squares += of_rows.squares(step, op)
                if shards:
                    squares, turn = total(squares, sums, cuda.threadIdx.x, cuda.blockDim.x, counter, turn)
                    squares, turn = agreed(squares, told, counter, turn)
                else:
                    squares, turn = total(squares, sums, step.thread, step.threads, counter, turn)
                scale = min(one, step.reals[Real.CLIP_NORM] / (sqrt(squares) + tiny))
        # each thread updates what it clipped
        update(step, ranges, count, parts, scale, clips & BY_NORM != 0)
        if by_rows:
            of_rows.update(step, op, scale)
            turn = wait(counter, turn)  # the codes of the samples name the rows
        return turn

    together = 1 if loop != "block" or by_rows else TOGETHER[np.dtype(real).itemsize]

    @kernel(THREADS, min_blocks_per_sm=together)
    def run(tables, length, tables_size, theta_at, grad_at, parts, sums_at, rows_at, second_at, shard, arrivals):
        source, shared = global_at(tables, np.int64), opaque(shared_memory(real, 0))
        thread, threads = np.int32(cuda.grid(1)), np.int32(cuda.gridsize(1))
        counter, turn, leads = global_at(arrivals, np.uint32), np.int64(0), thread == 0
        if not whole_grid:
            thread, threads = np.int32(cuda.threadIdx.x), np.int32(cuda.blockDim.x)
        if not whole_grid and not shards:  # a net for each block
            source, leads = source + length * cuda.blockIdx.x, thread == 0
        t, r = held(source, length, shared)
        master, scratch = global_at(t[Run.PARAMETERS], real), global_at(t[Run.SCRATCH], real)
        factors, out = global_at(t[Run.RATES], real), global_at(t[Run.LOSSES], real)
        program, state = t + t[Run.PROGRAM], t + t[Run.STATE]
        operations, end = program + program[Header.OPERATIONS_AT], np.int32(program[Header.OPERATIONS])
        works = viewed(shared + tables_size, np.int32) + -WORK * (end + 1)
        ranges, count_ranges = program + program[Header.RANGES_AT], np.int32(program[Header.RANGES])
        size, whole_size, all_parts = program[Header.DENSE], program[Header.PARAMETERS], np.int32(parts)
        last, table_op = operations + Op.SIZE * (end - 1), operations
        workspace, theta = places(shared + tables_size, scratch, master, theta_at)
        told, fold = scratch + size * cuda.gridDim.x, fold_for(size) if shards else np.int32(0)
        grad = gradients_at(workspace + grad_at, scratch, size)
        sums, warps = opaque(workspace + sums_at), threads >> 5 if whole_grid else WARPS
        weighs, penalises = np.int32(t[Run.WEIGHTS] != 0), np.int32(r[Real.L2] != zero)
        clips = np.int32(t[Run.CLIPS])
        steps, batches, finished, fine = t[Run.STEPS], batches_of(t), np.int64(0), True
        sharing = np.int32(quotient(batches.size + shard - 1, max(shard, 1)))  # blocks that have samples
        epoch, position = state[State.EPOCH], np.int32(state[State.POSITION])
        left_bits, right_bits = half_bits(t[Run.ROWS])
        # a batch of all rows in their order is gathered only once, and stays as the first operations left it
        stays, head = t[Run.BATCH] >= t[Run.ROWS] and t[Run.KEEPS_ROWS] != 0, 0
        while operations[Op.SIZE * head + Op.RANGES] == 0:
            head += 1
        if by_rows:  # its ranges come first: no operation before it has any
            table_op = operations + Op.SIZE * head
            ranges = ranges + Range.SIZE * table_op[Op.RANGES]
            count_ranges = np.int32(count_ranges - table_op[Op.RANGES])
        if not whole_grid:
            copy(master, theta, size, thread, threads)
            clear(sums, SUMS * WARPS, thread, threads)
        if has_backward and not at_once:
            clear(grad, parts * size, thread, threads)
            if not in_fours and r[Real.L2] == zero and count_ranges > 0:
                count_ranges = np.int32(1)
                if cuda.threadIdx.x == 0:
                    one_range(ranges, size)
        key, mask_key = keys_of(state, epoch)
        # rows of a step, and of the next one
        kept, half = viewed(workspace + rows_at, np.int64), 0 if stays else (shard + 3) & ~3
        second = 0 if stays else second_at  # from the workspace of a step to that of every second one
        samples, counted, share = samples_of(batches, position, shard), np.int32(-1), zero
        features = np.int32(program[Header.FEATURES])
        of_features = inverse_of(features)
        if steps > 0:
            draw(t, Order(samples.first + samples.at, key, left_bits, right_bits, kept), samples.own)
        cuda.syncthreads()
        step = Step(t, r, theta, grad, workspace, thread, threads, samples.own, 0, mask_key, all_parts, size, factors)
        m = v = zero, zero, zero, zero
        if in_fours:
            m, v = moments(share_of(step, master, scratch, fold) if shards else step)
        while finished < steps and fine:
            (first, count, at, own), begin = samples, np.int32(head)
            seen, numbers, place = t[Run.SEEN] + first + at, factors + FACTORS * finished, workspace
            if whole_grid:
                place = place + second * (finished & 1)
            step = Step(t, r, theta, grad, place, thread, threads, own, seen, mask_key, all_parts, size, numbers)
            if count != counted:  # all wait for one another before they use it
                prepare_all(step, operations, works, end)
                counted, share = count, one / real(count)
            order = Order(first + at, key, left_bits, right_bits, kept + half * (finished & 1))
            if finished == 0 or opaque(stays) == 0:
                if not gathers_ahead or finished == 0:
                    gather(step, features, of_features, order)
                begin = np.int32(0)
            await_rows()
            mass, value = real(count), zero
            if has_loss and opaque(weighs) != 0:
                mass = weigh(step, order)
                mass, turn = total(mass, sums, thread, threads, counter, turn)
                if shards:
                    mass, turn = agreed(mass, told, counter, turn)
            else:
                turn = wait(counter, turn)
            wanted, others = half > 0 and finished + 1 < steps, kept + half * (finished + 1 & 1)
            after, its_epoch, next_key, next_mask_key = np.int32(position + 1), epoch, key, mask_key
            if position == batches.last:
                after, its_epoch = np.int32(0), epoch + 1
                next_key, next_mask_key = keys_of(state, its_epoch)
            samples = samples_of(batches, after, shard)
            coming = Order(samples.first + samples.at, next_key, left_bits, right_bits, others)
            then = Step(
                t, r, theta, grad, workspace, thread, threads, samples.own, seen, mask_key, all_parts, size, numbers
            )
            if not has_backward and wanted:
                draw(t, coming, samples.own)
            turn = forward_pass(step, operations, works, begin, end, counter, turn)
            if has_output:
                write_out(step, value_of(step, last[Op.OUTPUT]), last[Op.N_OUT], first)
            if has_loss:
                leave(loss(step, works + WORK * end, order, mass, share), sums + warps, thread)
                if beside_loss and wanted:  # by the last threads, which have no part in the loss
                    gather(turned(then, second * (finished + 1 & 1)), features, of_features, coming)
                turn = wait(counter, turn)
                left = (works + WORK * end)[LossWork.WARPS]
                if at_once:
                    value = lanes_share(sums + warps, thread, left)
                if has_backward:  # nobody needs the loss before it
                    turn = backward_pass(step, operations, works, end, counter, turn)
                    if has_input_gradient:
                        write_out(step, delta_of(step, 0), operations[Op.N_IN], first)
                    if wanted:
                        draw(t, coming, samples.own)
                if at_once:
                    value = warp_sum(value)
                    if mass > zero and value - value == zero:
                        gradient_pass(step, operations, works, end)
                else:
                    if has_backward:
                        gradient_pass(step, operations, works, end)
                        turn = wait(counter, turn)
                    value = gathered(sums + warps, thread, left)
                if shards:  # the loss of the others comes with their gradients
                    tell(value, told + cuda.gridDim.x)
                    arrive_at(counter)
            if beside_update and wanted:
                gather(then, features, of_features, coming)
            if has_loss:
                if shards:
                    turn = pass_by(counter, turn)
                    collect(scratch, size, sharing, fold)
                    value = heard(told + cuda.gridDim.x)
                if leads:
                    out[2 * finished] = value / mass
                    out[2 * finished + 1] = mass
            if passes:
                if opaque(penalises) != 0:
                    extra = penalty(step, ranges, count_ranges)
                    if by_rows:
                        extra += of_rows.penalty(step)
                    extra, turn = total(extra, sums + 2 * warps, thread, threads, counter, turn)
                    value += extra  # which must be finite, too
                    if leads:
                        out[2 * finished] += extra
            changes = mass > zero  # a batch whose weights are all zero is no step
            if updates and changes:
                fine = value - value == zero
            if passes or in_fours:
                if changes and fine:
                    its = share_of(step, master, scratch, fold) if shards else step
                    if in_fours:
                        m, v = update_fours(its, m, v)
                    else:
                        own_sums, squares = sums + 3 * warps, told + 2 * cuda.gridDim.x
                        turn = update_after_passes(
                            its, table_op, ranges, count_ranges, clips, own_sums, squares, counter, turn
                        )
                    if shards:
                        turn = grid_barrier(counter, turn)
                        if cuda.blockIdx.x < sharing:
                            copy(master, theta, size, thread, threads)
                elif shards:  # what was told is read before it is written anew
                    turn = grid_barrier(counter, turn)
            if fine:
                finished, position, epoch = finished + 1, after, its_epoch
                key, mask_key = next_key, next_mask_key
        if leads:
            source[Run.FINISHED] = finished
        if in_fours:
            keep_moments(share_of(step, master, scratch, fold) if shards else step, m, v)
        if updates:
            turn = wait(counter, turn)
            wrong = not_finite(theta, size, thread, threads)
            if by_rows:
                wrong += not_finite(master + size, whole_size - size, thread, threads)
            wrong, turn = total(wrong, sums, thread, threads, counter, turn)
            if leads and wrong != zero:
                source[Run.STATUS] = DIVERGED
        if updates and not whole_grid and not shards:
            copy(theta, master, size, thread, threads)
        if has_backward and not updates:
            whole = global_at(t[Run.GRADIENTS], real)
            combine(grad, whole, ranges, count_ranges, parts, size, thread, threads)
            if by_rows:
                of_rows.collect(step, table_op)

    return run

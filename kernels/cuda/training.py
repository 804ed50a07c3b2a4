"""The loop: many steps of gather, forward, loss, backward and update in one launch.

One block is enough for a net so small that all of a step fits in its shared memory: parameters, batch, deltas and
gradient stay there from step to step, and its threads meet in some tens of cycles. A grid runs the same phases on many
multiprocessors, in global memory; its blocks, all of them resident, meet by a counter. Both read the plan's tables,
allocate nothing, and leave a loss for each step on the device.
"""

import numpy as np

from .. import plan
from ..formulas import ADAM, LINEAR, RMSPROP, SGD, SOFTMAX
from ..randomness import DROPOUT, SHUFFLE
from .passes import passes_of
from .primitives import atomic_add_release, global_at, load_acquire, opaque, shared_memory, sqrt, warp_sum
from .rng import half_bits, stream_key
from .toolchain import cuda, device, for_each_real, kernel
from .updates import any_rule_of

THREADS = 256  # of a block at most: more would leave a thread too few registers
SUMS = 4  # sums that all threads make together in a step, each in space of its own: an element for each warp
CLIP_TINY = 1e-6  # added to the norm of a gradient, as torch.nn.utils.clip_grad_norm_ has it
FACTORS = 3  # numbers of each step that the host computes: rate, shrink and root correction of Adam's formula


@device
def meet(counter, turn):
    """All threads of the grid wait for one another; gives the number of the next turn."""
    cuda.syncthreads()
    turn += cuda.gridDim.x
    if cuda.threadIdx.x == 0:
        atomic_add_release(counter, np.uint32(1))
        while load_acquire(counter, np.uint32(0)) < turn:
            pass
    cuda.syncthreads()
    return turn


@for_each_real
def run_of(real, whole_grid, own=(), own_loss=None):
    """The kernel for one dtype: by one block, or by the whole grid; and for the user's functions, as `passes_of`."""
    passes, rule = passes_of(real, own, own_loss), any_rule_of(real)
    gather, forward, loss, weight = passes.gather, passes.forward, passes.loss, passes.weight
    backward, gradient, softmax, write_out = passes.backward, passes.gradient, passes.softmax, passes.write_out
    zero, half, one = real(0.0), real(0.5), real(1.0)
    tiny = real(CLIP_TINY)

    @device
    def wait(counter, turn):
        if whole_grid:
            return meet(counter, turn)
        cuda.syncthreads()
        return turn

    @device
    def total(value, sums, thread, threads, counter, turn):
        """Sum over all threads, the same bits in each; and the next turn."""
        value, lane = warp_sum(value), thread & 31
        if lane == 0:
            sums[thread >> 5] = value
        turn = wait(counter, turn)
        value, warp = zero, lane
        while warp < threads >> 5:
            value += sums[warp]
            warp += 32
        return warp_sum(value), turn

    @device
    def penalty(t, r, theta, thread, threads):
        """A thread's share of l2 / 2 times the sum of the squared weights."""
        summed = zero
        for index in range(t[plan.LAYERS]):
            layer = t + (t[plan.LAYERS_AT] + plan.RECORD * index)
            W, i = theta + layer[plan.W_AT], thread
            while i < layer[plan.N_IN] * layer[plan.N_OUT]:
                summed += W[i] * W[i]
                i += threads
        return half * r[plan.L2] * summed

    @device
    def collect(t, r, theta, grad, parts, thread, threads):
        """Combine the parts of the gradient, with what l2 adds, clipped by value; gives a share of the squares."""
        size, limit, squares = t[plan.PARAMETERS], r[plan.CLIP_VALUE], zero
        for index in range(2 * t[plan.LAYERS]):
            layer, biases = t + (t[plan.LAYERS_AT] + plan.RECORD * (index >> 1)), index & 1
            count = layer[plan.N_OUT] if biases else layer[plan.N_IN] * layer[plan.N_OUT]
            first, l2 = layer[plan.B_AT] if biases else layer[plan.W_AT], zero if biases else r[plan.L2]
            i = thread
            while i < count:
                p, g = grad + (first + i), zero
                for part in range(parts):
                    g += p[part * size]
                if t[plan.CLIPS] != 0:
                    g += l2 * theta[first + i]
                    g = limit if g > limit else -limit if g < -limit else g
                    squares += g * g
                p[0] = g
                i += threads
        return squares

    @device
    def update(t, r, theta, grad, parts, scale, thread, threads, rate, shrink, root_correction):
        """Update all parameters, from the parts of the gradient, or from what `collect` left of them."""
        size, code, clips = t[plan.PARAMETERS], t[plan.OPTIMIZER], t[plan.CLIPS] != 0
        first, second = global_at(t[plan.STATE_1], real), global_at(t[plan.STATE_2], real)
        a, b, c = r[plan.MOMENTUM], zero, zero
        if code == RMSPROP:
            a, b, c = r[plan.BETA2], r[plan.EPS], r[plan.MOMENTUM]
        elif code == ADAM:
            a, b, c = r[plan.BETA1], r[plan.BETA2], r[plan.EPS]
        for index in range(2 * t[plan.LAYERS]):
            layer, biases = t + (t[plan.LAYERS_AT] + plan.RECORD * (index >> 1)), index & 1
            count = layer[plan.N_OUT] if biases else layer[plan.N_IN] * layer[plan.N_OUT]
            start = layer[plan.B_AT] if biases else layer[plan.W_AT]
            decay = r[plan.WEIGHT_DECAY] if biases or clips else r[plan.WEIGHT_DECAY] + r[plan.L2]
            i = start + thread
            while i < start + count:
                g = scale * grad[i]
                for part in range(1, 1 if clips else parts):
                    g += grad[part * size + i]
                m = first[i] if code != SGD else zero
                v = second[i] if code >= RMSPROP else zero
                p, m, v = rule(code, theta[i], g, m, v, rate, decay, a, b, c, shrink, root_correction)
                theta[i] = p
                if code != SGD:
                    first[i] = m
                if code >= RMSPROP:
                    second[i] = v
                i += threads

    @device
    def places(scratch, master, theta_at):
        """(working space, parameters): one block has both in its shared memory, a grid in global memory."""
        if whole_grid:
            return scratch, master
        room = shared_memory(real, 0)
        return room, room + theta_at

    @kernel(THREADS, roomy=True)
    def run(table, reals, parameters, theta_at, grad_at, parts, sums_at, factors, results, counter):
        t, r, master = global_at(table, np.int64), global_at(reals, real), global_at(parameters, real)
        schedule, out, meeting = global_at(factors, real), global_at(results, real), global_at(counter, np.uint32)
        thread, threads, turn = cuda.grid(1), cuda.gridsize(1), 0
        room, theta = places(global_at(t[plan.SCRATCH], real), master, theta_at)
        if not whole_grid:
            i = thread
            while i < t[plan.PARAMETERS]:
                theta[i] = master[i]
                i += threads
        grad, sums, warps = room + grad_at, room + sums_at, threads >> 5
        rows, batch, layers, steps = t[plan.ROWS], t[plan.BATCH], t[plan.LAYERS], t[plan.STEPS]
        records = t + t[plan.LAYERS_AT]
        last = records + plan.RECORD * (layers - 1)
        epoch, position, step, fine = t[plan.EPOCH], t[plan.POSITION], 0, True
        left_bits, right_bits = half_bits(rows)
        key, drop_key = stream_key(t[plan.SEED], SHUFFLE, epoch), stream_key(t[plan.SEED], DROPOUT, epoch)
        # one batch of all rows in their own order, none of it dropped, is brought together only once
        same = batch >= rows and t[plan.SHUFFLE] == 0 and records[plan.DROPS] == 0
        while step < steps and fine:
            flags, train, clips = opaque(t[plan.FLAGS]), opaque(t[plan.COMMAND]) == plan.TRAIN, opaque(t[plan.CLIPS])
            first = position * batch
            seen = t[plan.SEEN] + first
            count = min(batch, rows - first)
            if step == 0 or opaque(same) == 0:
                gather(t, room, thread, threads, first, count, key, drop_key, left_bits, right_bits)
            mass, value = real(count), zero
            if t[plan.WEIGHTS] != 0 and flags & plan.WITH_LOSS != 0:
                mass = weight(t, thread, threads, first, count, key, left_bits, right_bits)
                mass, turn = total(mass, sums, thread, threads, meeting, turn)
            else:
                turn = wait(meeting, turn)
            for index in range(layers):
                code = records[plan.RECORD * index + plan.ACTIVATION]
                if index == layers - 1 and t[plan.LOGITS] != 0 and flags & plan.WRITE_OUTPUT == 0:
                    code = LINEAR
                forward(t, r, theta, room, thread, threads, seen, count, drop_key, index, code)
                turn = wait(meeting, turn)
            if flags & plan.WRITE_OUTPUT != 0:
                if last[plan.ACTIVATION] == SOFTMAX:
                    softmax(t, room, thread, threads, count)
                    turn = wait(meeting, turn)
                write_out(t, room + last[plan.A_AT], last[plan.N_OUT], thread, threads, first, count)
            if flags & plan.WITH_LOSS != 0:
                value = loss(t, r, room, thread, threads, first, count, key, left_bits, right_bits, mass)
                value, turn = total(value, sums + warps, thread, threads, meeting, turn)
                value = value / mass
            if r[plan.L2] != zero:
                extra = penalty(t, r, theta, thread, threads)
                extra, turn = total(extra, sums + 2 * warps, thread, threads, meeting, turn)
                value += extra
            if thread == 0:
                out[2 * step] = value
                out[2 * step + 1] = mass
            changes = mass > zero  # a batch whose weights are all zero changes nothing
            if train and changes:
                fine = value - value == zero
            if flags & plan.WITH_GRADIENT != 0 and (changes and fine or not train):
                for index in range(layers - 1, -1 if flags & plan.WRITE_INPUT_GRADIENT else 0, -1):
                    backward(t, r, theta, room, thread, threads, seen, count, drop_key, index)
                    turn = wait(meeting, turn)
                if flags & plan.WRITE_INPUT_GRADIENT != 0:
                    x = room + t[plan.INPUT_DELTA_AT]
                    write_out(t, x, t[plan.FEATURES], thread, threads, first, count)
                gradient(t, room, grad, parts, thread, threads, count)
                turn = wait(meeting, turn)
                scale = one
                if clips != 0 or not train:
                    squares = collect(t, r, theta, grad, parts, thread, threads)
                    if clips & plan.BY_NORM != 0:
                        squares, turn = total(squares, sums + 3 * warps, thread, threads, meeting, turn)
                        scale = min(one, r[plan.CLIP_NORM] / (sqrt(squares) + tiny))
                if train:
                    by = schedule + FACTORS * step
                    update(t, r, theta, grad, parts, scale, thread, threads, by[0], by[1], by[2])
                    turn = wait(meeting, turn)
            if fine:
                step, position = step + 1, position + 1
            if position * batch >= rows:
                position, epoch = 0, epoch + 1
                key, drop_key = stream_key(t[plan.SEED], SHUFFLE, epoch), stream_key(t[plan.SEED], DROPOUT, epoch)
        if thread == 0:
            t[plan.FINISHED] = step
        if not whole_grid:
            i = thread
            while i < t[plan.PARAMETERS]:
                master[i] = theta[i]
                i += threads
        if t[plan.COMMAND] != plan.TRAIN and t[plan.FLAGS] & plan.WITH_GRADIENT != 0:
            whole = global_at(t[plan.GRADIENTS], real)
            for index in range(2 * layers):
                layer, biases = records + plan.RECORD * (index >> 1), index & 1
                count = layer[plan.N_OUT] if biases else layer[plan.N_IN] * layer[plan.N_OUT]
                i = layer[plan.B_AT] if biases else layer[plan.W_AT]
                count, i = count + i, i + thread
                while i < count:
                    whole[i] = grad[i]
                    i += threads

    return run

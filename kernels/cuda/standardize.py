"""Standardisation: out = (x - shift) * scale + offset, one of each a feature; backward: the gradient times scale.

In the loops buffers are (features, LD), in the graph (samples, features).
"""

import numpy as np

from ..program import Standardize
from ..tables import Op
from .launch import place, plane, run
from .phases import Phases, delta_of, element_at, gradient_width_of, padded_count, value_of
from .primitives import global_at
from .toolchain import device, for_each_real, kernel

IN_PLACE = True  # neither pass needs what it overwrites
CONSTANTS = Standardize.fields.CONSTANTS


@for_each_real
def loop_of(real, structure):
    """The phases of the loops."""
    gradient_width = gradient_width_of(structure)

    @device
    def forward(step, op, work):
        x, out, item = value_of(step, op[Op.INPUT]), value_of(step, op[Op.OUTPUT]), step.thread
        shifts = global_at(op[CONSTANTS], real)
        scales = shifts + op[Op.N_IN]
        offsets = scales + op[Op.N_IN]
        while item < op[Op.N_IN] * padded_count(step):
            i, _, at = element_at(step, item)
            out[at] = (x[at] - shifts[i]) * scales[i] + offsets[i]
            item = np.int32(item + step.threads)
        return True

    @device
    def backward(step, op, work):
        if gradient_width(step, op) == 0:
            return False
        delta, out, item = delta_of(step, op[Op.OUTPUT]), delta_of(step, op[Op.INPUT]), step.thread
        scales = global_at(op[CONSTANTS], real) + op[Op.N_IN]
        while item < op[Op.N_IN] * padded_count(step):
            i, _, at = element_at(step, item)
            out[at] = delta[at] * scales[i]
            item = np.int32(item + step.threads)
        return True

    return Phases((forward,), (backward,))


@for_each_real
def scaled_of(real, shifts):
    """Out = (x - shift) * scale + offset for rows of any strides, or the product alone."""

    @kernel(256)
    def scaled(m, n, constants, x, rs_x, cs_x, out, rs_out, cs_out):
        i, j = place()
        if i < m and j < n:
            value, numbers = global_at(x, real)[i * rs_x + j * cs_x], global_at(constants, real)
            if shifts:
                value = (value - numbers[j]) * numbers[n + j] + numbers[2 * n + j]
            else:
                value *= numbers[n + j]
            global_at(out, real)[i * rs_out + j * cs_out] = value

    return scaled


def queue_forward(step, op):
    """Queue the forward pass of a `graph.Step`."""
    _queue(step, op, True, step.values[op.number], step.values[op.number + 1])


def queue_backward(step, op):
    """Queue the backward pass, where the gradient with respect to the samples is wanted."""
    if op.gradient_width:
        _queue(step, op, False, step.deltas[op.number + 1], step.deltas[op.number])


def _queue(step, op, shifts, source, target):
    arguments = step.count, op.n_in, op.record[CONSTANTS], *source, *target
    run(scaled_of(step.real, shifts), plane(step.count, op.n_in), step.stream, *map(int, arguments))

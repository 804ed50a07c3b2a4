"""Standardisation of the samples, (x - shift) * scale: what training starts with; prediction has folded weights."""

from ..options import EXACT
from ..program import Standardize
from ..tables import Buffer, Op, Run
from .block import Phase, buffer_at, samples_at
from .memory import pointer_at
from .simd import lanes, load_part, store_part
from .units import unit

_FIELDS = Standardize.fields


@unit(EXACT, "iIRPPIiiIiPi")
def standardize_block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    """Samples in place, or the gradient with respect to them; arguments as `block` says."""
    features, shift = op[Op.N_IN], pointer_at(op[_FIELDS.CONSTANTS], theta)
    scale = shift + features
    if phase == Phase.FORWARD:
        rows, stride = samples_at(run, theta, scratch, first)
        for s in range(count):
            x = rows + s * stride
            for j in range(0, features, lanes(x)):
                left = features - j
                value = (load_part(x + j, left) - load_part(shift + j, left)) * load_part(scale + j, left)
                store_part(x + j, value, left)
    elif phase == Phase.BACKWARD:
        ld = run[Run.LD]
        incoming = scratch + buffer_at(run, op[Op.OUTPUT])[Buffer.DELTA]
        outgoing = scratch + buffer_at(run, op[Op.INPUT])[Buffer.DELTA]
        for j in range(features):
            for s in range(0, count, lanes(incoming)):
                left = count - s
                store_part(outgoing + (j * ld + s), load_part(incoming + (j * ld + s), left) * scale[j], left)


block, few_rows = standardize_block, None


def link(record, dtype, operation, purpose):
    """Complete a record of a program for the CPU; gives the constants."""
    constants = operation.constants(dtype)
    record[_FIELDS.CONSTANTS] = constants.ctypes.data
    return constants

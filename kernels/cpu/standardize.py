"""Standardisation, (x - shift) * scale + offset: of the samples before all else, of the outputs back to their units.

Symbols: constants: the shifts of all features, then the scales, then the offsets; ld: elements from feature to feature
of a block.
"""

from ..compiler import jit
from ..options import EXACT
from ..program import Standardize
from ..tables import FROM_ROWS, Buffer, Op, Run
from .block import Phase, buffer_at, samples_at
from .memory import retyped
from .simd import lanes, load_part, store_part
from .units import unit

_FIELDS = Standardize.fields
ROWS = 8  # that share the constants in registers: 283 us for 16,512 samples of 28 features, instead of 376 one by one


@jit(EXACT)
def _constants_of(op, like):
    """The constants of an operation, which stand in the table of the program."""
    return retyped(op + op[_FIELDS.CONSTANTS], like)


@jit(EXACT)
def _scale_rows(count, features, constants, x, ld_x, out, ld_out):
    """Samples as rows, the features along the lanes; out may be x."""
    for first in range(0, count, ROWS):
        last = min(first + ROWS, count)
        for j in range(0, features, lanes(x)):
            left = features - j
            shift, scale = load_part(constants + j, left), load_part(constants + (features + j), left)
            offset = load_part(constants + (2 * features + j), left)
            for s in range(first, last):
                value = (load_part(x + (s * ld_x + j), left) - shift) * scale + offset
                store_part(out + (s * ld_out + j), value, left)


@unit(EXACT, "iIRPPIiiIiPi")
def standardize_block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    """A block, samples as rows in place, or the gradient with respect to it; arguments as `block` says."""
    features, ld, constants = op[Op.N_IN], run[Run.LD], _constants_of(op, theta)
    scale = constants + features
    x, y = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT])
    if phase == Phase.FORWARD and op[Op.FLAGS] & FROM_ROWS != 0:
        rows, stride = samples_at(run, theta, scratch, first, op)
        _scale_rows(count, features, constants, rows, stride, rows, stride)
    elif phase == Phase.FORWARD:
        offset, inputs, out = scale + features, scratch + x[Buffer.VALUE], scratch + y[Buffer.VALUE]
        for j in range(features):
            for s in range(0, count, lanes(inputs)):
                left = count - s
                value = (load_part(inputs + (j * ld + s), left) - constants[j]) * scale[j] + offset[j]
                store_part(out + (j * ld + s), value, left)
    elif phase == Phase.BACKWARD:
        incoming, outgoing = scratch + y[Buffer.DELTA], scratch + x[Buffer.DELTA]
        for j in range(features):
            for s in range(0, count, lanes(incoming)):
                left = count - s
                store_part(outgoing + (j * ld + s), load_part(incoming + (j * ld + s), left) * scale[j], left)


@unit(EXACT, "IRPiPiPI")
def standardize_few_rows(op, alphas, theta, count, x, ld_x, out, failure):
    """A few samples as rows."""
    features = op[Op.N_IN]
    _scale_rows(count, features, _constants_of(op, theta), x, ld_x, out, features)


block, few_rows = standardize_block, standardize_few_rows

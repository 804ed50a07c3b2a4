"""One new activation, loss, optimizer and kind of layer, each as edits of a copy of the package.

They keep the number of files that an extension costs: a formula stands in one file, and the loops do without an edit.
"""

from test_processes import install

FORMULAS, PROGRAM = "fastnn/kernels/formulas.py", "fastnn/kernels/program.py"
LAYERS, OPTIMIZERS = "fastnn/layers.py", "fastnn/optimizers.py"

MISH = '''
@_activation("mish", needs_input=True, onnx="Mish")
def _mish(o):
    """z tanh(softplus(z)): Misra 2019."""
    one, tanh, log1p, exp, sigmoid = o.one, o.tanh, o.log1p, o.exp, o.sigmoid

    def mish(alpha, z):
        return z * tanh(log1p(exp(z)))

    def slope(alpha, z, a):
        t = tanh(log1p(exp(z)))
        return t + z * (one - t * t) * sigmoid(z)

    return mish, slope


'''

LOG_COSH = """
@_loss("log_cosh")
def _log_cosh(o):
    half, two, absolute, exp, log1p, tanh = o.half, o.two, o.absolute, o.exp, o.log1p, o.tanh
    log_two = o.real(0.6931471805599453)

    def log_cosh(param, z, y):
        error = z - y
        size = absolute(error)
        return size + log1p(exp(-two * size)) - log_two, tanh(error)

    return log_cosh


"""

SIGNUM = '''
@_rule("signum", ("velocity",), ("momentum",))
def _signum(o):
    zero, one, like, select = o.zero, o.one, o.like, o.select

    def signum(theta, grad, velocity, second, decay, n):
        """Bernstein et al. 2018: the sign of a running mean of the gradients."""
        rate, keep = n[0], n[3]
        velocity = keep * velocity + (one - keep) * (grad + decay * theta)
        sign = select(velocity > zero, one, select(velocity < zero, like(-one, velocity), zero))
        return theta - rate * sign, velocity, second

    return signum


'''

SIGNUM_CLASS = '''
class Signum(Optimizer):
    """Steps of one size along the signs of a running mean of the gradients."""

    rule = "signum"

    def __init__(self, learning_rate=1e-2, momentum=0.9, weight_decay=0.0, clip_norm=None, clip_value=None):
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.momentum = number("momentum", momentum, low=0.0, below=1.0)


'''

GAIN_LAYER = '''
class Gain(Layer):
    """Each feature times a trained number."""

    arrays = ("g",)

    def operations(self, number):
        return [backends.operations.Gain()]

    def initialize(self, arrays, rng):
        arrays[0][...] = 1.0

    def __repr__(self):
        return "Gain()"


'''

GAIN_PROGRAM = '''
@dataclass(frozen=True)
class Gain(Operation):
    """Each feature times a trained number."""

    name = "gain"
    fields = Fields("Gain", "AT", Op.OWN)

    def parameters(self, n_in):
        return [((n_in,), True)]

    def facts(self, offsets):
        return {"AT": offsets[0]}


'''

GAIN_CPU = '''"""Each feature times a trained number."""

from ..compiler import jit
from ..options import EXACT
from ..program import Gain
from ..tables import Buffer, Op, Run
from .block import Part, Phase, buffer_at
from .matmul import ACCUMULATE
from .simd import lanes, load_part, store_part, total
from .units import unit

AT = Gain.fields.AT


@jit(EXACT)
def _gradient(run, scratch, op, count, row, rows, start, out):
    x, y = buffer_at(run, op[Op.INPUT])[Buffer.VALUE], buffer_at(run, op[Op.OUTPUT])[Buffer.DELTA]
    for j in range(rows):
        p, q, summed = scratch + (x + (row + j) * run[Run.LD]), scratch + (y + (row + j) * run[Run.LD]), 0.0
        for s in range(0, count, lanes(p)):
            summed += total(load_part(p + s, count - s) * load_part(q + s, count - s))
        out[j] = summed + (out[j] if start == ACCUMULATE else 0.0)


@unit(EXACT, "iIRPPIiiIiPi")
def block(phase, run, reals, theta, scratch, op, first, count, part, start, target, packed):
    n, ld, gains = op[Op.N_IN], run[Run.LD], theta + op[AT]
    x, y = buffer_at(run, op[Op.INPUT]), buffer_at(run, op[Op.OUTPUT])
    if phase == Phase.GRADIENT:
        out = target if packed != 0 else target + (op[AT] + part[Part.ROW])
        _gradient(run, scratch, op, count, part[Part.ROW], part[Part.ROWS], start, out)
        return
    source, out = scratch + x[Buffer.VALUE], scratch + y[Buffer.VALUE]
    if phase == Phase.BACKWARD:
        source, out = scratch + y[Buffer.DELTA], scratch + x[Buffer.DELTA]
        if run[Run.BY_PARTS] == 0:
            _gradient(run, scratch, op, count, 0, n, start, target + op[AT])
    for j in range(n):
        for s in range(0, count, lanes(source)):
            store_part(out + (j * ld + s), load_part(source + (j * ld + s), count - s) * gains[j], count - s)


@unit(EXACT, "IRPiPiPI")
def few_rows(op, alphas, theta, count, x, ld_x, out, failure):
    n, gains = op[Op.N_IN], theta + op[AT]
    for i in range(count):
        for j in range(n):
            out[i * n + j] = x[i * ld_x + j] * gains[j]
'''

GAIN_CUDA = '''"""Each feature times a trained number."""

from ..program import Gain
from ..tables import Op
from .launch import line, place, plane, run
from .phases import FIRST, Phases, delta_of, element_at, first_item, padded_count, value_of
from .primitives import global_at, quotient
from .toolchain import cuda, device, for_each_real, kernel

IN_PLACE = False
AT = Gain.fields.AT


@for_each_real
def loop_of(real, structure):
    zero = real(0.0)

    @device
    def scale(step, op, source, out):
        gains, item = step.parameters + op[AT], step.thread
        while item < op[Op.N_IN] * padded_count(step):
            j, _, at = element_at(step, item)
            out[at] = source[at] * gains[j]
            item += step.threads
        return True

    @device
    def forward(step, op, work):
        return scale(step, op, value_of(step, op[Op.INPUT]), value_of(step, op[Op.OUTPUT]))

    @device
    def backward(step, op, work):
        return scale(step, op, delta_of(step, op[Op.OUTPUT]), delta_of(step, op[Op.INPUT]))

    @device
    def items(step, op):
        return step.parts * op[Op.N_IN]

    @device
    def gradient(step, op, work):
        n, item = op[Op.N_IN], first_item(step, work[FIRST])
        samples = (quotient(step.count + step.parts - 1, step.parts) + 3) & ~3
        x, delta, ld = value_of(step, op[Op.INPUT]), delta_of(step, op[Op.OUTPUT]), element_at(step, padded_count(step))
        while item < step.parts * n:
            part = quotient(item, n)
            j, summed = item - part * n, zero
            for s in range(part * samples, min((part + 1) * samples, padded_count(step))):
                summed += x[j * ld[2] + s] * delta[j * ld[2] + s]
            step.gradients[part * step.size + op[AT] + j] = summed
            item += step.threads

    return Phases((forward,), (backward,), gradient=((items, gradient),))


@for_each_real
def scale_of(real):
    @kernel(256)
    def scale(m, n, gains, x, rs_x, cs_x, out, rs_out, cs_out):
        i, j = place()
        if i < m and j < n:
            value = global_at(x, real)[i * rs_x + j * cs_x]
            global_at(out, real)[i * rs_out + j * cs_out] = value * global_at(gains, real)[j]

    return scale


@for_each_real
def gradient_of(real):
    zero = real(0.0)

    @kernel(256)
    def gradient(m, n, x, rs_x, cs_x, delta, rs_d, cs_d, out):
        j, summed = cuda.grid(1), zero
        if j < n:
            for i in range(m):
                summed += global_at(x, real)[i * rs_x + j * cs_x] * global_at(delta, real)[i * rs_d + j * cs_d]
            global_at(out, real)[j] = summed

    return gradient


def _queue(step, op, source, out):
    arguments = step.count, op.n_in, step.parameter(op.record[AT]), *source, *out
    run(scale_of(step.real), plane(step.count, op.n_in), step.stream, *arguments)


def queue_forward(step, op):
    _queue(step, op, step.values[op.number], step.values[op.number + 1])


def queue_backward(step, op):
    x, delta, out = step.values[op.number], step.deltas[op.number + 1], step.gradient(op.record[AT])
    run(gradient_of(step.real), line(op.n_in), step.stream, step.count, op.n_in, *x, *delta, out)
    _queue(step, op, delta, step.deltas[op.number])
'''

# Of each: how many source files it may cost; (file, text before which more is put, that) or (file, None, all of it);
# layers, loss and optimizer of a net that is trained with it
EXTENSIONS = {
    "activation": (2, [(FORMULAS, "LINEAR, SIGMOID,", MISH)], "[Dense(5, 'mish'), Dense(1)]", "mse", "Adam(0.05)"),
    "loss": (2, [(FORMULAS, "BINARY_CROSS_", LOG_COSH)], "[Dense(5, 'tanh'), Dense(1)]", "log_cosh", "Adam(0.05)"),
    "optimizer": (
        3,
        [
            (FORMULAS, "SGD, MOMENTUM, NESTEROV", SIGNUM),
            (OPTIMIZERS, "class Adam(", SIGNUM_CLASS),
            (OPTIMIZERS, '"SGD", ', '"Signum", '),
        ],
        "[Dense(5, 'tanh'), Dense(1)]",
        "mse",
        "Signum(0.02, clip_norm=5.0)",
    ),
    "layer": (
        4,
        [
            (LAYERS, "KINDS: dict", GAIN_LAYER),
            (LAYERS, "Dense, Dropout)}", "Gain, "),
            (LAYERS, '"Dropout"]', '"Gain", '),
            (PROGRAM, "KINDS: tuple", GAIN_PROGRAM),
            (PROGRAM, "Embedding)\n", "Gain, "),
            ("fastnn/kernels/cpu/gain.py", None, GAIN_CPU),
            ("fastnn/kernels/cuda/gain.py", None, GAIN_CUDA),
        ],
        "[Dense(5, 'tanh'), Gain(), Dense(4, 'silu'), Gain(), Dense(1)]",
        "mse",
        "Adam(0.05)",
    ),
}


def extend(kind, folder):
    """A copy of the package below `folder` with an extension; gives how many files it changed, and may change."""
    site = install(folder)
    most, edits, *_ = EXTENSIONS[kind]
    for name, anchor, text in edits:
        file = site / name
        if anchor is not None:
            old = file.read_text(encoding="utf-8")
            assert old.count(anchor) == 1, f"{anchor!r} in {name}"
            text = old.replace(anchor, text + anchor)
        file.write_text(text, encoding="utf-8")
    return len({name for name, _, _ in edits}), most


def training(kind, device, dtype, checks):
    """A program that trains with an extension and prints losses and outputs; `checks`: lines to run with net, X, y."""
    _, _, layers, loss, optimizer = EXTENSIONS[kind]
    return f"""
import json
import numpy as np
import fastnn
from fastnn import *
rng = np.random.default_rng(0)
X = rng.normal(size=(22, 3))
y = np.tanh(X[:, 0] - X[:, 1])
net = Sequential({layers}, loss={loss!r}, dtype={dtype!r}, device={device!r}, seed=1)
net.build(3)
history = net.fit(X, y, {optimizer}, epochs=4, batch_size=8, l2=0.01)
{checks}
print(json.dumps([history.loss.tolist(), net.predict(X).ravel().tolist()]))
"""

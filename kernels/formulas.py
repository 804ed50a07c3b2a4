"""Every formula of the library, once: activations, losses, update rules. A record each holds all that is known of it.

Formulas are pure functions of one point, written with operators and `select` over elementary functions that a backend
provides, so that one source runs on floats, on SIMD vectors and on GPUs. The loops around them are the backend's.
`select(condition, a, b)` keeps NaN if the condition is false for it: relu is select(z <= 0, 0, z).

To add an activation, a loss or a rule, add its function here, under its decorator. Its code is its place in the file.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

OWN = 99  # code of a pair of functions of the user's own

Pair = tuple[Callable[..., Any], Callable[..., Any]]


@dataclass(frozen=True)
class Activation:
    """What is known of an activation.

    Parameters
    ----------
    name : str
        As users write it.
    code : int
        What stands for it in tables and in calls of kernels.
    make : callable
        From the namespace of a backend (`operations_of`) to (g(alpha, z), g'(alpha, z, a)) with a = g(z); None where a
        backend has loops of its own: for softmax, which looks at a whole row, and for functions of the user's own.
    needs_input : bool
        Whether the derivative is not a function of the output, so that z must be kept beside a.
    alpha : float or None
        Default of its parameter; None where it has none.
    outputs : tuple of float
        An interval inside its range, for trials of functions of the user's own.
    onnx : str or None
        The operator of ONNX that computes it in float32. None: its formula is written with other operators.
    functions : tuple or None
        (f, df) of the user's own.
    """

    name: str
    code: int
    make: Callable[[Any], Pair] | None = field(repr=False)
    needs_input: bool = False
    alpha: float | None = None
    outputs: tuple[float, float] = (-4.0, 4.0)
    onnx: str | None = None
    functions: Pair | None = None


@dataclass(frozen=True)
class Loss:
    """What is known of a loss.

    Parameters
    ----------
    name : str
        As users write it.
    code : int
        What stands for it in tables and in calls of kernels.
    make : callable
        From the namespace of a backend to f(param, z, y), which gives (loss, derivative by z) of one output; None where
        a backend has loops of its own: for cross_entropy, which looks at a whole row, and for the user's own functions.
    parameter : str or None
        The setting of a net that is its `param`; None where it has none.
    activation : str or None
        The output activation that it is fused with: z is then the logit. None: z is the output, whatever made it.
    targets : str
        "probabilities" in [0, 1], "classes" (indices or one-hot rows), or "numbers".
    least_target : float or None
        The least of these numbers that it takes.
    outputs_per_target : int
        1, or 2: `make` then gives f(param, z, v, y), which gives (loss, derivative by z, derivative by v). z is one of
        the first half of the outputs, v the one at the same place of the second half.
    with_log : bool
        Whether `make` gives (r, e, derivative by z) instead, of the loss r + log(1 + e) with e in [0, 1]: a backend may
        then take one logarithm of the product of many 1 + e.
    curvature : callable or None
        From outputs (m, k), numbers of probabilities where z is the logit, to the second derivatives (m,) of the loss
        of a sample by z_i and z_j: f(outputs, i, j). For Newton's method, where it is never negative.
    functions : tuple or None
        (f, df) of the user's own.
    """

    name: str
    code: int
    make: Callable[[Any], Callable[..., Any]] | None = field(repr=False)
    activation: str | None = None
    parameter: str | None = None
    targets: str = "numbers"
    least_target: float | None = None
    outputs_per_target: int = 1
    with_log: bool = False
    curvature: Callable[..., Any] | None = field(default=None, repr=False)
    functions: Pair | None = None

    @property
    def by_row(self) -> bool:
        """Whether it looks at a whole row, and its outputs depend on one another."""
        return self.make is None and self.functions is None


@dataclass(frozen=True)
class Rule:
    """What is known of an update rule.

    Parameters
    ----------
    name : str
        Of the rule.
    code : int
        Its place among RULES.
    make : callable
        From the namespace of a backend to f(theta, grad, first, second, decay, n), which gives the new (theta, first,
        second). n[0] to n[2] are what `prepare` gives, n[3] and on are the settings. A rule that keeps fewer than two
        states gives back those that it does not have.
    states : tuple of str
        The vectors that it keeps beside the parameters, at most two.
    settings : tuple of str
        Its hyperparameters, in order, at most four.
    prepare : callable
        From a square root to f(rate, settings, step), which gives three numbers for step `step`, counted from 1. It
        takes floats or arrays.
    """

    name: str
    code: int
    make: Callable[[Any], Callable[..., Any]] = field(repr=False)
    states: tuple[str, ...]
    settings: tuple[str, ...]
    prepare: Callable[[Any], Callable[..., Any]] = field(repr=False)


ACTIVATIONS: list[Activation] = []
LOSSES: list[Loss] = []
RULES: list[Rule] = []


def named(records, name):
    """The record of this name."""
    return next(record for record in records if record.name == name)


def own_activation(functions):
    """The record of a pair (f(z), df(z)) of the user's own."""
    return Activation("own", OWN, None, needs_input=True, functions=functions)


def own_loss(functions):
    """The record of a pair (f(z, y), df(z, y)) of the user's own."""
    return Loss("own", OWN, None, functions=functions)


def _activation(name, **facts):
    def decorate(make):
        ACTIVATIONS.append(Activation(name, len(ACTIVATIONS), make, **facts))
        return make

    return decorate


def _loss(name, **facts):
    def decorate(make):
        LOSSES.append(Loss(name, len(LOSSES), make, **facts))
        return make

    return decorate


def constant_rate(sqrt):
    """The learning rate alone."""

    def prepare(rate, settings, step):
        return rate, 1.0, 1.0

    return prepare


def _rule(name, states=(), settings=(), prepare=constant_rate):
    def decorate(make):
        RULES.append(Rule(name, len(RULES), make, states, settings, prepare))
        return make

    return decorate


def operations_of(
    *, real, like, select, absolute, sqrt, exp, expm1, log1p, tanh, sigmoid, erf, jit, divide=operator.truediv
) -> SimpleNamespace:
    """What a backend provides for the formulas, with the constants that they share.

    Parameters
    ----------
    real : callable
        Turns a Python float into a constant of the backend.
    like : callable
        A number in the type of a value.
    select : callable
        One of two values, by a condition.
    absolute, sqrt, exp, expm1, log1p, tanh, sigmoid, erf : callable
        Elementary functions.
    jit : callable
        Decorator that compiles a formula.
    divide : callable, optional
        a / b, as update rules have it.

    Returns
    -------
    namespace
        All of these, and `zero`, `half`, `one`, `two`.
    """
    functions = dict(real=real, like=like, select=select, absolute=absolute, divide=divide, sqrt=sqrt, exp=exp)
    functions |= dict(expm1=expm1, log1p=log1p, tanh=tanh, sigmoid=sigmoid, erf=erf, jit=jit)
    return SimpleNamespace(**functions, zero=real(0.0), half=real(0.5), one=real(1.0), two=real(2.0))


def made(record, operations):
    """The functions of a record over the operations of a backend, compiled by its decorator."""
    functions = record.make(operations)
    if isinstance(functions, tuple):
        return tuple(map(operations.jit, functions))
    formula, log1p = operations.jit(functions), operations.log1p
    if not getattr(record, "with_log", False):
        return formula

    def with_log(param, z, y):
        rest, e, slope = formula(param, z, y)
        return rest + log1p(e), slope

    return operations.jit(with_log)


# Activations: g(alpha, z), and its derivative from z and a = g(z)


@_activation("linear")
def _linear(o):
    one, like = o.one, o.like

    def linear(alpha, z):
        return z

    def slope(alpha, z, a):
        return like(one, a)

    return linear, slope


@_activation("sigmoid", outputs=(0.02, 0.98))
def _sigmoid(o):
    one, sigmoid_of = o.one, o.sigmoid

    def sigmoid(alpha, z):
        return sigmoid_of(z)

    def slope(alpha, z, a):
        return a * (one - a)

    return sigmoid, slope


@_activation("tanh", outputs=(-0.98, 0.98))
def _tanh(o):
    one, tanh_of = o.one, o.tanh

    def tanh(alpha, z):
        return tanh_of(z)

    def slope(alpha, z, a):
        return (one - a) * (one + a)

    return tanh, slope


@_activation("relu", outputs=(0.02, 4.0), onnx="Relu")
def _relu(o):
    zero, one, like, select = o.zero, o.one, o.like, o.select

    def relu(alpha, z):
        return select(z <= zero, zero, z)

    def slope(alpha, z, a):
        return select(a <= zero, zero, like(one, a))

    return relu, slope


@_activation("leaky_relu", alpha=0.01, onnx="LeakyRelu")
def _leaky_relu(o):
    zero, one, like, select = o.zero, o.one, o.like, o.select

    def leaky_relu(alpha, z):
        return select(z <= zero, z * alpha, z)

    def slope(alpha, z, a):
        return select(a <= zero, like(alpha, a), like(one, a))

    return leaky_relu, slope


@_activation("elu", alpha=1.0, onnx="Elu")
def _elu(o):
    zero, one, like, select, expm1 = o.zero, o.one, o.like, o.select, o.expm1

    def elu(alpha, z):
        return select(z <= zero, expm1(z) * alpha, z)

    def slope(alpha, z, a):
        return select(a <= zero, a + alpha, like(one, a))

    return elu, slope


@_activation("softplus", outputs=(0.02, 4.0), onnx="Softplus")
def _softplus(o):
    zero, select, absolute, exp, expm1, log1p = o.zero, o.select, o.absolute, o.exp, o.expm1, o.log1p

    def softplus(alpha, z):
        return select(z <= zero, zero, z) + log1p(exp(-absolute(z)))

    def slope(alpha, z, a):
        return -expm1(-a)

    return softplus, slope


@_activation("silu", needs_input=True)
def _silu(o):
    one, sigmoid = o.one, o.sigmoid

    def silu(alpha, z):
        return z * sigmoid(z)

    def slope(alpha, z, a):
        s = sigmoid(z)
        return s * (one + z * (one - s))

    return silu, slope


@_activation("gelu", needs_input=True)
def _gelu(o):
    half, one, exp, erf = o.half, o.one, o.exp, o.erf
    root_half = o.real(0.7071067811865476)  # sqrt(1 / 2)
    normal_peak = o.real(0.3989422804014327)  # 1 / sqrt(2 pi), the normal density at 0

    def gelu(alpha, z):
        return half * z * (one + erf(z * root_half))

    def slope(alpha, z, a):
        return half * (one + erf(z * root_half)) + z * normal_peak * exp(-half * z * z)

    return gelu, slope


@_activation("gelu_tanh", needs_input=True)
def _gelu_tanh(o):
    """0.5 z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))): Hendrycks and Gimpel, 2016."""
    half, one, tanh = o.half, o.one, o.tanh
    scale, cubic, three_cubic = o.real(0.7978845608028654), o.real(0.044715), o.real(3 * 0.044715)

    def gelu_tanh(alpha, z):
        return half * z * (one + tanh(scale * z * (one + cubic * z * z)))

    def slope(alpha, z, a):
        t = tanh(scale * z * (one + cubic * z * z))
        return half * (one + t) + half * z * (one - t * t) * scale * (one + three_cubic * z * z)

    return gelu_tanh, slope


ACTIVATIONS.append(Activation("softmax", len(ACTIVATIONS), None, outputs=(0.02, 0.98), onnx="Softmax"))


@_activation("exp", outputs=(0.02, 4.0), onnx="Exp")
def _exp(o):
    exp_of = o.exp

    def exp(alpha, z):
        return exp_of(z)

    def slope(alpha, z, a):
        return a

    return exp, slope


LINEAR, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTPLUS, SILU, GELU, GELU_TANH, SOFTMAX, EXP = range(12)


# Losses: (loss, derivative by z) of one output from z and the target y


def _of_sigmoid(a, i, j):
    return a[:, i] * (1.0 - a[:, i])


def _of_softmax(a, i, j):
    return a[:, i] * ((i == j) - a[:, j])


def _of_square(a, i, j):
    return 2.0


@_loss("binary_cross_entropy", activation="sigmoid", targets="probabilities", with_log=True, curvature=_of_sigmoid)
def _binary_cross_entropy(o):
    zero, one, like, select, absolute, exp = o.zero, o.one, o.like, o.select, o.absolute, o.exp

    def binary_cross_entropy(param, z, y):
        """softplus(z) - y z, from the logit, and sigmoid(z) - y; one exponential for both."""
        e = exp(-absolute(z))
        # the large terms cancel before the small one is added
        return select(z <= zero, zero, z) - y * z, e, select(z < zero, e, like(one, e)) / (one + e) - y

    return binary_cross_entropy


LOSSES.append(Loss("cross_entropy", len(LOSSES), None, activation="softmax", targets="classes", curvature=_of_softmax))


@_loss("mse", curvature=_of_square)
def _mse(o):
    two = o.two

    def mse(param, z, y):
        error = z - y
        return error * error, two * error

    return mse


@_loss("mae")
def _mae(o):
    zero, one, select, absolute = o.zero, o.one, o.select, o.absolute

    def mae(param, z, y):
        error = z - y
        return absolute(error), select(error > zero, one, select(error < zero, -one, error))

    return mae


@_loss("huber", parameter="huber_delta")
def _huber(o):
    half, select, absolute = o.half, o.select, o.absolute

    def huber(delta, z, y):
        error = z - y
        size = absolute(error)
        loss = select(size <= delta, half * error * error, delta * (size - half * delta))
        return loss, select(error > delta, delta, select(error < -delta, -delta, error))

    return huber


@_loss("quantile", parameter="quantile")
def _quantile(o):
    """The pinball loss of Koenker and Bassett, 1978: its minimum over constants is the quantile of the targets."""
    zero, one, select = o.zero, o.one, o.select

    def quantile(q, z, y):
        error, over = z - y, one - q
        slope = select(error > zero, over, select(error < zero, -q, error))
        return select(error > zero, over * error, -q * error), slope

    return quantile


def _of_exp(a, i, j):
    return a[:, i]


@_loss("poisson", activation="exp", least_target=0.0, curvature=_of_exp)
def _poisson(o):
    exp = o.exp

    def poisson(param, z, y):
        """Minus the logarithm of the likelihood of y, but for log y!, from the logarithm z of the rate."""
        rate = exp(z)
        return rate - y * z, rate - y

    return poisson


@_loss("gaussian", outputs_per_target=2)
def _gaussian(o):
    half, one, exp = o.half, o.one, o.exp

    def gaussian(param, z, v, y):
        """Minus the logarithm of the normal density, but for log(2 pi) / 2, from mean and logarithm of the variance."""
        error, precision = z - y, exp(-v)
        square = error * error * precision
        return half * (v + square), error * precision, half * (one - square)

    return gaussian


BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MSE, MAE, HUBER, QUANTILE, POISSON, GAUSSIAN = range(8)


# Update rules: new (theta, first, second); `decay` is the coupled weight decay, with l2 where it acts


@_rule("sgd")
def _sgd(o):
    def sgd(theta, grad, first, second, decay, n):
        """Gradient descent."""
        rate = n[0]
        return theta - rate * (grad + decay * theta), first, second

    return sgd


@_rule("momentum", ("velocity",), ("momentum",))
def _momentum(o):
    def momentum(theta, grad, velocity, second, decay, n):
        """Torch's form, the rate outside the velocity (Sutskever et al. 2013)."""
        rate, keep = n[0], n[3]
        g = grad + decay * theta
        velocity = keep * velocity + g
        return theta - rate * velocity, velocity, second

    return momentum


@_rule("nesterov", ("velocity",), ("momentum",))
def _nesterov(o):
    def nesterov(theta, grad, velocity, second, decay, n):
        """`momentum` that looks ahead along the velocity."""
        rate, keep = n[0], n[3]
        g = grad + decay * theta
        velocity = keep * velocity + g
        return theta - rate * (g + keep * velocity), velocity, second

    return nesterov


@_rule("rmsprop", ("square", "velocity"), ("rho", "eps", "momentum"))
def _rmsprop(o):
    one, sqrt, divide = o.one, o.sqrt, o.divide

    def rmsprop(theta, grad, square, velocity, decay, n):
        """Tieleman and Hinton 2012, torch's placing of eps."""
        rate, rho, eps, keep = n[0], n[3], n[4], n[5]
        g = grad + decay * theta
        square = rho * square + (one - rho) * g * g
        velocity = keep * velocity + divide(g, sqrt(square) + eps)
        return theta - rate * velocity, square, velocity

    return rmsprop


def _bias_corrections(sqrt):
    """Of Adam: rate / (1 - beta1^step), the factor of decoupled decay, 1 / sqrt(1 - beta2^step)."""

    def prepare(rate, settings, step):
        beta1, beta2, decoupled = settings[0], settings[1], settings[3]
        return rate / (1.0 - beta1**step), 1.0 - rate * decoupled, 1.0 / sqrt(1.0 - beta2**step)

    return prepare


@_rule("adam", ("first", "second"), ("beta1", "beta2", "eps", "decoupled"), _bias_corrections)
def _adam(o):
    one, sqrt, divide = o.one, o.sqrt, o.divide

    def adam(theta, grad, first, second, decay, n):
        """Kingma and Ba 2015; shrink < 1 is AdamW's decay (Loshchilov and Hutter 2019)."""
        rate, shrink, root_correction, beta1, beta2, eps = n[0], n[1], n[2], n[3], n[4], n[5]
        g = grad + decay * theta
        first = first + (one - beta1) * (g - first)
        second = beta2 * second + (one - beta2) * g * g
        return shrink * theta - divide(rate * first, sqrt(second) * root_correction + eps), first, second

    return adam


def _falling_rate(sqrt):
    """Of Adagrad: rate / (1 + rate_decay * steps before this one)."""

    def prepare(rate, settings, step):
        return rate / (1.0 + settings[1] * (step - 1.0)), 1.0, 1.0

    return prepare


@_rule("adagrad", ("square",), ("eps", "rate_decay"), _falling_rate)
def _adagrad(o):
    sqrt, divide = o.sqrt, o.divide

    def adagrad(theta, grad, square, second, decay, n):
        """Duchi, Hazan and Singer 2011, torch's placing of eps."""
        rate, eps = n[0], n[3]
        g = grad + decay * theta
        square = square + g * g
        return theta - divide(rate * g, sqrt(square) + eps), square, second

    return adagrad


SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM, ADAGRAD = range(6)

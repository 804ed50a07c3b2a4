"""Every formula of the library, once: activations, losses, updates, and their derivatives.

They are pure functions of one point, written with operators and `select` over elementary functions that a backend
brings along, so that one source runs on floats, on SIMD vectors and on GPUs. The loops around them are the backend's.
`select(condition, a, b)` keeps NaN if the condition is false for it: relu is select(z <= 0, 0, z).
"""

from types import SimpleNamespace

ACTIVATIONS = (
    "linear",
    "sigmoid",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "softplus",
    "silu",
    "gelu",
    "gelu_tanh",
    "softmax",
)
LINEAR, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SOFTPLUS, SILU, GELU, GELU_TANH, SOFTMAX = range(len(ACTIVATIONS))

LOSSES = ("binary_cross_entropy", "cross_entropy", "mse", "mae", "huber")
BINARY_CROSS_ENTROPY, CROSS_ENTROPY, MSE, MAE, HUBER = range(len(LOSSES))

OPTIMIZERS = ("sgd", "momentum", "nesterov", "rmsprop", "adam")
SGD, MOMENTUM, NESTEROV, RMSPROP, ADAM = range(len(OPTIMIZERS))

# Activations whose derivative is not a function of their output: Z must be kept beside A.
NEEDS_INPUT = (SILU, GELU, GELU_TANH)
# parameter (alpha or delta) where the caller names none
DEFAULT_ALPHA = {"leaky_relu": 0.01, "elu": 1.0}


def make(ops, jit):
    """The formulas over the functions of `ops`, each compiled by the decorator `jit`.

    Parameters
    ----------
    ops : namespace
        `real` (turns a Python float into a constant of the backend), `like` (a number in the type of a value),
        `select`, `absolute`, `sqrt`, `exp`, `expm1`, `log1p`, `tanh`, `sigmoid`, `erf`.
    jit : callable
        Decorator.

    Returns
    -------
    namespace
        `activate(code, param, z)`, `slope(code, param, z, a)`, `loss(code, param, z, y)`,
        `loss_slope(code, param, z, y)`, `sgd`, `momentum`, `rmsprop`, `adam`.
    """
    select, like, absolute, sqrt = ops.select, ops.like, ops.absolute, ops.sqrt
    exp, expm1, log1p, tanh, sigmoid, erf = ops.exp, ops.expm1, ops.log1p, ops.tanh, ops.sigmoid, ops.erf
    zero, half, one, two = ops.real(0.0), ops.real(0.5), ops.real(1.0), ops.real(2.0)
    root_half = ops.real(0.7071067811865476)  # sqrt(1 / 2)
    normal_peak = ops.real(0.3989422804014327)  # 1 / sqrt(2 pi), the normal density at 0
    # the tanh form of gelu, 0.5 z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))): Hendrycks and Gimpel, 2016
    gelu_scale, gelu_cubic = ops.real(0.7978845608028654), ops.real(0.044715)
    three_cubic = ops.real(3 * 0.044715)

    @jit
    def activate(code, param, z):
        """A = g(z), for every activation but softmax, which looks at a whole row."""
        if code == SIGMOID:
            return sigmoid(z)
        if code == TANH:
            return tanh(z)
        if code == RELU:
            return select(z <= zero, zero, z)
        if code == LEAKY_RELU:
            return select(z <= zero, z * param, z)
        if code == ELU:
            return select(z <= zero, expm1(z) * param, z)
        if code == SOFTPLUS:
            return softplus(z)
        if code == SILU:
            return z * sigmoid(z)
        if code == GELU:
            return half * z * (one + erf(z * root_half))
        if code == GELU_TANH:
            return half * z * (one + tanh(gelu_scale * z * (one + gelu_cubic * z * z)))
        return z

    @jit
    def slope(code, param, z, a):
        """g'(z); from a = g(z) alone where that is enough."""
        if code == SIGMOID:
            return a * (one - a)
        if code == TANH:
            return (one - a) * (one + a)
        if code == RELU:
            return select(a <= zero, zero, like(one, a))
        if code == LEAKY_RELU:
            return select(a <= zero, like(param, a), like(one, a))
        if code == ELU:
            return select(a <= zero, a + param, like(one, a))
        if code == SOFTPLUS:
            return -expm1(-a)
        if code == SILU:
            s = sigmoid(z)
            return s * (one + z * (one - s))
        if code == GELU:
            return half * (one + erf(z * root_half)) + z * normal_peak * exp(-half * z * z)
        if code == GELU_TANH:
            t = tanh(gelu_scale * z * (one + gelu_cubic * z * z))
            return half * (one + t) + half * z * (one - t * t) * gelu_scale * (one + three_cubic * z * z)
        return like(one, a)

    @jit
    def softplus(z):
        """log(1 + e^z), without overflow."""
        return select(z <= zero, zero, z) + log1p(exp(-absolute(z)))

    @jit
    def loss(code, param, z, y):
        """Loss of one output: from the logit for binary cross-entropy, from the prediction for the others."""
        if code == BINARY_CROSS_ENTROPY:
            # the large terms cancel before the small one is added
            return (select(z <= zero, zero, z) - y * z) + log1p(exp(-absolute(z)))
        error = z - y
        if code == MSE:
            return error * error
        size = absolute(error)
        if code == HUBER:
            return select(size <= param, half * error * error, param * (size - half * param))
        return size

    @jit
    def loss_slope(code, param, z, y):
        """Derivative of `loss` by z."""
        if code == BINARY_CROSS_ENTROPY:
            return sigmoid(z) - y
        error = z - y
        if code == MSE:
            return two * error
        if code == HUBER:
            return select(error > param, param, select(error < -param, -param, error))
        return select(error > zero, one, select(error < zero, -one, error))

    @jit
    def sgd(theta, grad, rate, decay):
        """New theta by gradient descent."""
        return theta - rate * (grad + decay * theta)

    @jit
    def momentum(theta, grad, velocity, rate, keep, nesterov, decay):
        """New (theta, velocity); torch's form, the rate outside the velocity."""
        g = grad + decay * theta
        velocity = keep * velocity + g
        if nesterov:
            return theta - rate * (g + keep * velocity), velocity
        return theta - rate * velocity, velocity

    @jit
    def rmsprop(theta, grad, square, velocity, rate, rho, eps, keep, decay):
        """New (theta, square, velocity): Tieleman and Hinton 2012, torch's placing of eps."""
        g = grad + decay * theta
        square = rho * square + (one - rho) * g * g
        velocity = keep * velocity + g / (sqrt(square) + eps)
        return theta - rate * velocity, square, velocity

    @jit
    def adam(theta, grad, first, second, rate, beta1, beta2, eps, decay, shrink, root_correction):
        """New (theta, first, second): Kingma and Ba 2015; shrink < 1 is AdamW's decay (Loshchilov and Hutter 2019).

        `rate` is the learning rate / (1 - beta1^step), `root_correction` sqrt(1 - beta2^step).
        """
        g = grad + decay * theta
        first = first + (one - beta1) * (g - first)
        second = beta2 * second + (one - beta2) * g * g
        return shrink * theta - rate * first / (sqrt(second) / root_correction + eps), first, second

    return SimpleNamespace(
        activate=activate,
        slope=slope,
        loss=loss,
        loss_slope=loss_slope,
        sgd=sgd,
        momentum=momentum,
        rmsprop=rmsprop,
        adam=adam,
    )

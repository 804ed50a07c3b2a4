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

# The user's own function, whose address stands in the plan
CUSTOM = 99

# Activations whose derivative is not a function of their output: Z must be kept beside A.
NEEDS_INPUT = (SILU, GELU, GELU_TANH, CUSTOM)
# Dropout draws numbers of this many bits.
CHANCE_BITS = 24
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
        `activations`: by code, the pair g(param, z) and g'(param, z, a), where a = g(z) is used if that is enough;
        None for softmax, which looks at a whole row. `losses`: by code, f(param, z, y) giving (loss, derivative by z)
        of one output; None for cross_entropy. `sgd`, `momentum`, `rmsprop`, `adam`: the updates. `sample_word(key,
        sample)` and `chance(word, unit)`: the random number, of CHANCE_BITS bits, that dropout draws for a unit and a
        sample; on integers of 32 or 64 bits.
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
    def linear(param, z):
        return z

    @jit
    def linear_slope(param, z, a):
        return like(one, a)

    @jit
    def sigmoid_(param, z):
        return sigmoid(z)

    @jit
    def sigmoid_slope(param, z, a):
        return a * (one - a)

    @jit
    def tanh_(param, z):
        return tanh(z)

    @jit
    def tanh_slope(param, z, a):
        return (one - a) * (one + a)

    @jit
    def relu(param, z):
        return select(z <= zero, zero, z)

    @jit
    def relu_slope(param, z, a):
        return select(a <= zero, zero, like(one, a))

    @jit
    def leaky_relu(alpha, z):
        return select(z <= zero, z * alpha, z)

    @jit
    def leaky_relu_slope(alpha, z, a):
        return select(a <= zero, like(alpha, a), like(one, a))

    @jit
    def elu(alpha, z):
        return select(z <= zero, expm1(z) * alpha, z)

    @jit
    def elu_slope(alpha, z, a):
        return select(a <= zero, a + alpha, like(one, a))

    @jit
    def softplus(param, z):
        return select(z <= zero, zero, z) + log1p(exp(-absolute(z)))

    @jit
    def softplus_slope(param, z, a):
        return -expm1(-a)

    @jit
    def silu(param, z):
        return z * sigmoid(z)

    @jit
    def silu_slope(param, z, a):
        s = sigmoid(z)
        return s * (one + z * (one - s))

    @jit
    def gelu(param, z):
        return half * z * (one + erf(z * root_half))

    @jit
    def gelu_slope(param, z, a):
        return half * (one + erf(z * root_half)) + z * normal_peak * exp(-half * z * z)

    @jit
    def gelu_tanh(param, z):
        return half * z * (one + tanh(gelu_scale * z * (one + gelu_cubic * z * z)))

    @jit
    def gelu_tanh_slope(param, z, a):
        t = tanh(gelu_scale * z * (one + gelu_cubic * z * z))
        return half * (one + t) + half * z * (one - t * t) * gelu_scale * (one + three_cubic * z * z)

    @jit
    def binary_cross_entropy(param, z, y):
        """softplus(z) - y z, from the logit, and sigmoid(z) - y; one exponential for both."""
        e = exp(-absolute(z))
        # the large terms cancel before the small one is added
        loss = (select(z <= zero, zero, z) - y * z) + log1p(e)
        return loss, select(z < zero, e, like(one, e)) / (one + e) - y

    @jit
    def mse(param, z, y):
        error = z - y
        return error * error, two * error

    @jit
    def mae(param, z, y):
        error = z - y
        return absolute(error), select(error > zero, one, select(error < zero, -one, error))

    @jit
    def huber(delta, z, y):
        error = z - y
        size = absolute(error)
        loss = select(size <= delta, half * error * error, delta * (size - half * delta))
        return loss, select(error > delta, delta, select(error < -delta, -delta, error))

    @jit
    def mixed(x):
        """A well-mixed 32-bit function of the low 32 bits of x (the mixer "lowbias32", Wellons 2018)."""
        x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ ((x >> 15) & 0x1FFFF)) * 0x846CA68B & 0xFFFFFFFF
        return x ^ ((x >> 16) & 0xFFFF)

    @jit
    def sample_word(key, sample):
        return mixed((sample ^ key) & 0xFFFFFFFF)

    @jit
    def chance(word, unit):
        x = (word + unit * 0x9E3779B1) & 0xFFFFFFFF  # 2^32 over the golden ratio, to the next prime
        return (mixed(x) >> 8) & 0xFFFFFF

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

        `rate` is the learning rate / (1 - beta1^step), `root_correction` is 1 / sqrt(1 - beta2^step).
        """
        g = grad + decay * theta
        first = first + (one - beta1) * (g - first)
        second = beta2 * second + (one - beta2) * g * g
        return shrink * theta - rate * first / (sqrt(second) * root_correction + eps), first, second

    return SimpleNamespace(
        activations=(
            (linear, linear_slope),
            (sigmoid_, sigmoid_slope),
            (tanh_, tanh_slope),
            (relu, relu_slope),
            (leaky_relu, leaky_relu_slope),
            (elu, elu_slope),
            (softplus, softplus_slope),
            (silu, silu_slope),
            (gelu, gelu_slope),
            (gelu_tanh, gelu_tanh_slope),
            None,
        ),
        losses=(binary_cross_entropy, None, mse, mae, huber),
        sample_word=sample_word,
        chance=chance,
        sgd=sgd,
        momentum=momentum,
        rmsprop=rmsprop,
        adam=adam,
    )

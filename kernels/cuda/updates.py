"""Parameter updates: one pass over the flat vector, the state beside it, four parameters a thread."""

import numpy as np

from ..annotations import DeviceArray, Stream
from ..formulas import ADAM, MOMENTUM, NESTEROV, RMSPROP, SGD
from .formulas import formulas_of
from .launch import line, operand, run
from .primitives import global_at, load4, opaque, store4
from .toolchain import cuda, device, for_each_real, kernel

STATES = {SGD: 0, MOMENTUM: 1, NESTEROV: 1, RMSPROP: 2, ADAM: 2}  # vectors that a rule keeps


@for_each_real
def rule_of(real, code):
    """One rule for one parameter, all with the same arguments.

    It takes (theta, grad, first, second), the rate, the decay and five numbers more, and gives what replaces theta,
    first and second. The numbers are the rule's, in the order of its formula.
    """
    formulas = formulas_of(real)
    sgd, momentum, rmsprop, adam = formulas.sgd, formulas.momentum, formulas.rmsprop, formulas.adam
    nesterov = code == NESTEROV

    @device
    def by_sgd(p, g, first, second, rate, decay, a, b, c, d, e):
        return sgd(p, g, rate, decay), first, second

    @device
    def by_momentum(p, g, first, second, rate, decay, keep, b, c, d, e):
        p, first = momentum(p, g, first, rate, keep, nesterov, decay)
        return p, first, second

    @device
    def by_rmsprop(p, g, first, second, rate, decay, rho, eps, keep, d, e):
        return rmsprop(p, g, first, second, rate, rho, eps, keep, decay)

    @device
    def by_adam(p, g, first, second, rate, decay, beta1, beta2, eps, shrink, root_correction):
        return adam(p, g, first, second, rate, beta1, beta2, eps, decay, shrink, root_correction)

    return {SGD: by_sgd, RMSPROP: by_rmsprop, ADAM: by_adam}.get(code, by_momentum)


@for_each_real
def any_rule_of(real):
    """`rule_of` for a rule that is known when the kernel runs."""
    sgd, momentum, nesterov, rmsprop, adam = (rule_of(real, code) for code in range(5))

    @device
    def rule(code, p, g, m, v, rate, decay, a, b, c, d, e):
        code = opaque(code)
        if code == SGD:
            p, m, v = sgd(p, g, m, v, rate, decay, a, b, c, d, e)
        elif code == MOMENTUM:
            p, m, v = momentum(p, g, m, v, rate, decay, a, b, c, d, e)
        elif code == NESTEROV:
            p, m, v = nesterov(p, g, m, v, rate, decay, a, b, c, d, e)
        elif code == RMSPROP:
            p, m, v = rmsprop(p, g, m, v, rate, decay, a, b, c, d, e)
        else:
            p, m, v = adam(p, g, m, v, rate, decay, a, b, c, d, e)
        return p, m, v

    return rule


@for_each_real
def update_of(real, code, aligned):
    """One rule over a vector: four elements at once where they are consecutive and aligned, else any strides."""
    rule, states = rule_of(real, code), STATES[code]
    zero = real(0.0)

    @kernel(256)
    def update(n, theta, by_p, grad, by_g, first, by_m, second, by_v, rate, decay, a, b, c, d, e):
        p, g = global_at(theta, real), global_at(grad, real)
        m, v = global_at(first, real), global_at(second, real)
        i = 4 * cuda.grid(1)
        if aligned and i + 4 <= n:
            p0, p1, p2, p3 = load4(p + i)
            g0, g1, g2, g3 = load4(g + i)
            m0 = m1 = m2 = m3 = v0 = v1 = v2 = v3 = zero
            if states > 0:
                m0, m1, m2, m3 = load4(m + i)
            if states > 1:
                v0, v1, v2, v3 = load4(v + i)
            p0, m0, v0 = rule(p0, g0, m0, v0, rate, decay, a, b, c, d, e)
            p1, m1, v1 = rule(p1, g1, m1, v1, rate, decay, a, b, c, d, e)
            p2, m2, v2 = rule(p2, g2, m2, v2, rate, decay, a, b, c, d, e)
            p3, m3, v3 = rule(p3, g3, m3, v3, rate, decay, a, b, c, d, e)
            store4(p + i, p0, p1, p2, p3)
            if states > 0:
                store4(m + i, m0, m1, m2, m3)
            if states > 1:
                store4(v + i, v0, v1, v2, v3)
        else:
            for k in range(i, min(i + 4, n)):
                old_m = m[k * by_m] if states > 0 else zero
                old_v = v[k * by_v] if states > 1 else zero
                new, new_m, new_v = rule(p[k * by_p], g[k * by_g], old_m, old_v, rate, decay, a, b, c, d, e)
                p[k * by_p] = new
                if states > 0:
                    m[k * by_m] = new_m
                if states > 1:
                    v[k * by_v] = new_v

    return update


def _update(code, theta, vectors, stream, rate, decay, *numbers):
    p = operand("theta", theta, 1)
    real, n = p.dtype.type, p.shape[0]
    others = [operand(name, x, 1, p.dtype) for name, x in vectors.items()]
    operands = [p, *others, *[p] * (3 - len(others))]
    aligned = all(o.strides[0] == 1 and o.address % 16 == 0 for o in operands)
    places = [number for o in operands for number in (o.address, o.strides[0])]
    settings = [real(x) for x in (rate, decay, *numbers, *[0.0] * (5 - len(numbers)))]
    run(update_of(real, code, aligned), line(-(-n // 4)), stream, n, *places, *settings)


def sgd_update(theta: DeviceArray, grad: DeviceArray, rate: float, decay: float, stream: Stream = 0) -> None:
    """Gradient descent, in place: theta -= rate * (grad + decay * theta).

    Parameters
    ----------
    theta : device array (n,), float32 or float64
        Parameters, any stride.
    grad : device array (n,), dtype of theta
        Gradient.
    rate : float
        Learning rate.
    decay : float
        Coupled weight decay (torch's weight_decay).
    stream : stream, optional
        Where it is queued.
    """
    _update(SGD, theta, {"grad": grad}, stream, rate, decay)


def momentum_update(
    theta: DeviceArray,
    grad: DeviceArray,
    velocity: DeviceArray,
    rate: float,
    momentum: float,
    nesterov: bool,
    decay: float,
    stream: Stream = 0,
) -> None:
    """SGD with momentum, in place; formulas of torch.optim.SGD (Sutskever et al. 2013, rate outside the velocity).

    Parameters
    ----------
    theta : device array (n,), float32 or float64
        Parameters, any stride.
    grad : device array (n,), dtype of theta
        Gradient.
    velocity : device array (n,), dtype of theta
        State, zeros at the start.
    rate : float
        Learning rate.
    momentum : float
        Share of the velocity that is kept.
    nesterov : bool
        Whether to look ahead.
    decay : float
        Coupled weight decay.
    stream : stream, optional
        Where it is queued.
    """
    code = NESTEROV if nesterov else MOMENTUM
    _update(code, theta, {"grad": grad, "velocity": velocity}, stream, rate, decay, momentum)


def rmsprop_update(
    theta: DeviceArray,
    grad: DeviceArray,
    square: DeviceArray,
    velocity: DeviceArray,
    rate: float,
    rho: float,
    eps: float,
    momentum: float,
    decay: float,
    stream: Stream = 0,
) -> None:
    """RMSprop, in place; formulas of torch.optim.RMSprop (Tieleman and Hinton 2012), not centred.

    Parameters
    ----------
    theta : device array (n,), float32 or float64
        Parameters, any stride.
    grad : device array (n,), dtype of theta
        Gradient.
    square, velocity : device array (n,), dtype of theta
        State, zeros at the start.
    rate : float
        Learning rate.
    rho : float
        Smoothing of the squares (torch's alpha).
    eps : float
        Added to the root.
    momentum : float
        Share of the velocity that is kept.
    decay : float
        Coupled weight decay.
    stream : stream, optional
        Where it is queued.
    """
    vectors = {"grad": grad, "square": square, "velocity": velocity}
    _update(RMSPROP, theta, vectors, stream, rate, decay, rho, eps, momentum)


def adam_update(
    theta: DeviceArray,
    grad: DeviceArray,
    first: DeviceArray,
    second: DeviceArray,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    decoupled: float,
    step: int,
    stream: Stream = 0,
) -> None:
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), in place; formulas of torch.optim.

    Parameters
    ----------
    theta : device array (n,), float32 or float64
        Parameters, any stride.
    grad : device array (n,), dtype of theta
        Gradient.
    first, second : device array (n,), dtype of theta
        State, zeros at the start.
    rate : float
        Learning rate.
    beta1, beta2 : float
        Smoothing of the gradient and of its square.
    eps : float
        Added to the root.
    decay : float
        Coupled weight decay (Adam's weight_decay).
    decoupled : float
        Decoupled weight decay (AdamW's weight_decay).
    step : int
        Number of this step, from 1.
    stream : stream, optional
        Where it is queued.
    """
    real = operand("theta", theta, 1).dtype.type
    corrected, shrink, root = adam_factors(real, rate, beta1, beta2, decoupled, step)
    vectors = {"grad": grad, "first": first, "second": second}
    _update(ADAM, theta, vectors, stream, corrected, decay, beta1, beta2, eps, shrink, root)


def adam_factors(real, rate, beta1, beta2, decoupled, step):
    """(rate / (1 - beta1^step), shrink, root correction) of Adam's formula, for numbers or arrays, as float64.

    The betas count as they are in `real`: then 1 - beta, which a float32 kernel takes without rounding, and beta^step
    belong together, and the first steps are corrected exactly.
    """
    beta1, beta2 = float(real(beta1)), float(real(beta2))
    return rate / (1.0 - beta1**step), 1.0 - rate * decoupled, 1.0 / np.sqrt(1.0 - beta2**step)

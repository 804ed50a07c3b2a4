"""Parameter updates: one pass over the flat vector, the moments beside it, four parameters a thread.

theta, grad, first and second are vectors of any stride; a rule that keeps fewer states than two has no second, or
none. n are the numbers of a rule: three that `Rule.prepare` computed for this step, then its settings.
"""

import functools
import math

import numpy as np

from ..annotations import DeviceArray, Stream
from ..formulas import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, RULES, SGD
from ..tables import NUMBERS
from .formulas import formulas_of, found
from .launch import REMEMBERED, checked, line, queue
from .primitives import global_at, load4, store4
from .toolchain import Launch, cuda, for_each_real, kernel

FACTORS = 3  # numbers that `Rule.prepare` computes for a step
_PREPARED = [rule.prepare(np.sqrt) for rule in RULES]
# Of one step, with the same bits sooner
_PREPARED_ONE = [rule.prepare(lambda x: math.sqrt(x) if x > 0 else np.sqrt(x)) for rule in RULES]


def step_numbers(real, rule, rates, settings, steps):
    """What `Rule.prepare` computes for each step: (..., 3), float64.

    The settings count as they are in `real`: so 1 - beta, which a float32 kernel takes without rounding, and beta^step
    belong together, and the first steps of Adam are corrected exactly.

    Parameters
    ----------
    real : type
        numpy.float32 or float64.
    rule : Rule
        From `formulas.RULES`.
    rates, steps : float and int, or arrays of them
        Learning rates and numbers of the steps, from 1.
    settings : sequence of float
        Of the rule.
    """
    shape = np.broadcast_shapes(np.shape(rates), np.shape(steps))
    return write_step_numbers(np.empty((*shape, FACTORS)), real, rule, rates, settings, steps)


def write_step_numbers(out, real, rule, rates, settings, steps):
    """`step_numbers`, written to `out` (..., 3) of any real dtype, and returned."""
    for i, number in enumerate(_PREPARED[rule.code](rates, _rounded(real, *settings)[0], steps)):
        out[..., i] = number
    return out


@functools.lru_cache(REMEMBERED)
def _rounded(real, *settings):
    """Settings as they are in `real`: as floats, and as the last arguments of a kernel."""
    numbers = [real(setting) for setting in settings]
    return [float(number) for number in numbers], [*numbers, *[real(0.0)] * (NUMBERS - FACTORS - len(numbers))]


@for_each_real
def rule_of(real, code):
    """f(theta, grad, first, second, decay, n) of a rule, giving what replaces theta, first and second."""
    return found(formulas_of(real).rules, code, "an update rule")


@for_each_real
def update_of(real, code, aligned):
    """One rule over a vector: four elements at once where they are consecutive and aligned, else any strides."""
    rule, states = rule_of(real, code), len(RULES[code].states)
    zero = real(0.0)

    @kernel(256)
    def update(size, theta, by_p, grad, by_g, first, by_m, second, by_v, decay, n0, n1, n2, n3, n4, n5, n6):
        p, g = global_at(theta, real), global_at(grad, real)
        m, v = global_at(first, real), global_at(second, real)
        i, n = 4 * cuda.grid(1), (n0, n1, n2, n3, n4, n5, n6)
        if aligned and i + 4 <= size:
            p0, p1, p2, p3 = load4(p + i)
            g0, g1, g2, g3 = load4(g + i)
            m0 = m1 = m2 = m3 = v0 = v1 = v2 = v3 = zero
            if states > 0:
                m0, m1, m2, m3 = load4(m + i)
            if states > 1:
                v0, v1, v2, v3 = load4(v + i)
            p0, m0, v0 = rule(p0, g0, m0, v0, decay, n)
            p1, m1, v1 = rule(p1, g1, m1, v1, decay, n)
            p2, m2, v2 = rule(p2, g2, m2, v2, decay, n)
            p3, m3, v3 = rule(p3, g3, m3, v3, decay, n)
            store4(p + i, p0, p1, p2, p3)
            if states > 0:
                store4(m + i, m0, m1, m2, m3)
            if states > 1:
                store4(v + i, v0, v1, v2, v3)
        else:
            for k in range(i, min(i + 4, size)):
                old_m = m[k * by_m] if states > 0 else zero
                old_v = v[k * by_v] if states > 1 else zero
                new, new_m, new_v = rule(p[k * by_p], g[k * by_g], old_m, old_v, decay, n)
                p[k * by_p] = new
                if states > 0:
                    m[k * by_m] = new_m
                if states > 1:
                    v[k * by_v] = new_v

    return update


@functools.lru_cache(REMEMBERED)
def _over(code, theta, *others):
    """The launch of a rule over some operands, which lacks the numbers of a step."""
    real, size, operands = theta.dtype.type, theta.shape[0], [theta, *others, *[theta] * (3 - len(others))]
    aligned = all(each.strides[0] == 1 and each.address % 16 == 0 for each in operands)
    places = [number for each in operands for number in (each.address, each.strides[0])]
    shape, numbers = line(-(-size // 4)), (1 + NUMBERS) * (real,)
    return Launch(update_of(real, code, aligned), *shape, 0, (size, *places), numbers)


@functools.lru_cache(REMEMBERED)
def _around(real, decay, *settings):
    """Settings as `step_numbers` takes them, and the arguments of a kernel before and behind the numbers of a step."""
    rounded, last = _rounded(real, *settings)
    return rounded, real(decay), last


@functools.lru_cache(REMEMBERED)
def _numbers(code, real, rate, decay, *settings):
    """All numbers of a rule for which they are the same in each step."""
    rounded, decay, last = _around(real, decay, *settings)
    return decay, *map(real, _PREPARED_ONE[code](rate, rounded, 1)), *last


def _update(code, operands, stream, rate, decay, *settings, step=None):
    """Queue an update; `step` where the numbers of the rule are others in each."""
    real, launches = operands[0].dtype.type, (_over(code, *operands),)
    if step is None:
        queue(launches, stream, *_numbers(code, real, rate, decay, *settings))
        return
    rounded, decay, last = _around(real, decay, *settings)
    queue(launches, stream, decay, *map(real, _PREPARED_ONE[code](rate, rounded, step)), *last)


@checked(changing=True)
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
    _update(SGD, (theta, grad), stream, rate, decay)


@checked(changing=True)
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
    _update(code, (theta, grad, velocity), stream, rate, decay, momentum)


@checked(changing=True)
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
    _update(RMSPROP, (theta, grad, square, velocity), stream, rate, decay, rho, eps, momentum)


@checked(changing=True)
def adagrad_update(
    theta: DeviceArray,
    grad: DeviceArray,
    square: DeviceArray,
    rate: float,
    eps: float,
    rate_decay: float,
    decay: float,
    step: int,
    stream: Stream = 0,
) -> None:
    """Adagrad (Duchi, Hazan and Singer 2011), in place; formulas of torch.optim.Adagrad.

    Parameters
    ----------
    theta : device array (n,), float32 or float64
        Parameters, any stride.
    grad : device array (n,), dtype of theta
        Gradient.
    square : device array (n,), dtype of theta
        State, zeros at the start.
    rate : float
        Learning rate.
    eps : float
        Added to the root.
    rate_decay : float
        Step number `step` divides the rate by 1 + rate_decay * (step - 1) (torch's lr_decay).
    decay : float
        Coupled weight decay.
    step : int
        Number of this step, from 1.
    stream : stream, optional
        Where it is queued.
    """
    _update(ADAGRAD, (theta, grad, square), stream, rate, decay, eps, rate_decay, step=step)


@checked(changing=True)
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
    _update(ADAM, (theta, grad, first, second), stream, rate, decay, beta1, beta2, eps, decoupled, step=step)

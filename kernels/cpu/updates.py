"""Parameter updates: one pass over the flat vector, the state beside it."""

from math import sqrt

from ..annotations import Floats
from ..options import EXACT, jit
from .formulas import VECTOR
from .memory import address_of
from .simd import lanes, like, load_part, load_strided, select, store_part, store_strided, total

_sgd, _momentum, _rmsprop, _adam = VECTOR.sgd, VECTOR.momentum, VECTOR.rmsprop, VECTOR.adam


@jit(EXACT)
def sgd(count, theta, by_theta, grad, by_grad, rate, decay):
    """Theta -= rate * (grad + decay * theta), from pointers and strides."""
    for i in range(0, count, lanes(theta)):
        left = count - i
        p = theta + i * by_theta
        new = _sgd(load_strided(p, by_theta, left), load_strided(grad + i * by_grad, by_grad, left), rate, decay)
        store_strided(p, by_theta, new, left)


@jit(EXACT)
def momentum_pass(count, theta, by_theta, grad, by_grad, velocity, by_velocity, rate, keep, nesterov, decay):
    """SGD with (Nesterov) momentum, from pointers and strides."""
    for i in range(0, count, lanes(theta)):
        left = count - i
        p, q = theta + i * by_theta, velocity + i * by_velocity
        g = load_strided(grad + i * by_grad, by_grad, left)
        old, v = load_strided(p, by_theta, left), load_strided(q, by_velocity, left)
        new, v = _momentum(old, g, v, rate, keep, nesterov, decay)
        store_strided(p, by_theta, new, left)
        store_strided(q, by_velocity, v, left)


@jit(EXACT)
def rmsprop(
    count, theta, by_theta, grad, by_grad, square, by_square, velocity, by_velocity, rate, rho, eps, keep, decay
):
    """RMSprop, from pointers and strides."""
    for i in range(0, count, lanes(theta)):
        left = count - i
        p, q, r = theta + i * by_theta, square + i * by_square, velocity + i * by_velocity
        g = load_strided(grad + i * by_grad, by_grad, left)
        old, s, v = (
            load_strided(p, by_theta, left),
            load_strided(q, by_square, left),
            load_strided(r, by_velocity, left),
        )
        new, s, v = _rmsprop(old, g, s, v, rate, rho, eps, keep, decay)
        store_strided(p, by_theta, new, left)
        store_strided(q, by_square, s, left)
        store_strided(r, by_velocity, v, left)


@jit(EXACT)
def adam(
    count,
    theta,
    by_theta,
    grad,
    by_grad,
    first,
    by_first,
    second,
    by_second,
    rate,
    beta1,
    beta2,
    eps,
    decay,
    shrink,
    root_correction,
):
    """Adam and AdamW, from pointers and strides; the last two and `rate` as in the formula."""
    for i in range(0, count, lanes(theta)):
        left = count - i
        p, q, r = theta + i * by_theta, first + i * by_first, second + i * by_second
        g = load_strided(grad + i * by_grad, by_grad, left)
        old, m, v = load_strided(p, by_theta, left), load_strided(q, by_first, left), load_strided(r, by_second, left)
        new, m, v = _adam(old, g, m, v, rate, beta1, beta2, eps, decay, shrink, root_correction)
        store_strided(p, by_theta, new, left)
        store_strided(q, by_first, m, left)
        store_strided(r, by_second, v, left)


@jit(EXACT)
def penalize_and_clip(count, theta, grad, l2, limit):
    """Grad += l2 * theta, then each element limited to [-limit, limit]; gives the sum of their squares."""
    result = 0.0
    for i in range(0, count, lanes(theta)):
        left = count - i
        g = load_part(grad + i, left) + load_part(theta + i, left) * l2
        g = select(g > limit, limit, select(g < -limit, like(-limit, g), g))
        store_part(grad + i, g, left)
        result += total(g * g)
    return result


@jit(EXACT)
def scale(count, grad, by):
    """Grad *= by, where it changes anything."""
    if by != 1.0:
        for i in range(0, count, lanes(grad)):
            store_part(grad + i, load_part(grad + i, count - i) * by, count - i)


@jit(EXACT)
def squares(count, theta):
    """Sum of theta^2 over consecutive elements, as float64."""
    result = 0.0
    for i in range(0, count, lanes(theta)):
        value = load_strided(theta + i, 1, count - i)
        result += total(value * value)
    return result


@jit(EXACT, public=True)
def sgd_update(theta: Floats, grad: Floats, rate: float, decay: float) -> None:
    """Gradient descent, in place: theta -= rate * (grad + decay * theta).

    Parameters
    ----------
    theta : array (n,), float32 or float64
        Parameters, any stride.
    grad : array (n,), dtype of theta
        Gradient.
    rate : float
        Learning rate.
    decay : float
        Coupled weight decay (torch's weight_decay).
    """
    size = theta.itemsize
    sgd(theta.size, address_of(theta), theta.strides[0] // size, address_of(grad), grad.strides[0] // size, rate, decay)


@jit(EXACT, public=True)
def momentum_update(
    theta: Floats, grad: Floats, velocity: Floats, rate: float, momentum: float, nesterov: bool, decay: float
) -> None:
    """SGD with momentum, in place; formulas of torch.optim.SGD (Sutskever et al. 2013, rate outside the velocity).

    Parameters
    ----------
    theta : array (n,), float32 or float64
        Parameters, any stride.
    grad : array (n,), dtype of theta
        Gradient.
    velocity : array (n,), dtype of theta
        State, zeros at the start.
    rate : float
        Learning rate.
    momentum : float
        Share of the velocity that is kept.
    nesterov : bool
        Whether to look ahead.
    decay : float
        Coupled weight decay.
    """
    s = theta.itemsize
    by_theta, by_grad, by_velocity = theta.strides[0] // s, grad.strides[0] // s, velocity.strides[0] // s
    p, g, v = address_of(theta), address_of(grad), address_of(velocity)
    momentum_pass(theta.size, p, by_theta, g, by_grad, v, by_velocity, rate, momentum, nesterov, decay)


@jit(EXACT, public=True)
def rmsprop_update(
    theta: Floats,
    grad: Floats,
    square: Floats,
    velocity: Floats,
    rate: float,
    rho: float,
    eps: float,
    momentum: float,
    decay: float,
) -> None:
    """RMSprop, in place; formulas of torch.optim.RMSprop (Tieleman and Hinton 2012), not centred.

    Parameters
    ----------
    theta : array (n,), float32 or float64
        Parameters, any stride.
    grad : array (n,), dtype of theta
        Gradient.
    square, velocity : array (n,), dtype of theta
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
    """
    z = theta.itemsize
    by_theta, by_grad = theta.strides[0] // z, grad.strides[0] // z
    by_square, by_velocity = square.strides[0] // z, velocity.strides[0] // z
    p, g, s, v = address_of(theta), address_of(grad), address_of(square), address_of(velocity)
    rmsprop(theta.size, p, by_theta, g, by_grad, s, by_square, v, by_velocity, rate, rho, eps, momentum, decay)


@jit(EXACT, public=True)
def adam_update(
    theta: Floats,
    grad: Floats,
    first: Floats,
    second: Floats,
    rate: float,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
    decoupled: float,
    step: int,
) -> None:
    """Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), in place; formulas of torch.optim.

    Parameters
    ----------
    theta : array (n,), float32 or float64
        Parameters, any stride.
    grad : array (n,), dtype of theta
        Gradient.
    first, second : array (n,), dtype of theta
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
    """
    z = theta.itemsize
    by_theta, by_grad = theta.strides[0] // z, grad.strides[0] // z
    by_first, by_second = first.strides[0] // z, second.strides[0] // z
    p, g, m, v = address_of(theta), address_of(grad), address_of(first), address_of(second)
    corrected, shrink, root = rate / (1.0 - beta1**step), 1.0 - rate * decoupled, 1.0 / sqrt(1.0 - beta2**step)
    n = theta.size
    adam(n, p, by_theta, g, by_grad, m, by_first, v, by_second, corrected, beta1, beta2, eps, decay, shrink, root)

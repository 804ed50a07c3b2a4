"""Parameter updates: one pass over a part of the flat vector, the states of the rule beside it.

Symbols: theta, grad: pointers into the parameters and their gradient; first, second: the states of the rule, in its
order; inc_: elements from one to the next; n: what a rule gets beside the vectors, three numbers of the step and its
settings (`kernels.formulas.Rule`).
"""

from math import sqrt

from ..annotations import Floats
from ..compiler import jit
from ..formulas import ADAGRAD, ADAM, MOMENTUM, NESTEROV, RMSPROP, RULES, SGD, constant_rate
from ..options import EXACT
from ..tables import BY_NORM, Real, Run
from .block import UPDATE_PART
from .formulas import vector_formula
from .memory import address_of, call, pointer_at
from .simd import lanes, like, load_part, load_strided, select, store_part, store_strided, total
from .units import unit


def _pass_of(rule):
    """One rule over pointers and strides; vectors of states that the rule lacks are not touched."""
    formula, has_first, has_second = vector_formula(rule), len(rule.states) > 0, len(rule.states) > 1

    @jit(EXACT)
    def update(count, theta, inc_theta, grad, inc_grad, first, inc_first, second, inc_second, decay, n):
        for i in range(0, count, lanes(theta)):
            left = count - i
            p, q, r = theta + i * inc_theta, first + i * inc_first, second + i * inc_second
            old, g = load_strided(p, inc_theta, left), load_strided(grad + i * inc_grad, inc_grad, left)
            m = load_strided(q, inc_first, left) if has_first else g
            v = load_strided(r, inc_second, left) if has_second else g
            new, m, v = formula(old, g, m, v, decay, n)
            store_strided(p, inc_theta, new, left)
            if has_first:
                store_strided(q, inc_first, m, left)
            if has_second:
                store_strided(r, inc_second, v, left)

    return update


def _update_unit(rule, update_pass):
    def update(count, theta, grad, first, second, decay, numbers):
        n = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]
        update_pass(count, theta, 1, grad, 1, first, 1, second, 1, decay, n)

    update.__name__ = update.__qualname__ = f"update_{rule.name}"
    return unit(EXACT, "iPPPPfR")(update)


def _prepare_unit(rule):
    prepare_step = jit(EXACT)(rule.prepare(sqrt))

    def prepare(numbers, rate, step):
        numbers[0], numbers[1], numbers[2] = prepare_step(rate, numbers + 3, step)

    prepare.__name__ = prepare.__qualname__ = f"prepare_{rule.name}"
    return unit(EXACT, "Rfi")(prepare)


_passes = [_pass_of(rule) for rule in RULES]
_units = [(_update_unit(rule, each), _prepare_unit(rule)) for rule, each in zip(RULES, _passes, strict=True)]


def addresses_of_rule(rule, dtype):
    """Addresses of a rule: update (count, theta, grad, first, second, decay, n), preparation (n, rate, step) or 0."""
    update, prepare = _units[rule.code]
    return update.address(dtype), 0 if rule.prepare is constant_rate else prepare.address(dtype)


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
        value = load_part(theta + i, count - i)
        result += total(value * value)
    return result


@jit(EXACT)
def visit(run, reals, theta, at, count, gradient, l2, collects, changes):
    """What a task does with `count` parameters from `at` on; gives the sum of the squares of what it collects.

    Where it `collects`, clipping acts on the gradient and on what l2 adds to it; where it `changes` them, a clipped
    gradient is scaled and the rule is applied.
    """
    squares, clips = 0.0, run[Run.CLIPS] != 0
    coupled = reals[Real.WEIGHT_DECAY] + (0.0 if clips else l2)
    if clips and collects:
        squares = penalize_and_clip(count, theta + at, gradient, l2, reals[Real.CLIP_VALUE])
    elif clips:
        scale(count, gradient, reals[Real.GRADIENT_SCALE])
    if changes:
        first, second = pointer_at(run[Run.FIRST_MOMENT], theta) + at, pointer_at(run[Run.SECOND_MOMENT], theta) + at
        call(run[Run.UPDATE], (count, theta + at, gradient, first, second, coupled, reals + Real.RATE))
    return squares


@jit(EXACT)
def note_squares(run, reals, index, task, squares):
    """Write down the sum of the squares of the gradient of a part, where the norm of all of it is wanted."""
    if run[Run.CLIPS] & BY_NORM != 0 and task != UPDATE_PART:
        sums = pointer_at(run[Run.SQUARES], reals)
        sums[index] = squares


_sgd, _momentum, _nesterov = _passes[SGD], _passes[MOMENTUM], _passes[NESTEROV]
_rmsprop, _adam, _adam_step = _passes[RMSPROP], _passes[ADAM], jit(EXACT)(RULES[ADAM].prepare(sqrt))
_adagrad, _adagrad_step = _passes[ADAGRAD], jit(EXACT)(RULES[ADAGRAD].prepare(sqrt))


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
    p, g, inc_theta, inc_grad = address_of(theta), address_of(grad), theta.strides[0] // size, grad.strides[0] // size
    _sgd(theta.size, p, inc_theta, g, inc_grad, p, 0, p, 0, decay, (rate,))


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
    inc_theta, inc_grad, inc_velocity = theta.strides[0] // s, grad.strides[0] // s, velocity.strides[0] // s
    p, g, v = address_of(theta), address_of(grad), address_of(velocity)
    n = rate, 1.0, 1.0, momentum
    if nesterov:
        _nesterov(theta.size, p, inc_theta, g, inc_grad, v, inc_velocity, p, 0, decay, n)
    else:
        _momentum(theta.size, p, inc_theta, g, inc_grad, v, inc_velocity, p, 0, decay, n)


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
    inc_theta, inc_grad = theta.strides[0] // z, grad.strides[0] // z
    inc_square, inc_velocity = square.strides[0] // z, velocity.strides[0] // z
    p, g, s, v = address_of(theta), address_of(grad), address_of(square), address_of(velocity)
    n = rate, 1.0, 1.0, rho, eps, momentum
    _rmsprop(theta.size, p, inc_theta, g, inc_grad, s, inc_square, v, inc_velocity, decay, n)


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
    inc_theta, inc_grad = theta.strides[0] // z, grad.strides[0] // z
    inc_first, inc_second = first.strides[0] // z, second.strides[0] // z
    p, g, m, v = address_of(theta), address_of(grad), address_of(first), address_of(second)
    corrected, shrink, root_correction = _adam_step(rate, (beta1, beta2, eps, decoupled), step)
    n = corrected, shrink, root_correction, beta1, beta2, eps
    _adam(theta.size, p, inc_theta, g, inc_grad, m, inc_first, v, inc_second, decay, n)


@jit(EXACT, public=True)
def adagrad_update(
    theta: Floats, grad: Floats, square: Floats, rate: float, eps: float, rate_decay: float, decay: float, step: int
) -> None:
    """Adagrad (Duchi, Hazan and Singer 2011), in place; formulas of torch.optim.Adagrad.

    Parameters
    ----------
    theta : array (n,), float32 or float64
        Parameters, any stride.
    grad : array (n,), dtype of theta
        Gradient.
    square : array (n,), dtype of theta
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
    """
    z = theta.itemsize
    inc_theta, inc_grad, inc_square = theta.strides[0] // z, grad.strides[0] // z, square.strides[0] // z
    p, g, s = address_of(theta), address_of(grad), address_of(square)
    n = _adagrad_step(rate, (eps, rate_decay), step)[0], 1.0, 1.0, eps
    _adagrad(theta.size, p, inc_theta, g, inc_grad, s, inc_square, p, 0, decay, n)

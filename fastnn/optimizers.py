"""Optimizers: hyperparameters, and the name of the rule that uses them. Formulas and defaults are torch's.

To add an optimizer, add its class here and to __all__: `rule` names a rule of `kernels/formulas.py`, and an attribute
has the name of each of the rule's settings.
"""

from typing import Any

from . import backends, shown
from .errors import must_be
from .schedules import Constant, Schedule, as_schedule
from .validation import choice, number

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]


class Optimizer:
    """An update rule, by its name in `rule`, with its settings as attributes, which cannot be changed."""

    rule: str

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self):
            raise AttributeError(f"{name} of an optimizer cannot be changed: make a new {type(self).__name__}")
        super().__setattr__(name, value)

    def __init__(
        self, learning_rate: float | Schedule, weight_decay: float, clip_norm: float | None, clip_value: float | None
    ) -> None:
        self.learning_rate = as_schedule(learning_rate)
        self.weight_decay = number("weight_decay", weight_decay, low=0.0)
        self.clip_norm = None if clip_norm is None else number("clip_norm", clip_norm, above=0.0)
        self.clip_value = None if clip_value is None else number("clip_value", clip_value, above=0.0)

    @property
    def coupled_decay(self) -> float:
        """Share of every parameter that is added to its gradient."""
        return self.weight_decay

    def settings(self) -> dict[str, float]:
        """The numbers that its rule takes, by name."""
        return {name: getattr(self, name) for name in backends.RULES[self.rule].settings}

    def __repr__(self) -> str:
        rate = self.learning_rate
        return shown.call(self, learning_rate=rate.rate if type(rate) is Constant else rate)


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's variant (torch.optim.SGD).

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size.
    momentum : float
        Share of the velocity that is kept, in [0, 1).
    nesterov : bool
        Look ahead along the velocity; needs momentum.
    weight_decay : float
        Adds weight_decay * parameter to every gradient.
    clip_norm : float, optional
        Limit of the norm of the whole gradient, after clip_value (`torch.nn.utils.clip_grad_norm_`).
    clip_value : float, optional
        Limit of each element of the gradient, which has its l2 term and not yet weight_decay.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.momentum = number("momentum", momentum, low=0.0, below=1.0)
        if not isinstance(nesterov, bool):
            raise must_be("nesterov", "a bool", nesterov, TypeError)
        if nesterov and not self.momentum:
            raise must_be("nesterov", "False where momentum is 0", nesterov)
        self.nesterov = nesterov

    @property
    def rule(self) -> str:
        """sgd, momentum or nesterov."""
        return "nesterov" if self.nesterov else "momentum" if self.momentum else "sgd"


class RMSprop(Optimizer):
    """Gradients divided by a running root mean square (Tieleman and Hinton 2012; torch.optim.RMSprop).

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size.
    rho : float
        Smoothing of the squares, in [0, 1) (torch's alpha).
    eps : float
        Added to the root.
    momentum : float
        Share of the velocity that is kept, in [0, 1).
    weight_decay : float
        Adds weight_decay * parameter to every gradient.
    clip_norm : float, optional
        Limit of the norm of the whole gradient, after clip_value (`torch.nn.utils.clip_grad_norm_`).
    clip_value : float, optional
        Limit of each element of the gradient, which has its l2 term and not yet weight_decay.
    """

    rule = "rmsprop"

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        rho: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.rho, self.eps = number("rho", rho, low=0.0, below=1.0), number("eps", eps, above=0.0)
        self.momentum = number("momentum", momentum, low=0.0, below=1.0)


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far (Duchi et al. 2011; torch.optim.Adagrad).

    The steps of a parameter shrink with its own gradients, so what is rarely met keeps learning.

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size.
    rate_decay : float
        Each step divides the rate by 1 + rate_decay * (steps before it) (torch's lr_decay).
    eps : float
        Added to the root.
    weight_decay : float
        Adds weight_decay * parameter to every gradient.
    clip_norm : float, optional
        Limit of the norm of the whole gradient, after clip_value (`torch.nn.utils.clip_grad_norm_`).
    clip_value : float, optional
        Limit of each element of the gradient, which has its l2 term and not yet weight_decay.
    """

    rule = "adagrad"

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-2,
        rate_decay: float = 0.0,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.rate_decay, self.eps = number("rate_decay", rate_decay, low=0.0), number("eps", eps, above=0.0)


class Adam(Optimizer):
    """Adaptive moments (Kingma and Ba 2015; torch.optim.Adam).

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size.
    beta1, beta2 : float
        Smoothing of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float
        Adds weight_decay * parameter to every gradient.
    clip_norm : float, optional
        Limit of the norm of the whole gradient, after clip_value (`torch.nn.utils.clip_grad_norm_`).
    clip_value : float, optional
        Limit of each element of the gradient, which has its l2 term and not yet weight_decay.
    """

    rule = "adam"
    decoupled = 0.0  # decay of the parameters themselves

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, clip_value)
        self.beta1 = number("beta1", beta1, low=0.0, below=1.0)
        self.beta2 = number("beta2", beta2, low=0.0, below=1.0)
        self.eps = number("eps", eps, above=0.0)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019; torch.optim.AdamW).

    Parameters
    ----------
    learning_rate : float or Schedule
        Step size.
    beta1, beta2 : float
        Smoothing of the gradient and of its square, in [0, 1).
    eps : float
        Added to the root.
    weight_decay : float
        Each step shrinks every parameter by learning_rate * weight_decay of itself.
    clip_norm : float, optional
        Limit of the norm of the whole gradient, after clip_value (`torch.nn.utils.clip_grad_norm_`).
    clip_value : float, optional
        Limit of each element of the gradient, which has its l2 term and not yet weight_decay.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        super().__init__(learning_rate, beta1, beta2, eps, weight_decay, clip_norm, clip_value)

    @property
    def decoupled(self) -> float:
        """Decay of the parameters themselves: weight_decay."""
        return self.weight_decay

    @property
    def coupled_decay(self) -> float:
        """None: its decay is decoupled."""
        return 0.0


NAMES: dict[str, type[Optimizer]] = {name.lower(): globals()[name] for name in __all__}


def made(optimizer):
    """The optimizer that a user gives: as it is, by its name, which means its defaults, or None for Adam()."""
    if optimizer is None:
        return Adam()
    if isinstance(optimizer, str):
        return NAMES[choice("optimizer", optimizer, list(NAMES))]()
    if not isinstance(optimizer, Optimizer):
        raise must_be("optimizer", "a fastnn optimizer such as fastnn.Adam(), or its name", optimizer, TypeError)
    return optimizer

"""What a layer is: its size, its activation, and how its parameters start."""

from . import backends, custom
from .custom import Pair
from .errors import must_be, unknown_name
from .initializers import NAMES
from .validation import number, size

_HE = ("relu", "leaky_relu", "elu", "softplus", "silu", "gelu", "gelu_tanh")


class Dense:
    """A fully connected layer: g(W x + b).

    Parameters
    ----------
    units : int
        Number of outputs.
    activation : str or tuple
        linear, sigmoid, tanh, relu, leaky_relu, elu, softplus, silu, gelu (exact), gelu_tanh, or, for the output of a
        classifier, softmax. Or a pair (f, df) of your own @njit functions of one number, df(z) the derivative of f(z);
        they are compared by central differences.
    alpha : float, optional
        Slope of leaky_relu below zero (default 0.01) or scale of elu (default 1.0), not negative.
    kernel_initializer : str, optional
        How W starts: zeros, normal, uniform, or glorot, he or lecun with _normal or _uniform. Default: he_normal for
        relu and its relatives, else glorot_uniform.
    bias_initializer : str
        How b starts, from the same names.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def __init__(
        self,
        units: int,
        activation: str | Pair = "linear",
        alpha: float | None = None,
        kernel_initializer: str | None = None,
        bias_initializer: str = "zeros",
    ) -> None:
        self.units = size("units", units)
        if isinstance(activation, tuple):
            custom.check_activation(activation)
        elif activation not in backends.ACTIVATIONS:
            raise unknown_name("activation", activation, backends.ACTIVATIONS)
        self.activation = activation
        default = backends.DEFAULT_ALPHA.get(activation)
        if alpha is not None and default is None:
            raise must_be("alpha", f"None for activation {activation!r}", alpha)
        self.alpha = number("alpha", default if alpha is None else alpha, low=0.0) if default is not None else None
        if kernel_initializer is None:
            kernel_initializer = "he_normal" if activation in _HE else "glorot_uniform"
        for name, value in (("kernel_initializer", kernel_initializer), ("bias_initializer", bias_initializer)):
            if value not in NAMES:
                raise unknown_name(name, value, NAMES)
        self.kernel_initializer, self.bias_initializer = kernel_initializer, bias_initializer

    def __repr__(self) -> str:
        alpha = "" if self.alpha is None else f", alpha={self.alpha:g}"
        return f"Dense({self.units}, {custom.shown(self.activation)}{alpha})"


class Dropout:
    """Drops outputs of the layer before it, or features, at random while training (Srivastava et al. 2014).

    What is kept is divided by the share that is kept, so that prediction needs no change. The mask is a function of the
    net's seed, the epoch, the sample's place in the epoch and the unit: the same on any number of threads.

    Parameters
    ----------
    rate : float
        Share that is dropped, in [0, 1).

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def __init__(self, rate: float) -> None:
        self.rate = number("rate", rate, low=0.0, below=1.0)

    def __repr__(self) -> str:
        return f"Dropout({self.rate:g})"

"""What a layer is: how it is made, stored, shown, what the kernels compute for it, and how ONNX writes it.

To add a kind of layer, add its class here and to KINDS, and its operation to `kernels/program.py`.
"""

import inspect
from typing import Any, ClassVar

import numpy as np

from . import backends, custom
from .custom import Pair
from .errors import must_be
from .initializers import DEFAULT, NAMES, initialize
from .validation import choice, number, size

__all__ = ["Dense", "Dropout"]


class Layer:
    """Base of the layers. A layer cannot be changed: nets that were built with it rely on it.

    Attributes
    ----------
    arrays : tuple of str
        Names of the arrays of its parameters; empty where it has none. A net ends with a layer that has some.
    units : int or None
        Number of outputs; None where it is that of its inputs.
    activation : str, tuple or None
        What its outputs go through.
    """

    arrays: ClassVar[tuple[str, ...]] = ()
    units: Any = None
    activation: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{name} of a layer cannot be changed: make a new {type(self).__name__}")

    @property
    def title(self) -> str:
        """Name of its kind."""
        return type(self).__name__

    @classmethod
    def argument_names(cls) -> tuple[str, ...]:
        """Names of the arguments that files keep."""
        return tuple(inspect.signature(cls).parameters)

    def arguments(self) -> dict[str, Any]:
        """What its class makes it of again, by the name of the argument."""
        return {name: getattr(self, name) for name in self.argument_names()}

    def operations(self, number: int) -> list[Any]:
        """What the kernels compute for it.

        Parameters
        ----------
        number : int
            Layers with parameters before it.

        Returns
        -------
        list
            Operations of `kernels.program`.
        """
        raise NotImplementedError

    def initialize(self, arrays: Any, rng: Any) -> None:
        """Draw starting values.

        Parameters
        ----------
        arrays : list of array
            Those of its parameters; written to.
        rng : numpy.random.Generator
            Source of randomness.
        """

    def add_to_onnx(self, graph: Any, value: str, names: list[str]) -> str:
        """Its nodes in ONNX, up to the activation.

        Parameters
        ----------
        graph : exchange.Graph
            Receives them.
        value : str
            Name of its input.
        names : list of str
            Those of the arrays of its parameters, such as W1 and b1.

        Returns
        -------
        str
            Name of its output.
        """
        if self.arrays:
            raise NotImplementedError(f"{type(self).__name__} has no nodes in ONNX")
        return value


class Dense(Layer):
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
    kernel_initializer : str
        How W starts: zeros, normal, uniform, or glorot, he or lecun with _normal or _uniform.
    bias_initializer : str
        How b starts, from the same names.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    arrays = ("W", "b")
    units: int
    activation: str | Pair
    alpha: float | None
    kernel_initializer: str
    bias_initializer: str

    def __init__(
        self,
        units: int,
        activation: str | Pair = "linear",
        alpha: float | None = None,
        kernel_initializer: str = DEFAULT,
        bias_initializer: str = "zeros",
    ) -> None:
        units = size("units", units)
        if isinstance(activation, tuple):
            custom.check_activation(activation)
        else:
            choice("activation", activation, list(backends.ACTIVATIONS))
        record = backends.activation(activation)
        if alpha is not None and record.alpha is None:
            raise must_be("alpha", f"None for activation {activation!r}", alpha)
        if record.alpha is not None:
            alpha = number("alpha", record.alpha if alpha is None else alpha, low=0.0)
        for name, value in (("kernel_initializer", kernel_initializer), ("bias_initializer", bias_initializer)):
            choice(name, value, NAMES)
        initializers = {"kernel_initializer": kernel_initializer, "bias_initializer": bias_initializer}
        vars(self).update(units=units, activation=activation, alpha=alpha, **initializers)

    def operations(self, number: int) -> list[Any]:
        """One product, with bias and activation.

        Parameters
        ----------
        number : int
            Layers with parameters before it.

        Returns
        -------
        list
            Operations of `kernels.program`.
        """
        return [backends.operations.Dense(self.units, backends.activation(self.activation), self.alpha or 0.0)]

    def initialize(self, arrays: Any, rng: Any) -> None:
        """Draw W, then b.

        Parameters
        ----------
        arrays : list of array
            W (units, n_in) and b (units,); written to.
        rng : numpy.random.Generator
            Source of randomness.
        """
        n_out, n_in = arrays[0].shape
        for array, name in zip(arrays, (self.kernel_initializer, self.bias_initializer), strict=True):
            array[...] = initialize(name, max(n_in, 1), n_out, array.shape, rng)  # one-hot codes alone leave no n_in

    def add_to_onnx(self, graph: Any, value: str | None, names: list[str]) -> str:
        """The product and b.

        Parameters
        ----------
        graph : exchange.Graph
            Receives them.
        value : str or None
            Name of its input; None where it has no columns.
        names : list of str
            Those of W and b.

        Returns
        -------
        str
            Name of its output.
        """
        W, b = names
        name: str
        if value is None:
            name = b
        elif graph.dtype == "float64":  # where ONNX Runtime 1.16 fuses Gemm and Tanh into an operator that it lacks
            name = graph.add("Add", graph.add("MatMul", value, graph.add("Transpose", W)), b)
        else:
            name = graph.add("Gemm", value, W, b, transB=1)
        if graph.added is not None:  # by one-hot codes
            name, graph.added = graph.add("Add", name, graph.added), None
        return name

    def __repr__(self) -> str:
        alpha = "" if self.alpha is None else f", alpha={self.alpha:g}"
        return f"Dense({self.units}, {custom.shown(self.activation)}{alpha})"


class Dropout(Layer):
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

    rate: float

    def __init__(self, rate: float) -> None:
        vars(self).update(rate=number("rate", rate, low=0.0, below=1.0))

    def operations(self, number: int) -> list[Any]:
        """One mask; none where nothing is dropped.

        Parameters
        ----------
        number : int
            Layers with parameters before it.

        Returns
        -------
        list
            Operations of `kernels.program`.
        """
        return [backends.operations.Dropout(self.rate, number)] if self.rate else []

    def __repr__(self) -> str:
        return f"Dropout({self.rate:g})"


def array_names(layers):
    """Names of the arrays of some bound layers."""
    trained = [layer for layer in layers if layer.arrays]
    return [f"{name}{i}" for i, layer in enumerate(trained, 1) for name in layer.arrays]


def starting_values(layers, program, seed, dtype):
    """The parameters (program.size,) that a net of these bound layers starts with: a function of the seed alone."""
    parameters = np.zeros(program.size, dtype)
    trained = [layer for layer in layers if layer.arrays]
    for i, (layer, views) in enumerate(zip(trained, program.views(parameters), strict=True)):
        layer.initialize(views, np.random.default_rng((seed, i)))
    return parameters


KINDS: dict[str, type[Layer]] = {kind.__name__: kind for kind in (Dense, Dropout)}

"""What a net is: layers, a loss, and parameters in one flat vector."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from . import backends, custom, exchange, inference, standardization, storage, validation
from .backends import Floats
from .custom import Pair
from .errors import NotBuiltError, described, must_be, unknown_name
from .inference import Frozen
from .initializers import initialize
from .layers import Dense, Dropout
from .storage import PathLike

FUSED = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}


class Net:
    """The part of `Sequential` that needs no data."""

    def __init__(
        self,
        layers: Sequence[Dense | Dropout],
        loss: str | Pair | None = None,
        dtype: DTypeLike = "float32",
        device: str = "cpu",
        seed: int = 0,
        huber_delta: float = 1.0,
        standardize: bool = False,
        precision: str = "float32",
    ) -> None:
        accepted = "a list of fastnn.Dense, with at most one fastnn.Dropout before each"
        if not isinstance(layers, list | tuple) or not all(isinstance(layer, Dense | Dropout) for layer in layers):
            raise must_be("layers", accepted, layers, TypeError)
        dropped = [isinstance(layer, Dropout) for layer in layers]
        if not layers or dropped[-1] or any(a and b for a, b in zip(dropped, dropped[1:], strict=False)):
            raise must_be("layers", accepted, layers)
        self.layers = list(layers)
        self.dense = [layer for layer in layers if isinstance(layer, Dense)]
        last = self.dense[-1].activation
        if any(layer.activation == "softmax" for layer in self.dense[:-1]):
            raise must_be("activation", "other than 'softmax' before the last layer", "softmax")
        if loss is None:
            loss = {activation: name for name, activation in FUSED.items()}.get(last, "mse")
        if isinstance(loss, tuple):
            custom.check_loss(loss, last)
        elif loss not in backends.LOSSES:
            raise unknown_name("loss", loss, backends.LOSSES)
        needed = FUSED.get(loss)
        if needed is not None and last != needed or last == "softmax" and loss != "cross_entropy":
            pairs = (
                "'binary_cross_entropy' with a sigmoid output, 'cross_entropy' with softmax, another without softmax"
            )
            raise must_be("loss", pairs, described(f"{loss!r} with {last!r}"))
        if last == "softmax" and self.outputs < 2:
            raise must_be("units", "at least 2 for a softmax layer", self.outputs)
        self.loss = loss
        try:
            self.dtype = None if dtype is None else np.dtype(dtype)
        except TypeError:
            self.dtype = None
        if self.dtype not in (np.float32, np.float64) or not self.dtype.isnative:
            raise must_be("dtype", "'float32' or 'float64'", dtype)
        backends.check_device(device)
        self.device = device
        backends.check_precision(precision, device, self.dtype)
        self.precision = precision
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise must_be("seed", "a non-negative int below 2**63", seed, TypeError)
        if not 0 <= seed < 1 << 63:
            raise must_be("seed", "a non-negative int below 2**63", seed)
        self.seed = int(seed)
        self.huber_delta = validation.number("huber_delta", huber_delta, above=0.0)
        self.standardize = validation.flag("standardize", standardize)
        self.layout = self.parameters = self.standardization = None
        self._forget_optimizer()
        self._epoch = 0  # epochs since the build: the shuffle goes on from fit to fit

    @property
    def n_features(self) -> int | None:
        """Number of inputs, None before `build`."""
        return None if self.layout is None else self.layout.n_features

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.dense[-1].units

    @property
    def parameter_slices(self) -> list[tuple[slice, slice]]:
        """(W slice, b slice) of each layer into `parameters` and into a flat gradient."""
        self._must_be_built()
        return [
            (slice(w, w + n_in * n_out), slice(b, b + n_out))
            for (n_in, n_out), (w, b) in zip(self.layout.sizes, self.layout.offsets, strict=True)
        ]

    def build(self, n_features: int) -> Self:
        """Make the parameters and draw their starting values; `fit` does it where it was not done.

        Parameters
        ----------
        n_features : int
            Number of inputs.

        Returns
        -------
        Sequential
            The net itself.
        """
        n_features = validation.size("n_features", n_features)
        layout = self._make_layout(n_features)
        try:
            parameters = np.zeros(layout.size, self.dtype)
        except MemoryError:
            raise MemoryError(
                f"no memory for {layout.size:,} parameters, {layout.size * self.dtype.itemsize:,} bytes"
            ) from None
        self.layout, self.parameters, self.standardization = layout, parameters, None
        self._forget_optimizer()
        self._epoch = 0
        for i, (layer, (W, b)) in enumerate(zip(self.dense, self._views(), strict=True)):
            rng = np.random.default_rng((self.seed, i))
            n_out, n_in = W.shape
            W[...] = initialize(layer.kernel_initializer, n_in, n_out, W.shape, rng)
            b[...] = initialize(layer.bias_initializer, n_in, n_out, b.shape, rng)
        return self

    def _make_layout(self, n_features):
        before = [None, *self.layers]
        rates = [
            before[i].rate if isinstance(before[i], Dropout) else 0.0
            for i, layer in enumerate(self.layers)
            if isinstance(layer, Dense)
        ]
        return backends.make_layout(n_features, self.dense, rates, self.dtype)

    def __getstate__(self):
        return vars(self) | {"layout": self.n_features}  # a layout holds addresses of this process

    def __setstate__(self, state):
        vars(self).update(state)
        if self.layout is not None:
            self.layout = self._make_layout(self.layout)

    def _view(self, i, parameters):
        """Views (W, b) of one layer into flat parameters."""
        w, b = self.parameter_slices[i]
        n_in, n_out = self.layout.sizes[i]
        return parameters[w].reshape(n_out, n_in), parameters[b]

    def _views(self):
        """Views (W, b) of each layer's parameters."""
        for i in range(len(self.dense)):
            yield self._view(i, self.parameters)

    def _asked(self):
        """The parameters that prediction works with: the standardisation is folded into the first and last layer."""
        if self.standardization is None:
            return self.parameters
        ends = (lambda flat: self._view(0, flat)), (lambda flat: self._view(-1, flat))
        return standardization.folded(self.standardization, self.parameters, *ends)

    def _must_be_built(self):
        if self.layout is None:
            raise NotBuiltError("the net has no parameters yet: call build(n_features) or fit(X, y) first")

    def get_weights(self) -> list[Floats]:
        """The parameters, copied.

        Returns
        -------
        list of array
            W1 (n_out, n_in), b1 (n_out,), W2, b2, ...
        """
        self._must_be_built()
        return [array.copy() for pair in self._views() for array in pair]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the parameters; the optimizer starts afresh.

        Parameters
        ----------
        weights : sequence of array
            As `get_weights` gives them.
        """
        self._must_be_built()
        targets = [array for pair in self._views() for array in pair]
        names = [f"{kind}{i + 1}" for i in range(len(self.dense)) for kind in "Wb"]
        accepted = f"a list of the {len(targets)} arrays {', '.join(names)}"
        if not isinstance(weights, list | tuple):
            raise must_be("weights", accepted, weights, TypeError)
        if len(weights) != len(targets):
            raise must_be("weights", accepted, described(f"{len(weights)} arrays"))
        checked = []
        for name, target, value in zip(names, targets, weights, strict=True):
            given = validation.numeric_array(f"weights[{name}]", value, target.shape, self.dtype)
            checked.append(given)
        for target, value in zip(targets, checked, strict=True):
            target[...] = value
        self._forget_optimizer()

    def freeze(self) -> Frozen:
        """The net as it is now, for `fastnn.apply`: also in the user's own @njit functions.

        Returns
        -------
        Frozen
            A named tuple of arrays that cannot be written to; later fits do not change it.
        """
        self._must_be_built()
        return inference.freeze(self.layout, self._asked().copy())

    def save(self, path: PathLike) -> None:
        """Write the net to a file, for `fastnn.load` (extra `checkpoint`).

        Parameters
        ----------
        path : path-like
            In the safetensors format: arrays W1, b1, ..., and the layers as metadata. What stood there is replaced
            when the new file is whole and on the disk.

        Raises
        ------
        NotBuiltError
            Without parameters.
        TypeError, ValueError
            For a path that cannot be written to, or a net with functions of your own.
        OSError
            Where writing fails; what stood there is left as it was.
        ImportError
            Without safetensors.
        """
        storage.save(self, path)

    def to_onnx(self, path: PathLike) -> None:
        """Write the net in the ONNX format, for other programs to run (extra `onnx`).

        Parameters
        ----------
        path : path-like
            The file. Its input "X" (samples, n_features) and its output "output" (samples, n_out) are in the net's
            dtype; standardisation is folded into the weights.

        Raises
        ------
        NotBuiltError
            Without parameters.
        TypeError, ValueError
            For a path that cannot be written to, or a net with activations of your own.
        OSError
            Where writing fails; what stood there is left as it was.
        ImportError
            Without onnx.
        """
        exchange.save(self, path)

    def summary(self) -> str:
        """A table of the layers.

        Returns
        -------
        str
            One line a layer: shape, activation, number of parameters.
        """
        lines = [f"{'layer':<24}{'inputs':>10}{'outputs':>10}{'parameters':>14}"]
        inputs, count = self.n_features, 0
        for layer in self.layers:
            if isinstance(layer, Dropout):
                lines.append(repr(layer))
                continue
            name = f"Dense {custom.named(layer.activation)}"
            if inputs is None:
                lines.append(f"{name:<24}{'?':>10}{layer.units:>10,}{'?':>14}")
            else:
                own = layer.units * (inputs + 1)
                lines.append(f"{name:<24}{inputs:>10,}{layer.units:>10,}{own:>14,}")
                count += own
            inputs = layer.units
        known = "?" if self.layout is None else f"{count:,}"
        lines.append(f"{f'loss {custom.named(self.loss)}, {self.dtype}':<44}{known:>14}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layers!r}, loss={custom.shown(self.loss)}, dtype={str(self.dtype)!r})"

    def _forget_optimizer(self):
        self._state, self._rule, self._step = None, None, 0

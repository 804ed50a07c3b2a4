"""The nets: what a user builds, fits and asks."""

import numpy as np

from . import backends, progress as progress_bars, validation
from .errors import NotBuiltError, described, must_be, unknown_name
from .fitting import Loop
from .history import History
from .initializers import initialize
from .layers import Dense
from .optimizers import Adam, Optimizer

_FUSED = {"binary_cross_entropy": "sigmoid", "cross_entropy": "softmax"}


class Sequential:
    """A net of layers, one after another.

    Parameters
    ----------
    layers : sequence of Dense
        At least one.
    loss : str, optional
        binary_cross_entropy (for a sigmoid output), cross_entropy (softmax), mse (mean over samples and outputs), mae
        or huber. Default by the last activation: the cross-entropy that belongs to it, else mse.
    dtype : str or dtype
        float32 or float64.
    device : str
        "cpu".
    seed : int
        Starting values, shuffling: the same seed gives the same bits, on any number of threads.
    huber_delta : float
        Error from which huber grows linearly.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def __init__(self, layers, loss=None, dtype="float32", device="cpu", seed=0, huber_delta=1.0):
        self.layers = list(layers) if isinstance(layers, list | tuple) else None
        if not self.layers or not all(isinstance(layer, Dense) for layer in self.layers):
            raise must_be("layers", "a list of at least one fastnn.Dense", layers, TypeError)
        last = self.layers[-1].activation
        if any(layer.activation == "softmax" for layer in self.layers[:-1]):
            raise must_be("activation", "other than 'softmax' before the last layer", "softmax")
        if loss is None:
            loss = {activation: name for name, activation in _FUSED.items()}.get(last, "mse")
        if loss not in backends.LOSSES:
            raise unknown_name("loss", loss, backends.LOSSES)
        needed = _FUSED.get(loss)
        if needed is not None and last != needed or last == "softmax" and loss != "cross_entropy":
            pairs = (
                "'binary_cross_entropy' with a sigmoid output, 'cross_entropy' with softmax, another without softmax"
            )
            raise must_be("loss", pairs, described(f"{loss!r} with {last!r}"))
        if last == "softmax" and self.layers[-1].units < 2:
            raise must_be("units", "at least 2 for a softmax layer", self.layers[-1].units)
        self.loss = loss
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            self.dtype = None
        if self.dtype not in (np.float32, np.float64) or not self.dtype.isnative:
            raise must_be("dtype", "'float32' or 'float64'", dtype)
        backends.check_device(device)
        self.device = device
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
            raise must_be("seed", "a non-negative int below 2**63", seed, TypeError)
        if not 0 <= seed < 1 << 63:
            raise must_be("seed", "a non-negative int below 2**63", seed)
        self.seed = int(seed)
        self.huber_delta = validation.number("huber_delta", huber_delta, above=0.0)
        self.layout = self.parameters = None
        self._state, self._rule, self._step, self._epoch = None, None, 0, 0

    # Building and parameters

    @property
    def n_features(self):
        """Number of inputs, None before `build`."""
        return None if self.layout is None else self.layout.n_features

    @property
    def parameter_slices(self):
        """(W slice, b slice) of each layer into `parameters` and into a flat gradient."""
        self._must_be_built()
        return [
            (slice(w, w + n_in * n_out), slice(b, b + n_out))
            for (n_in, n_out), (w, b) in zip(self.layout.sizes, self.layout.offsets, strict=True)
        ]

    def build(self, n_features):
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
        layout = backends.Layout(
            n_features,
            [layer.units for layer in self.layers],
            [backends.activation_code(layer.activation) for layer in self.layers],
            [layer.alpha or 0.0 for layer in self.layers],
        )
        try:
            parameters = np.zeros(layout.size, self.dtype)
        except MemoryError:
            raise MemoryError(
                f"no memory for {layout.size:,} parameters, {layout.size * self.dtype.itemsize:,} bytes"
            ) from None
        self.layout, self.parameters = layout, parameters
        self.forget_optimizer()
        self._epoch = 0
        for i, (layer, (W, b)) in enumerate(zip(self.layers, self._views(), strict=True)):
            rng = np.random.default_rng((self.seed, i))
            n_out, n_in = W.shape
            W[...] = initialize(layer.kernel_initializer, n_in, n_out, W.shape, rng)
            b[...] = initialize(layer.bias_initializer, n_in, n_out, b.shape, rng)
        return self

    def _views(self):
        """Views (W, b) of each layer's parameters."""
        shapes = self.layout.sizes
        for (w, b), (n_in, n_out) in zip(self.parameter_slices, shapes, strict=True):
            yield self.parameters[w].reshape(n_out, n_in), self.parameters[b]

    def _must_be_built(self):
        if self.layout is None:
            raise NotBuiltError("the net has no parameters yet: call build(n_features) or fit(X, y) first")

    def get_weights(self):
        """The parameters, copied.

        Returns
        -------
        list of array
            W1 (n_out, n_in), b1 (n_out,), W2, b2, ...
        """
        self._must_be_built()
        return [array.copy() for pair in self._views() for array in pair]

    def set_weights(self, weights):
        """Replace the parameters; the optimizer starts afresh.

        Parameters
        ----------
        weights : sequence of array
            As `get_weights` gives them.
        """
        self._must_be_built()
        targets = [array for pair in self._views() for array in pair]
        names = [f"{kind}{i + 1}" for i in range(len(self.layers)) for kind in "Wb"]
        if not isinstance(weights, list | tuple) or len(weights) != len(targets):
            given = f"{len(weights)} arrays" if isinstance(weights, list | tuple) else type(weights).__name__
            raise must_be("weights", f"a list of the {len(targets)} arrays {', '.join(names)}", described(given))
        checked = []
        for name, target, value in zip(names, targets, weights, strict=True):
            given = validation.numeric_array(f"weights[{name}]", value, target.shape, self.dtype)
            checked.append(given)
        for target, value in zip(targets, checked, strict=True):
            target[...] = value
        self.forget_optimizer()

    def summary(self):
        """A table of the layers.

        Returns
        -------
        str
            One line a layer: shape, activation, number of parameters.
        """
        lines = [f"{'layer':<24}{'inputs':>10}{'outputs':>10}{'parameters':>14}"]
        inputs, count = self.n_features, 0
        for layer in self.layers:
            own = None if inputs is None else layer.units * (inputs + 1)
            count = None if own is None or count is None else count + own
            shown = "?" if inputs is None else f"{inputs:,}"
            lines.append(
                f"{f'Dense {layer.activation}':<24}{shown:>10}{layer.units:>10,}{'?' if own is None else f'{own:,}':>14}"
            )
            inputs = layer.units
        shown = "?" if count is None else f"{count:,}"
        lines.append(f"{f'loss {self.loss}, {self.dtype}':<44}{shown:>14}")
        return "\n".join(lines)

    def __repr__(self):
        return f"{type(self).__name__}({self.layers!r}, loss={self.loss!r}, dtype={str(self.dtype)!r})"

    # Training

    def counters(self):
        """(updates since the optimizer's start, epochs since the build)."""
        return self._step, self._epoch

    def count(self, step, epoch):
        """Set the counters."""
        self._step, self._epoch = step, epoch

    def forget_optimizer(self):
        """Drop the optimizer's state: the next fit starts it afresh."""
        self._state, self._rule, self._step = None, None, 0

    def fit(
        self,
        X,
        y,
        optimizer=None,
        epochs=100,
        batch_size=None,
        shuffle=True,
        sample_weight=None,
        class_weight=None,
        l2=0.0,
        validation_data=None,
        callbacks=(),
        progress=False,
        threads=None,
    ):
        """Train, from the current weights and optimizer state on.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples. Anything NumPy can read; used in place where it is in the net's dtype with consecutive columns.
        y : array-like (m,) or (m, k)
            Labels in [0, 1] for a sigmoid output, class indices or one-hot rows for softmax, numbers for the rest.
        optimizer : Optimizer, optional
            Default Adam(). State is kept between fits as long as the kind of optimizer stays.
        epochs : int
            Passes over the data.
        batch_size : int or None
            Samples a step; None is the full batch. A short last batch is averaged over its own size.
        shuffle : bool
            Visit the rows in a new order each epoch, a function of the seed and the epoch alone.
        sample_weight : array-like (m,), optional
            The loss of a batch is sum(w l) / sum(w).
        class_weight : dict or "balanced", optional
            Weight of each class, times sample_weight; "balanced" is m / (classes * count).
        l2 : float
            Adds l2 / 2 * sum(W^2) over all weights, not biases, to the loss.
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight): their loss is recorded after each epoch.
        callbacks : sequence of callable
            Each is called after each epoch with (net, history); one that returns True ends the fit.
        progress : bool
            Show a bar (needs tqdm).
        threads : int, optional
            Threads that may take part; they do not change the result by a bit.

        Returns
        -------
        History
            Losses, times, counts.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted; the net is then as it was.
        DivergedError
            If the loss or a parameter is not finite.
        KeyboardInterrupt
            On Ctrl-C, after the current chunk of steps; the net is at a completed step and can be used.
        """
        optimizer = Adam() if optimizer is None else optimizer
        if not isinstance(optimizer, Optimizer):
            raise must_be("optimizer", "a fastnn optimizer such as fastnn.Adam()", optimizer, TypeError)
        epochs, l2 = validation.size("epochs", epochs), validation.number("l2", l2, low=0.0)
        threads = backends.thread_count("threads", threads)
        shuffle = validation.flag("shuffle", shuffle)
        if not isinstance(callbacks, list | tuple) or not all(callable(callback) for callback in callbacks):
            raise must_be("callbacks", "a sequence of callables", callbacks, TypeError)
        X, y, labels, weights = self._data(X, y, sample_weight, class_weight)
        rows = len(X)
        batch = rows if batch_size is None else validation.size("batch_size", batch_size)
        if batch > rows:
            raise must_be("batch_size", f"at most the {rows} samples, or None for all", batch_size)
        if validation_data is not None:
            if not isinstance(validation_data, list | tuple) or len(validation_data) not in (2, 3):
                raise must_be("validation_data", "None, (X, y) or (X, y, sample_weight)", validation_data, TypeError)
            held_out = self._data(*validation_data[:2], *validation_data[2:], prefix="validation ", like=X)
        history = History(epochs)
        bar = progress_bars.make(progress, epochs)
        if self.layout is None:
            self.build(X.shape[1])

        plan = self._plan(batch, threads, backends.WITH_LOSS | backends.WITH_GRADIENT)
        plan.data(X, y, weights, labels)
        self._prepare(plan, optimizer, l2, shuffle and batch < rows)
        each_epoch = None
        if validation_data is not None or callbacks:

            def each_epoch():
                if validation_data is not None:
                    history._validation.append(self._loss_on(*held_out, threads))
                return any([callback(self, history) for callback in callbacks])

        try:
            Loop(self, plan, optimizer, epochs, history).run(bar, each_epoch)
        finally:
            bar.close()
        return history

    def _data(self, X, y, sample_weight=None, class_weight=None, prefix="", like=None):
        """Checked (X, y, labels, weights) in the net's dtype."""
        features = self.n_features if like is None else like.shape[1]
        X = validation.matrix(f"{prefix}X", X, self.dtype, features)
        outputs = self.layers[-1].units
        y, labels = validation.targets(f"{prefix}y", y, self.dtype, len(X), self.loss, outputs)
        weights = validation.sample_weights(f"{prefix}sample_weight", sample_weight, self.dtype, len(X))
        by_class = validation.class_weights(class_weight, y, labels, outputs)
        if by_class is not None:
            weights = (by_class if weights is None else weights * by_class).astype(self.dtype)
        return X, y, labels, weights

    def _plan(self, batch, threads, flags):
        """A plan of this net for `batch` rows at a time."""
        gradient = bool(flags & backends.WITH_GRADIENT)
        plan = backends.make_plan(self.layout, self.parameters, batch, threads, gradient)
        plan.set(COMMAND=backends.PASS, FLAGS=flags, LOSS=backends.loss_code(self.loss), LOGITS=self.loss in _FUSED)
        plan.reals[backends.real("LOSS_PARAM")] = self.huber_delta
        return plan

    def _prepare(self, plan, optimizer, l2, shuffle):
        """Give a plan its optimizer, with the state that goes with it."""
        if optimizer.kernel != self._rule:
            self.forget_optimizer()
            self._state, self._rule = [plan.allocate(self.layout.size) for _ in range(2)], optimizer.kernel
        plan.set(
            OPTIMIZER=backends.optimizer_code(optimizer.kernel),
            STATE_1=self._state[0],
            STATE_2=self._state[1],
            SHUFFLE=shuffle,
            SEED=self.seed,
            STEP=self._step,
            EPOCH=self._epoch,
        )
        for name, value in (optimizer.settings() | {"L2": l2}).items():
            plan.reals[backends.real(name)] = value

    # Asking

    def _loss_on(self, X, y, labels, weights, threads=None):
        plan = self._plan(len(X), backends.thread_count("threads", threads), backends.WITH_LOSS)
        plan.data(X, y, weights, labels)
        backends.execute(plan)
        return float(plan.reals[backends.real("LAST_LOSS")])

    def predict(self, X, threads=None):
        """Outputs of the net: probabilities for sigmoid and softmax, numbers for the rest.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples; NaN and infinity travel through.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array (m, n_out)
            In the net's dtype.
        """
        self._must_be_built()
        X = validation.matrix("X", X, self.dtype, self.n_features, finite=False)
        out = np.empty((len(X), self.layers[-1].units), self.dtype)
        plan = self._plan(len(X), backends.thread_count("threads", threads), backends.WRITE_OUTPUT)
        plan.data(X)
        plan.set(OUT=out, OUT_STRIDE=out.shape[1])
        backends.execute(plan)
        return out

    def predict_labels(self, X, threads=None):
        """Classes.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array of int64
            (m,) class indices for softmax, (m,) of 0 and 1 for one sigmoid output, (m, k) of 0 and 1 for k of them: 1
            where the probability is above 0.5.

        Raises
        ------
        ValueError
            For a net whose loss is not a cross-entropy.
        """
        if self.loss not in _FUSED:
            raise must_be("loss", "a cross-entropy for predict_labels", self.loss)
        return self._labels(self.predict(X, threads))

    def _labels(self, outputs):
        if self.loss == "cross_entropy":
            return outputs.argmax(axis=1)
        labels = (outputs > 0.5).astype(np.int64)
        return labels[:, 0] if labels.shape[1] == 1 else labels

    def evaluate(self, X, y, sample_weight=None, threads=None):
        """Loss and a score.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        y : array-like
            Targets, as for `fit`.
        sample_weight : array-like (m,), optional
            Weights of the samples, in the loss and in the score.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        dict
            "loss" (without l2), and "accuracy" for cross-entropies (share of right labels), else "r2" (share of the
            variance explained, mean over outputs; NaN for constant targets).
        """
        self._must_be_built()
        X, y, labels, weights = self._data(X, y, sample_weight)
        result = {"loss": self._loss_on(X, y, labels, weights, threads)}
        outputs = self.predict(X, threads)
        if self.loss not in _FUSED:
            target = y.reshape(len(y), -1).astype(np.float64)
            mean = np.average(target, axis=0, weights=weights)
            spread = np.average((target - mean) ** 2, axis=0, weights=weights)
            error = np.average((target - outputs) ** 2, axis=0, weights=weights)
            with np.errstate(divide="ignore", invalid="ignore"):
                result["r2"] = float(np.mean(np.where(spread > 0, 1 - error / spread, np.nan)))
            return result
        truth = y if labels or self.loss == "binary_cross_entropy" else y.argmax(axis=1)
        right = self._labels(outputs) == (truth > 0.5 if self.loss == "binary_cross_entropy" else truth)
        result["accuracy"] = float(np.average(right.reshape(len(right), -1).mean(axis=1), weights=weights))
        return result

    def loss_and_gradient(self, X, y, sample_weight=None, threads=None):
        """Mean loss, and its gradient with respect to all parameters.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        y : array-like
            Targets, as for `fit`.
        sample_weight : array-like (m,), optional
            Weights of the samples.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        loss : float
            Without l2.
        gradient : array, in the net's dtype
            In the layout of `parameters`; `parameter_slices` says where each W and b stands.
        """
        plan = self._gradient_plan(X, y, sample_weight, threads, 0)
        backends.execute(plan)
        return float(plan.reals[backends.real("LAST_LOSS")]), plan.gradients[0].copy()

    def input_gradient(self, X, y, sample_weight=None, threads=None):
        """Gradient of the mean loss with respect to the inputs.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        y : array-like
            Targets, as for `fit`.
        sample_weight : array-like (m,), optional
            Weights of the samples.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array (m, n_features)
            In the net's dtype.
        """
        plan = self._gradient_plan(X, y, sample_weight, threads, backends.WRITE_INPUT_GRADIENT)
        out = np.empty((plan["ROWS"], self.n_features), self.dtype)
        plan.set(OUT=out, OUT_STRIDE=out.shape[1])
        backends.execute(plan)
        return out

    def _gradient_plan(self, X, y, sample_weight, threads, flags):
        self._must_be_built()
        X, y, labels, weights = self._data(X, y, sample_weight)
        flags |= backends.WITH_LOSS | backends.WITH_GRADIENT
        plan = self._plan(len(X), backends.thread_count("threads", threads), flags)
        plan.data(X, y, weights, labels)
        return plan


class LogisticRegression(Sequential):
    """Logistic regression: one sigmoid neuron for two classes, one softmax layer for more, zero weights at the start.

    Parameters
    ----------
    n_classes : int
        Number of classes, at least 2.
    dtype : str or dtype
        float32 or float64.
    device : str
        "cpu".
    seed : int
        Shuffling.
    """

    def __init__(self, n_classes=2, dtype="float32", device="cpu", seed=0):
        self.n_classes = validation.size("n_classes", n_classes)
        if self.n_classes < 2:
            raise must_be("n_classes", "an int of at least 2", n_classes)
        layer = (
            Dense(1, "sigmoid", kernel_initializer="zeros")
            if self.n_classes == 2
            else Dense(self.n_classes, "softmax", kernel_initializer="zeros")
        )
        super().__init__([layer], dtype=dtype, device=device, seed=seed)

"""The nets that a user builds, fits and asks."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike

from . import arrays, backends, inference, training
from . import metrics as scores
from .arrays import AnyArray, DeviceArray
from .backends import Floats, Integers
from .callbacks import Callback
from .errors import must_be
from .fitting import loss_of, run_pass
from .history import History
from .net import FUSED
from .optimizers import Optimizer
from .planning import Planner
from .storage import PathLike

Metrics = Sequence[str | Callable[[Any, Any], float]]

FEW_ROWS = 16  # up to which prediction without a plan is faster


class Sequential(Planner):
    """A net of layers, one after another.

    Parameters
    ----------
    layers : sequence of Dense and Dropout
        At least one Dense, and it is the last.
    loss : str or tuple, optional
        binary_cross_entropy (for a sigmoid output), cross_entropy (softmax), mse (mean over samples and outputs), mae
        or huber. Default by the last activation: the cross-entropy that belongs to it, else mse. Or a pair (f, df) of
        your own @njit functions of (prediction, target), df the derivative of f by the prediction; they are compared by
        central differences. The loss is the mean over samples and outputs.
    dtype : str or dtype
        float32 or float64.
    device : str
        "cpu", or "cuda" for an NVIDIA GPU (needs `pip install 'fastnn[cu13]'`, or cu12), which also takes data that are
        in its memory already: arrays of CuPy, PyTorch, Numba or anything else with `__cuda_array_interface__`. X is
        used in place, without a copy, where it is in the net's dtype with consecutive columns; other float32, float64,
        bool and integer arrays are converted on the GPU. Targets and weights are checked on the host, and so are
        brought there and back; standardize=True copies X there once to learn from it. What was queued on the GPU
        before, on any stream, is waited for, and results are complete when they are given. "auto" takes the GPU for
        data that are there, and for work from which on it won wherever it was measured on this machine, by
        `fastnn.measure_devices()` or `python -m fastnn devices`; else the CPU. `history.device` tells which it was. On
        the two devices rounding differs. Functions of your own are compiled for the GPU, too, when a plan of theirs is
        first carried out there; ValueError says what cannot be.
    seed : int
        Starting values, shuffling: the same seed gives the same bits, on any number of threads.
    huber_delta : float
        Error from which huber grows linearly.
    standardize : bool
        Bring features to mean 0 and standard deviation 1, by what the first fit finds in its training data; and so the
        targets of a regression whose last layer is linear, so that losses are those of standardised targets. Kept in
        `standardization` and folded into the weights for prediction, which takes and gives numbers as they are.
    precision : str
        What a GPU may round the operands of the products of large nets to: "float32" for not at all; "tf32" (10 bits
        of mantissa) or "bf16" (7 bits), both summed in float32, for its tensor cores. Parameters, activations and all
        other arithmetic stay float32.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    def fit(
        self,
        X: AnyArray | Iterable[Sequence[AnyArray]],
        y: AnyArray | None = None,
        optimizer: Optimizer | None = None,
        epochs: int = 100,
        batch_size: int | None = None,
        shuffle: bool = True,
        sample_weight: AnyArray | None = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        l2: float = 0.0,
        validation_data: Sequence[AnyArray] | None = None,
        validation_split: float | None = None,
        metrics: Metrics = (),
        callbacks: Sequence[Callback | Callable[["Sequential", History], Any]] = (),
        progress: bool = False,
        threads: int | None = None,
        resume: PathLike | None = None,
    ) -> History:
        """Train, from the current weights and optimizer state on.

        Parameters
        ----------
        X : array-like (m, n_features), or iterable of batches
            Samples. Anything NumPy can read, or an array on the GPU, as y and weights may be, too; used in place where
            it is in the net's dtype with consecutive columns, a memory-mapped file, too. Without y, and if it has
            neither `shape` nor `__array__`: an iterable of (X, y) or (X, y, sample_weight), such as a DataLoader of
            torch, each one step in the order in which they come; batch_size, shuffle, weights and validation_split
            must then be left out. An iterator that can be passed over only once takes epochs=1. With standardize=True
            the net learns from the first batch.
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
        validation_split : float, optional
            Share of the rows, above 0 and below 1, that is held out as validation data, with its weights: a random one
            that the seed chooses, or, with shuffle=False, the last rows, which takes no copy of the others.
        metrics : sequence of str or callable
            Scores recorded after each epoch, on the validation data where there are any, else on the training data:
            "accuracy", "r2", a name of `sklearn.metrics.get_scorer_names()` (extra `metrics`), or a function
            (y_true, outputs) that gives a number. It gets labels for a cross-entropy; one output comes as (m,).
        callbacks : sequence of Callback or callable
            A function is called after each epoch with (net, history); one that returns True ends the fit.
        progress : bool
            Show a bar with time left, samples/s and losses (extra `progress`; in a notebook it takes ipywidgets, too).
        threads : int, optional
            Threads that may take part; they do not change the result by a bit.
        resume : path-like, optional
            File of a Checkpoint. Where it exists the fit goes on from it until `epochs` are done in all, with the bits
            of a fit that was never broken; data and settings must be the same, the net, the kind of optimizer, the
            kinds of callbacks, metrics, rows and batch_size are checked. Else it starts as usual.

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
        return training.fit(
            self,
            X,
            y,
            optimizer=optimizer,
            epochs=epochs,
            batch_size=batch_size,
            shuffle=shuffle,
            sample_weight=sample_weight,
            class_weight=class_weight,
            l2=l2,
            validation_data=validation_data,
            validation_split=validation_split,
            metrics=metrics,
            callbacks=callbacks,
            progress=progress,
            threads=threads,
            resume=resume,
        )

    def partial_fit(
        self,
        X: AnyArray,
        y: AnyArray,
        optimizer: Optimizer | None = None,
        sample_weight: AnyArray | None = None,
        l2: float = 0.0,
        threads: int | None = None,
    ) -> float:
        """One step with these rows as its batch, from the current weights and optimizer state on.

        For many batches in a row `fit` with an iterable is faster: it keeps its working memory from step to step.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        y : array-like
            Targets, as for `fit`.
        optimizer : Optimizer, optional
            Default Adam(). A schedule gives its first rate.
        sample_weight : array-like (m,), optional
            Weights of the samples.
        l2 : float
            As for `fit`.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        float
            The loss before the step, with the l2 term.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted; the net is then as it was.
        DivergedError
            If the loss or a parameter is not finite; the weights are those before the step.
        """
        return training.partial_fit(self, X, y, optimizer, sample_weight, l2, threads)

    @overload
    def predict(self, X: ArrayLike, threads: int | None = None) -> Floats: ...
    @overload
    def predict(self, X: DeviceArray, threads: int | None = None) -> Any: ...
    def predict(self, X: AnyArray, threads: int | None = None) -> Any:
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
            In the net's dtype; for an X on a GPU it is there, too, and of the same kind.
        """
        self._must_be_built()
        X = arrays.matrix("X", X, self.dtype, self.layout.n_features, self.device, finite=False)
        return self._outputs(X, backends.room_for(X, self.outputs), threads)

    def _outputs(self, X, out, threads):
        """Outputs for checked rows, in `out`."""
        threads = backends.thread_count("threads", threads)
        if len(X) <= FEW_ROWS and type(X) is np.ndarray:
            inference.run(inference.freeze(self.layout, self._asked()), X, out)
            return out
        plan = self._plan(len(X), threads, backends.WRITE_OUTPUT, arrays.on_gpu(X))
        plan.data(X)
        plan.set(OUT=out, OUT_STRIDE=out.shape[1])
        run_pass(plan)
        return out

    def predict_labels(self, X: AnyArray, threads: int | None = None) -> Integers:
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
            On the host: (m,) class indices for softmax, (m,) of 0 and 1 for one sigmoid output, (m, k) of 0 and 1 for k
            of them: 1 where the probability is above 0.5.

        Raises
        ------
        ValueError
            For a net whose loss is not a cross-entropy.
        """
        if self.loss not in FUSED:
            raise must_be("loss", "a cross-entropy for predict_labels", self.loss)
        self._must_be_built()
        X = arrays.matrix("X", X, self.dtype, self.layout.n_features, self.device, finite=False)
        return scores.labels(self._host_outputs(X, threads), self.loss)

    def _host_outputs(self, X, threads):
        """Outputs for checked rows, on the host."""
        return self._outputs(X, np.empty((len(X), self.outputs), self.dtype), threads)

    def evaluate(
        self,
        X: AnyArray,
        y: AnyArray,
        sample_weight: AnyArray | None = None,
        threads: int | None = None,
        metrics: Metrics = (),
    ) -> dict[str, float]:
        """Loss and scores.

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
        metrics : sequence of str or callable
            More scores, as for `fit`.

        Returns
        -------
        dict
            "loss" (without l2), and "accuracy" for cross-entropies (share of right labels), else "r2" (share of the
            variance explained, mean over outputs; NaN for constant targets); then the metrics.
        """
        self._must_be_built()
        default = "accuracy" if self.loss in FUSED else "r2"
        wanted = scores.resolve([default], self.loss) + scores.resolve(metrics, self.loss)
        X, y, labels, weights = self._data(X, y, sample_weight)
        scores.check(wanted, y, self.loss, self.outputs, weights)
        outputs = self._host_outputs(X, threads)
        found = {score.name: score.compute(outputs, y, weights) for score in wanted}
        return {"loss": loss_of(self._loss_plan(X, y, labels, weights, threads))} | found

    def loss_and_gradient(
        self, X: AnyArray, y: AnyArray, sample_weight: AnyArray | None = None, threads: int | None = None
    ) -> tuple[float, Floats]:
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
            On the host, in the layout of `parameters`; `parameter_slices` says where each W and b stands.
        """
        plan = self._gradient_plan(X, y, sample_weight, threads, 0)
        run_pass(plan)
        return float(plan.reals[backends.real("LAST_LOSS")]), plan.gradients[0].copy()

    @overload
    def input_gradient(
        self, X: ArrayLike, y: AnyArray, sample_weight: AnyArray | None = None, threads: int | None = None
    ) -> Floats: ...
    @overload
    def input_gradient(
        self, X: DeviceArray, y: AnyArray, sample_weight: AnyArray | None = None, threads: int | None = None
    ) -> Any: ...
    def input_gradient(
        self, X: AnyArray, y: AnyArray, sample_weight: AnyArray | None = None, threads: int | None = None
    ) -> Any:
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
            In the net's dtype; for an X on a GPU it is there, too, and of the same kind.
        """
        plan = self._gradient_plan(X, y, sample_weight, threads, backends.WRITE_INPUT_GRADIENT)
        out = backends.room_for(plan.kept["X"], self.n_features)
        plan.set(OUT=out, OUT_STRIDE=out.shape[1])
        run_pass(plan)
        if self.standardization is not None:
            backends.divide_columns(out, self.standardization.std)
        return out

"""The net that a user builds, trains and predicts with."""

import copy
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import (
    arrays,
    backends,
    custom,
    data,
    encoding,
    evaluation,
    exchange,
    fit,
    frames,
    inference,
    labels,
    plans,
    solvers,
    standardization,
    storage,
    summaries,
    validation,
)
from . import metrics as scores
from .arrays import AnyArray, DeviceArray
from .backends import Floats
from .callbacks import Callback
from .columns import Columns
from .custom import Pair
from .encoded import Encoded
from .encoding import Encoding
from .errors import BusyError, NotBuiltError, described, must_be
from .files import PathLike
from .history import History
from .inference import Frozen
from .layers import Dense, Layer, array_names, starting_values
from .objective import Objective
from .optimizers import Optimizer
from .standardization import Standardization
from .surface import Hinting

Metrics = Sequence[str | Callable[[Any, Any], float]]
_NOT_BUILT = "the net has no parameters yet: call build(n_features) or fit(X, y) first"


class Sequential(Hinting):
    """A net of layers, one after another.

    Parameters
    ----------
    layers : sequence of Dense and Dropout
        At least one Dense, and it is the last. `Columns` before all others let the net take tables, with numbers, text,
        dates and gaps, and learn from its first training data what is in them. Neither layers nor the settings of a net
        can be changed afterwards, but for `device`.
    loss : str or tuple, optional
        binary_cross_entropy (for a sigmoid output), cross_entropy (softmax), poisson (exp), mse, mae, huber, quantile
        or gaussian. Default by the last activation: the loss that belongs to it, else mse. Or a pair (f, df) of your
        own @njit functions of (prediction, target), df the derivative of f by the prediction; they are compared by
        central differences. The loss is the mean over samples and targets.

        quantile is the pinball loss: predictions are the `quantile` of the targets. poisson is rate - y log(rate) for
        targets >= 0, such as counts: torch's PoissonNLLLoss; predictions are rates, not their logarithms. gaussian is
        (log(variance) + (y - mean)^2 / variance) / 2: torch's GaussianNLLLoss. For k targets it takes 2 k outputs:
        predictions are k means, then the logarithms of their k variances, and scores are those of the means.
    dtype : str or dtype
        float32 or float64.
    device : str
        "cpu", or "cuda" for an NVIDIA GPU (needs the extra `cu13` or `cu12`), which also takes data that are
        in its memory already: arrays of CuPy, PyTorch, Numba or anything else with `__cuda_array_interface__`. X is
        used in place, without a copy, where it is in the net's dtype with consecutive columns; other float32, float64,
        bool and integer arrays are converted on the GPU. Targets and weights are copied to the host, checked, and
        copied back; standardize=True copies X to the host once to learn from it. Work that was queued on the GPU
        before, on any stream, is waited for, and results are complete when a method returns. "auto" takes the GPU for
        data in its memory and for work above the break-even that `fastnn.measure_devices()`, or
        `python -m fastnn devices`, measured on this machine; else the CPU. `history.device` says which it was. The two
        devices round differently. Functions of your own are compiled for the GPU, too, when they are first used there;
        ValueError says what cannot be compiled.
    seed : int
        Starting values, shuffling: the same seed gives the same bits, on any number of threads.
    huber_delta : float
        Error from which huber grows linearly.
    standardize : bool
        Scale features to mean 0 and standard deviation 1, by what the first fit finds in its training data, each row as
        often as its weight says; and so the targets of a regression whose last layer is linear, so that losses are
        those of standardised targets. Kept in `standardization`; predictions take and give numbers as they are. Fewer
        than two rows teach nothing and are refused, and so are columns whose differences are lost in the net's dtype,
        such as the seconds of a minute, near 1.7e9, in float32. Columns scale numbers by themselves: here the targets
        alone are left.
    precision : str
        What the operands of the products of large layers may be rounded to; the sums, the parameters, activations and
        all other arithmetic stay float32. "float32": they are not rounded. "bf16": bfloat16, 8 bits of mantissa, on
        the tensor cores of a GPU or the tile unit (AMX) of a CPU, in Linux; refused with device="cpu" where there is
        none, and not rounded there by nets of "auto". On a CPU these are the three products of each Dense layer of
        at least 64 inputs and 64 units, in training, in gradients, and in outputs for more than 16 rows; a first layer
        with at least ten times as many inputs as units is not rounded, nor are frozen nets. "tf32": 11 bits, for GPUs
        alone. Files keep it.
    quantile : float
        Of loss="quantile", above 0 and below 1.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """

    _FIXED = frozenset(("loss", "dtype", "seed", "huber_delta", "standardize", "precision", "quantile"))
    # for other files, not for users
    _MACHINERY = frozenset(
        (
            "array_names",
            "array_views",
            "bound_layers",
            "claim",
            "kept",
            "layers_with",
            "marks",
            "program",
            "scales_targets",
            "state",
            "take",
            "targets",
            "weights_mark",
        )
    )

    def __init__(
        self,
        layers: Sequence[Layer],
        loss: str | Pair | None = None,
        dtype: DTypeLike = "float32",
        device: str = "cpu",
        seed: int = 0,
        huber_delta: float = 1.0,
        standardize: bool = False,
        precision: str = "float32",
        quantile: float = 0.5,
    ) -> None:
        self._layers = _checked_layers(layers)
        self.loss = _checked_loss(loss, self._layers[-1])
        self.dtype = _checked_dtype(dtype)
        self.seed = validation.count("seed", seed)
        self.huber_delta = validation.number("huber_delta", huber_delta, above=0.0)
        self.quantile = validation.number("quantile", quantile, above=0.0, below=1.0)
        self.standardize = validation.flag("standardize", standardize)
        backends.check_device(device)
        backends.check_precision(precision, device, self.dtype)
        self.precision, self._device = precision, device
        self._state = self._program = self._standardization = self._feature_names = None
        self._bound, self._classes = self._layers, None
        self.kept: dict[Any, Any] = {}  # what was made for the program, for later calls
        # what stands for the parameters before the last training, and since; None where they may change unseen
        self.marks: tuple[Any, Any] = (None, object())
        self._given_out = False  # whether somebody has had views of the parameters

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._FIXED and name in vars(self):
            raise AttributeError(f"{name} of a net cannot be changed: make a new net")
        super().__setattr__(name, value)

    def __getstate__(self):
        # a program holds addresses of this process, and is made again
        state = vars(self) | {"_program": self.n_features, "kept": {}}
        for name in ("_claim", "marks"):
            state.pop(name, None)
        return state | {"_given_out": False}

    def __setstate__(self, state):
        vars(self).update(state, marks=(None, object()))
        if self._state is not None:
            self._program = self._make_program(self._program, self._standardization)

    def __copy__(self):
        return copy.deepcopy(self)  # two nets cannot share what training changes

    def claim(self, guard: threading.Lock) -> None:
        """Have nobody else train the net, or change what it is, until a lock is let go.

        Parameters
        ----------
        guard : threading.Lock
            That the caller holds by a `with` of its own. Ctrl-C comes between two steps of Python, and such a lock is
            taken and let go in one: so a net never stays claimed by nobody, as by an `__exit__` that was interrupted.
        """
        own = _Claim(guard, os.getpid(), {})
        claim = vars(self).setdefault("_claim", own)
        while claim is not own:
            claim.check()
            claim = claim.successor.setdefault("claim", own)  # one only, whoever else asks now
        vars(self).update(_claim=own, marks=(None if self._given_out else self.marks[1], object()))
        self._own_state()

    @property
    def weights_mark(self) -> Any:
        """What stands for the parameters as they are: another object once they may be others; None where nobody knows.

        Nobody does while the net is trained, once somebody has had views of the parameters, or where they stand in
        memory of others.
        """
        claim = vars(self).get("_claim")
        unseen = self._given_out or not self.state.is_own or claim is not None and claim.guard.locked()
        return None if unseen else self.marks[1]

    def _check_idle(self):
        """Refuse what cannot be done to a net that is being trained."""
        claim = vars(self).get("_claim")
        if claim is not None:
            claim.check()

    def _own_state(self):
        """The state, in memory of its own."""
        if self.state.own():
            self.kept = {}
        return self.state

    @property
    def layers(self) -> list[Layer]:
        """The layers, in a list of its own."""
        return list(self._layers)

    @property
    def columns(self) -> Columns | None:
        """The Columns that it begins with; None where it takes numbers alone."""
        first = self._layers[0]
        return first if isinstance(first, Columns) else None

    @property
    def encoding(self) -> Encoding | None:
        """What its Columns learned from its first training data."""
        return self._bound[0].encoding if isinstance(self._bound[0], Encoded) else None

    @property
    def bound_layers(self) -> tuple[Layer, ...]:
        """The layers as the kernels compute them: Columns with what they learned."""
        return self._bound

    def layers_with(self, encoding: Encoding) -> tuple[Layer, ...]:
        """The bound layers that a net which begins with Columns would have.

        Parameters
        ----------
        encoding : Encoding
            What the columns have learned.

        Returns
        -------
        tuple of Layer
            As `bound_layers`.
        """
        dense = next(layer for layer in self._layers if isinstance(layer, Dense))
        return (Encoded(encoding, dense), *self._layers[1:])

    @property
    def classes(self) -> Any:
        """The labels (k,) that class indices stand for, where the first training data had text; else None."""
        return self._classes

    @classes.setter
    def classes(self, value: Any) -> None:
        self._classes = value if value is None else labels.checked("classes", value, max(self.outputs, 2))

    @property
    def device(self) -> str:
        """Where it is trained and predicts: "cpu", "cuda" or "auto"; it may be assigned to."""
        return self._device

    @device.setter
    def device(self, device: str) -> None:
        backends.check_device(device)
        backends.check_precision(self.precision, device, self.dtype)
        self._device, self.kept = device, {}

    @property
    def n_features(self) -> int | None:
        """Number of inputs, None before `build`."""
        return None if self._program is None else self._program.n_features

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns of the table that it was first trained on; None where there were none.

        A table whose columns have other names, or another order, is refused from then on; arrays, which have no names,
        are taken as they are. Pickles, copies and files keep the names; they can be assigned to. Those of Columns are
        the columns of the table that these read.
        """
        return self._feature_names if self.encoding is None else self.encoding.names

    @feature_names.setter
    def feature_names(self, value: Sequence[str] | None) -> None:
        if self.columns is not None:
            raise must_be("feature_names", "left alone in a net with Columns, which know their names", value)
        self._feature_names = validation.names("feature_names", value, self.program.n_features)

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self._layers[-1].units

    @property
    def targets(self) -> int:
        """Number of targets of a sample: that of the outputs, half of it for gaussian."""
        return self.outputs // backends.loss(self.loss).outputs_per_target

    @property
    def scales_targets(self) -> bool:
        """Whether `standardize` scales the targets to mean 0 and standard deviation 1, too."""
        return backends.loss(self.loss).activation is None and self._layers[-1].activation in (None, "linear")

    @property
    def program(self) -> Any:
        """What the kernels compute: a `kernels.program.Program`."""
        if self._program is None:
            raise NotBuiltError(_NOT_BUILT)
        return self._program

    @property
    def state(self) -> Any:
        """What training changes: a `kernels.state.TrainingState`, with the parameters, moments and counters."""
        if self._state is None:
            raise NotBuiltError(_NOT_BUILT)
        return self._state

    @property
    def parameters(self) -> Any:
        """All parameters, flat: array (p,) in the net's dtype, a view; None before `build`.

        `parameter_slices` says where each array stands. What is assigned must be finite numbers of the same shape, and
        is copied; the optimizer goes on.
        """
        if self._state is None:
            return None
        self._given_out = True
        return self._state.parameters

    @parameters.setter
    def parameters(self, values: ArrayLike) -> None:
        values = validation.numeric_array("parameters", values, self.state.parameters.shape, self.dtype)
        self._write([self._own_state().parameters], [values])

    def _write(self, targets, values):
        """Write to the parameters."""
        self.marks = None, None  # Ctrl-C may come in between
        for target, value in zip(targets, values, strict=True):
            target[...] = value
        self.marks = None, object()

    @property
    def parameter_slices(self) -> list[tuple[slice, ...]]:
        """(W slice, b slice) of each layer into `parameters` and into a flat gradient; of Columns one a table."""
        slices = iter(self.program.slices)
        return [tuple(next(slices) for _ in layer.arrays) for layer in self._bound if layer.arrays]

    @property
    def arrays(self) -> list[Floats]:
        """W1, b1, W2, ...: views of the parameters."""
        self._given_out = True
        return self.array_views()

    def array_views(self) -> list[Floats]:
        """`arrays`, for those who only read them."""
        return [array for views in self.program.views(self.state.parameters) for array in views]

    @property
    def array_names(self) -> list[str]:
        """Names of `arrays`."""
        return array_names(self._bound)

    @property
    def standardization(self) -> Standardization | None:
        """What a net with `standardize=True` learned from its first training data, or was assigned."""
        return self._standardization

    @standardization.setter
    def standardization(self, value: Standardization) -> None:
        if not self.standardize:
            raise must_be("standardization", "left alone in a net with standardize=False", value)
        self._check_idle()
        learned = standardization.checked(value, self.program.n_features, self.targets, self.dtype)
        self._program = self._make_program(self.program.n_features, learned)
        self._standardization, self.kept = learned, {}

    def _make_program(self, n_features, learned, layers=None):
        """The program of the layers, between a standardisation of the samples and one back to the targets' units."""
        loss, before, after = backends.loss(self.loss), [], []
        if learned is not None:
            before, after = learned.operations(self.scales_targets, loss.outputs_per_target == 2)
        operations, number = before if self.columns is None else [], 0
        for layer in self._bound if layers is None else layers:
            operations += layer.operations(number)
            number += bool(layer.arrays)
        parameter = 0.0 if loss.parameter is None else getattr(self, loss.parameter)
        return backends.Program(n_features, operations, loss, parameter, after)

    def build(self, n_features: Any) -> Self:
        """Make the parameters and draw their starting values; `fit` does it where it was not done.

        Parameters
        ----------
        n_features : int, table or Encoding
            Number of inputs; for a net that begins with Columns the table that they learn from, or what they learned.

        Returns
        -------
        Sequential
            The net itself.
        """
        self._check_idle()
        layers = self._layers
        if self.columns is None:
            n_features = validation.size("n_features", n_features)
        else:
            learned = self._learned(n_features)
            n_features, layers = learned.n_features, self.layers_with(learned)
        needed = "parameters of a size beyond 64 bits"
        try:
            program = self._make_program(n_features, None, layers)
            needed = f"{program.size:,} parameters, {program.size * self.dtype.itemsize:,} bytes"
            parameters = starting_values(layers, program, self.seed, self.dtype)
        except (MemoryError, OverflowError, ValueError):  # which of them depends on the size
            raise MemoryError(f"n_features and units are too large: no memory for {needed}") from None
        self._bound, self._program = layers, program
        self._standardization = self._feature_names = self._classes = None
        self._state, self.kept = backends.TrainingState(parameters, self.seed), {}
        return self

    def _learned(self, given):
        """The Encoding to be built with."""
        if isinstance(given, Encoding):
            if given.columns != self.columns:
                raise must_be("n_features", "an Encoding of the Columns of the net", given)
            return given
        if isinstance(given, int | np.integer):
            raise must_be("n_features", "a table that the Columns of the net can learn from", given, TypeError)
        table = frames.table("n_features", given)
        return encoding.learn(self.columns, table, None, None, self.dtype)

    def encode(self, X: AnyArray) -> Floats:
        """The rows of a table as numbers and codes: what `fastnn.apply` and ONNX take where a net begins with Columns.

        Parameters
        ----------
        X : table
            With the columns that the net reads, by name in any order; an array without names by position.

        Returns
        -------
        array (m, n_features)
            In the net's dtype: standard scores, NaN where a number is missing, and codes, 0 for what was not seen in
            training, 1 for what is missing.

        Raises
        ------
        NotBuiltError
            Before the columns have learned.
        TypeError, ValueError
            For a table that does not suit, and for a net without Columns.
        """
        if self.columns is None:
            raise must_be("encode", "called on a net that begins with Columns", described("one without"))
        return data.samples(self, X)

    def reset(self) -> Self:
        """Forget all that was learned, names of columns too: the next fit starts anew, as that of a new net.

        Returns
        -------
        Sequential
            The net itself, not built, so that `net.reset().fit(X, y)` trains from the start.

        Raises
        ------
        BusyError
            While the net is being trained.
        """
        self._check_idle()
        self._state = self._program = self._standardization = self._feature_names = self._classes = None
        self._bound = self._layers
        self.kept = {}
        return self

    def take(self, other: "Sequential", state: Any) -> Self:
        """Become a net with the program, standardisation and names of another, and a state that was trained by it.

        Parameters
        ----------
        other : Sequential
            Built, of the same layers and settings.
        state : kernels.state.TrainingState
            Of this net alone from now on.

        Returns
        -------
        Sequential
            The net itself.
        """
        self._check_idle()
        self._bound, self._program = other.bound_layers, other.program
        self._standardization, self._classes = other.standardization, other.classes
        self._state, self.kept, self._feature_names = state, {}, None if self.columns else other.feature_names
        return self

    def get_weights(self) -> list[Floats]:
        """The parameters, copied.

        Returns
        -------
        list of array
            W1 (n_out, n_in), b1 (n_out,), W2, b2, ...
        """
        return [array.copy() for array in self.array_views()]

    def set_weights(self, weights: Sequence[ArrayLike]) -> None:
        """Replace the parameters; the optimizer starts afresh.

        Parameters
        ----------
        weights : sequence of array
            As `get_weights` gives them.
        """
        targets, names = self.array_views(), self.array_names
        accepted = f"a list of the {len(targets)} arrays {', '.join(names)}"
        if not isinstance(weights, list | tuple):
            raise must_be("weights", accepted, weights, TypeError)
        if len(weights) != len(targets):
            raise must_be("weights", accepted, described(f"{len(weights)} arrays"))
        checked = [
            validation.numeric_array(f"weights[{name}]", value, target.shape, self.dtype)
            for name, target, value in zip(names, targets, weights, strict=True)
        ]
        self._own_state().forget()
        self._write(self.array_views(), checked)

    def fit(
        self,
        X: AnyArray | Iterable[Sequence[AnyArray]],
        y: AnyArray | None = None,
        optimizer: Optimizer | str | None = None,
        epochs: int = fit.EPOCHS,
        batch_size: int | Literal["auto"] | None = "auto",
        shuffle: bool = True,
        sample_weight: AnyArray | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        l2: float = 0.0,
        validation_data: Sequence[AnyArray] | None = None,
        validation_split: float | None = None,
        metrics: Metrics = (),
        callbacks: Sequence[Callback | Callable[["Sequential", History], Any]] = (),
        progress: bool = False,
        threads: int | None = None,
        resume: PathLike | None = None,
        rows: ArrayLike | None = None,
    ) -> History:
        """Train, from the current weights and optimizer state on.

        A second fit goes on where the first one ended: for the folds of a cross-validation make a net for each fold,
        call `reset()` before each, or take an estimator of `fastnn.sklearn`, whose fit starts anew.

        Parameters
        ----------
        X : array-like (m, n_features), or iterable of batches
            Samples. Anything NumPy can read, or an array on the GPU, as y and weights may be, too; used in place where
            it is in the net's dtype with consecutive columns, a memory-mapped file, too; at most 64 MB that lie badly
            in memory are copied where many epochs visit them in their order. Text, dates, complex numbers, None, NA
            and masked entries are refused, and so are NaN and infinity. The names of the columns of a table, such as a
            DataFrame, are kept in `feature_names`: all methods refuse tables with others, or with these in another
            order.

            Of a net that begins with Columns, a table (m rows): a DataFrame of any library (extra `tables`), a dict of
            arrays or lists, a structured array, or an array or a list of rows, whose columns are known by their places.
            Columns have any order, and others may be there, too. From the rows that are trained on, each as often as
            its weight says, the first fit learns means, bins and levels; what is unseen later, and what is missing, has
            a place of its own. All methods take such tables.

            Without y, and if it has neither `shape` nor `__array__`: an iterable of (X, y) or (X, y, sample_weight),
            such as a DataLoader of torch, each one step in the order in which they come; batch_size, shuffle, weights,
            rows and validation_split must then be left out. An iterator that can be passed over only once takes
            epochs=1. With standardize=True the net learns from the first batch. A batch whose weights are all zero is
            passed over.
        y : array-like (m,) or (m, k)
            Labels in [0, 1] for a sigmoid output, class indices or one-hot rows for softmax, numbers for the rest, none
            below 0 for poisson. Text (m,) stands for the classes of one sigmoid output or of softmax: those of the
            first fit, sorted, are kept in `classes`.
        optimizer : Optimizer or str, optional
            Default Adam(). A name in small letters, such as "sgd", is that optimizer with its defaults. State is kept
            between fits as long as the kind of optimizer stays; each begins with its rate, or its schedule, anew,
            whatever ReduceLROnPlateau made of it before.
        epochs : int
            Passes over the data.
        batch_size : int, "auto" or None
            Samples a step; None is the full batch. "auto" is the largest power of two up to the square root of the
            number of rows to train on, but at least 8. A short last batch is averaged over its own size.
        shuffle : bool
            Visit the rows in a new order each epoch, a function of the seed and the epoch alone.
        sample_weight : array-like (m,), optional
            Not negative and not all zero. The loss of a batch is sum(w l) / sum(w): a row of weight 2 counts as two
            rows, one of weight 0 as none, in scores, too.
        class_weight : dict or "balanced", optional
            Weight of each class, by index or by its text, times sample_weight, in the training loss alone: neither
            validation data nor metrics know of it. "balanced" is m / (classes * count), m and count the weights of all
            rows that are trained on and of those of the class.
        l2 : float
            Adds l2 / 2 * sum(W^2) over all weights, not biases, to the loss.
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight): their loss is recorded after each epoch.
        validation_split : float, optional
            Share of the rows, above 0 and below 1, that is held out, with its sample weights, to validate: a random one
            that the seed chooses, or, with shuffle=False, the last rows. X is not copied, unless each step takes all
            the other rows of a random choice.
        metrics : sequence of str or callable
            Scores recorded after each epoch, on the validation data where there are any, else on the training data:
            "accuracy", "r2", a name of `sklearn.metrics.get_scorer_names()` (extra `metrics`), or a function
            (y_true, outputs) that gives a number. It gets labels for a cross-entropy; one output comes as (m,); neither
            array can be written to. A function with a parameter sample_weight gets the weights by this name where there
            are any; another one sees each row once. Rows of weight 0 are left out.
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
        rows : array-like (r,) of int, optional
            Numbers of the rows of X to train on, as of a fold; with shuffle=False in this order. The fit is that on
            X[rows], y[rows] and sample_weight[rows], and X is not copied. Metrics, class weights, standardisation and
            validation_split see these rows alone; a row that comes twice counts twice.

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
        BusyError
            While another fit trains the net, as this one does when its callbacks, metrics and batches are called: to
            train, to `build` and to assign `standardization` are then refused. It may be asked, copied and saved, and
            get other weights from a callback.
        KeyboardInterrupt
            On Ctrl-C, after the current chunk of steps; the net is at a completed step and can be used.

        Warns
        -----
        UnscaledWarning
            Where a net that was not trained before gets a feature of large numbers, such as ids, that nothing scales.
        IdColumnWarning
            For a column of plain numbers that look like ids and stand as a `Number` in the net's Columns.
        DeadUnitsWarning
            Where all ReLU units of a layer are 0 for all rows at the end, so that they cannot learn any more; not for
            batches, whose rows are gone then, nor for functions of your own.
        """
        what = fit.Rows(X, y, rows, sample_weight, class_weight, validation_data, validation_split)
        steps = fit.Steps(optimizer, epochs, batch_size, shuffle, l2, threads)
        return fit.fit(self, what, steps, fit.Watch(metrics, callbacks, progress, resume))

    def minimize(
        self,
        X: AnyArray,
        y: AnyArray,
        solver: str = "lbfgs",
        sample_weight: AnyArray | None = None,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        l2: float = 0.0,
        max_iter: int = 100,
        tol: float = 1e-4,
        callbacks: Sequence[Callable[["Sequential", History], Any]] = (),
        progress: bool = False,
        threads: int | None = None,
        max_fun: int | None = None,
        biases: bool = True,
    ) -> History:
        """Train on all rows at once, from the current weights on, until the gradient is within a tolerance.

        Unlike `fit` it has no learning rate, and it ends by itself (extra `solvers`). The loss that is minimised is
        that of `fit` with the full batch, so that l2 = 1 / (C * sum of the sample weights) gives the objective of
        scikit-learn's LogisticRegression, which divides by the same sum. Dropout does not act.

        A net of float32 is trained in float32 until the loss changes by less than one in a million, then in float64,
        for which its rows are converted once: 8 m n_features bytes, unless X is float64 already. Its parameters are the
        result, rounded.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples, as for `fit`.
        y : array-like
            Targets, as for `fit`.
        solver : str
            "lbfgs": L-BFGS, for any net; SciPy's. "newton-cholesky": Newton's method, for a net of one Dense layer with
            a cross-entropy, or with mse and no activation, and for at most 8,192 parameters an output, of softmax in
            all: few iterations, each of which makes the Hessian. Where that is not positive definite, or a step makes
            the loss no smaller, L-BFGS goes on.
        sample_weight : array-like (m,), optional
            Weights of the samples.
        class_weight : dict or "balanced", optional
            As for `fit`.
        l2 : float
            As for `fit`.
        max_iter : int
            Iterations at most.
        tol : float
            It ends where no element of the gradient is larger than this.
        callbacks : sequence of callable
            Functions called after each iteration with (net, history); one that returns True ends it.
        progress : bool
            Show a bar (extra `progress`).
        threads : int, optional
            Threads that may take part.
        max_fun : int, optional
            Evaluations of the loss by L-BFGS at most.
        biases : bool
            False leaves the biases as they are.

        Returns
        -------
        History
            An entry an iteration, of the loss after it. `converged` says whether the tolerance was reached, or the
            loss could not be made smaller in float64.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted; the net is then as it was.
        DivergedError
            If the loss or its gradient is not finite at the start.
        BusyError
            While another fit trains the net.
        ImportError
            Without SciPy.
        KeyboardInterrupt
            On Ctrl-C; the net is at the last iterate.
        """
        what = fit.Rows(X, y, sample_weight=sample_weight, class_weight=class_weight)
        return solvers.minimize(
            self, what, solvers.Goal(solver, l2, max_iter, tol, threads, max_fun, biases), callbacks, progress
        )

    def partial_fit(
        self,
        X: AnyArray,
        y: AnyArray,
        optimizer: Optimizer | str | None = None,
        sample_weight: AnyArray | None = None,
        l2: float = 0.0,
        threads: int | None = None,
    ) -> float:
        """One step with these rows as its batch, from the current weights and optimizer state on.

        Working memory is kept for the next call with as many rows. A net with standardize=True learns from the rows of
        the first call, so that these should be many.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        y : array-like
            Targets, as for `fit`.
        optimizer : Optimizer or str, optional
            As for `fit`. A schedule gives its first rate.
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
        return fit.partial_fit(self, X, y, sample_weight, fit.one_step(self, optimizer, l2, threads))

    @overload
    def predict(self, X: ArrayLike, threads: int | None = None) -> Floats: ...
    @overload
    def predict(self, X: DeviceArray, threads: int | None = None) -> Any: ...
    def predict(self, X: AnyArray, threads: int | None = None) -> Any:
        """Outputs of the net: probabilities for sigmoid and softmax, rates for poisson, numbers for the rest.

        They have two dimensions also where y had one: `net.predict(X)[:, 0]` is what can be compared with such a y.
        `net.predict(X) - y` would be (m, m) numbers.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples; NaN and infinity travel through. Masked entries, None and NA are refused, as by `fit`.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array (m, n_out)
            In the net's dtype; for an X on a GPU it is there, too, and of the same kind.
        """
        X = data.samples(self, X)
        threads = backends.thread_count("threads", threads)
        return plans.outputs(self, X, backends.empty_result(X, self.outputs), threads)

    def predict_labels(self, X: AnyArray, threads: int | None = None) -> NDArray[Any]:
        """Classes.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array of int64, or of text
            On the host: (m,) class indices for softmax, (m,) of 0 and 1 for one sigmoid output, (m, k) of 0 and 1 for k
            of them: 1 where the probability is above 0.5. Of a net that was trained on text, its `classes` in their
            place.

        Raises
        ------
        ValueError
            For a net whose loss is not a cross-entropy, and for a row whose outputs are NaN.
        """
        kind = scores.kind_with_labels(self.loss)
        X = data.samples(self, X)
        out, threads = np.empty((len(X), self.outputs), self.dtype), backends.thread_count("threads", threads)
        found = scores.checked_labels(plans.outputs(self, X, out, threads), kind)
        return found if self._classes is None else self._classes[found]

    def evaluate(
        self,
        X: AnyArray,
        y: AnyArray,
        sample_weight: AnyArray | None = None,
        threads: int | None = None,
        metrics: Metrics = (),
        rows: ArrayLike | None = None,
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
        rows : array-like (r,) of int, optional
            Numbers of the rows that count, as for `fit`; X is not copied.

        Returns
        -------
        dict
            "loss" (without l2), and "accuracy" for cross-entropies (share of the rows whose labels are all right), else
            "r2" (share of the variance explained, mean over targets; NaN for constant targets); then the metrics.
        """
        asked = evaluation.Asked(X, y, sample_weight, threads, metrics, rows)
        return evaluation.evaluate(self, self.program.n_features, asked, plans.host_outputs, _loss_of)

    def loss_and_gradient(
        self, X: AnyArray, y: AnyArray, sample_weight: AnyArray | None = None, threads: int | None = None
    ) -> tuple[float, Floats]:
        """Mean loss, and its gradient with respect to all parameters.

        Working memory is kept for the next call with as many rows.

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
        threads, features = backends.thread_count("threads", threads), self.program.n_features
        these = data.check(self, X, y, sample_weight, features=features)
        with plans.kept(self, backends.GRADIENT, len(these), threads, arrays.on_gpu(these.X)) as plan:
            plans.bind(self, plan, these)
            return plans.loss_of(plan), plan.gradient.copy()

    def objective(
        self,
        X: AnyArray,
        y: AnyArray,
        sample_weight: AnyArray | None = None,
        l2: float = 0.0,
        threads: int | None = None,
        dtype: DTypeLike | None = None,
    ) -> Objective:
        """The loss as a function of all parameters, for an optimizer such as `scipy.optimize.minimize` with jac=True.

        The rows are checked and bound once, so that a call costs what the arithmetic costs. The net stays as it is;
        `net.parameters = result.x` puts a result into it. Dropout does not act.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples; not copied where that can be done without.
        y : array-like
            Targets, as for `fit`.
        sample_weight : array-like (m,), optional
            Weights of the samples.
        l2 : float
            As for `fit`: adds l2 / 2 * sum(W^2).
        threads : int, optional
            Threads that may take part.
        dtype : str or dtype, optional
            Of the arithmetic; by default the net's. In float32 the loss has about seven digits: enough to come near a
            minimum, not to end at one. "float64" converts the rows once, which takes 8 m n_features bytes.

        Returns
        -------
        Objective
            f(theta) -> (loss, gradient): theta (p,) and gradient (p,) in float64 and in the layout of `parameters`.

        Raises
        ------
        NotBuiltError
            Without parameters.
        TypeError, ValueError
            For an argument that is not accepted.
        """
        l2, features = validation.number("l2", l2, low=0.0), self.program.n_features
        dtype = self.dtype if dtype is None else _checked_dtype(dtype)
        rows = data.check(self, X, y, sample_weight, features=features, dtype=dtype)
        return Objective(self, rows, l2, backends.thread_count("threads", threads), dtype)

    def apply_gradient(self, gradient: AnyArray, optimizer: Optimizer | str | None = None, l2: float = 0.0) -> None:
        """One update from a gradient, which may be the mean of those of several machines.

        With the gradient that `loss_and_gradient` gives of some rows it is the step of a `fit` with these rows as its
        batch: bit for bit on the CPU where l2 is 0.

        Parameters
        ----------
        gradient : array-like (p,)
            Finite numbers in the layout of `parameters`, without l2.
        optimizer : Optimizer or str, optional
            As for `fit`. A schedule gives its first rate. State is kept as in `fit`.
        l2 : float
            As for `fit`.

        Raises
        ------
        NotBuiltError
            Without parameters.
        TypeError, ValueError
            For an argument that is not accepted; the net is then as it was.
        DivergedError
            If a parameter is not finite; the parameters are those before the update.
        """
        steps, shape = fit.one_step(self, optimizer, l2, None), self.state.parameters.shape
        gradient = arrays.host("gradient", gradient, self.device)
        fit.apply_gradient(self, validation.numeric_array("gradient", gradient, shape, self.dtype), steps)

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
        self._must_take_numbers("input_gradient")
        threads, features = backends.thread_count("threads", threads), self.program.n_features
        these = data.check(self, X, y, sample_weight, features=features)
        out = backends.empty_result(these.X, features)
        with plans.kept(self, backends.INPUT_GRADIENT, len(these), threads, arrays.on_gpu(these.X)) as plan:
            plans.bind(self, plan, these)
            plan.bind_output(out)
            plans.run(plan)
        return out

    def jacobian(self, X: ArrayLike, threads: int | None = None) -> Floats:
        """Derivatives of the outputs that `predict` gives, by the inputs: one backward pass an output.

        Standardisation is part of it: derivatives are those by the numbers of X, in the units of the targets.

        Parameters
        ----------
        X : array-like (m, n_features)
            Samples on the host, as for `predict`.
        threads : int, optional
            Threads that may take part.

        Returns
        -------
        array (m, n_out, n_features)
            In the net's dtype; [s, o, i] is the derivative of output o of sample s by its input i. Where an activation
            has a kink, that of torch.

        Raises
        ------
        TypeError, ValueError
            For an argument that is not accepted, an X on a GPU among them, and for a net with device="cuda": it is made
            on the CPU alone.
        """
        if self.device == "cuda":
            raise must_be("device", "'cpu' or 'auto' for jacobian, which is made on the CPU alone", self.device)
        self._must_take_numbers("jacobian")
        X = data.samples(self, X, "cpu")
        threads = backends.thread_count("threads", threads)
        out = np.empty((len(X), self.outputs, X.shape[1]), self.dtype)
        with plans.kept(self, backends.JACOBIAN, len(X), threads) as plan:
            plan.bind_data(X)
            plan.bind_output(out.reshape(len(X), -1))
            plans.run(plan)
        return out

    def _must_take_numbers(self, what):
        if self.columns is not None:
            raise must_be(what, "asked of a net of numbers: a code has no derivative", described("one with Columns"))

    def freeze(self) -> Frozen:
        """The net as it is now, for `fastnn.apply`: also in the user's own @njit functions.

        Of a net that begins with Columns it takes rows of numbers and codes, as `encode` gives them.

        Returns
        -------
        Frozen
            A named tuple of arrays that cannot be written to; later fits do not change it.
        """
        frozen = inference.frozen(self)
        parameters = frozen.parameters.copy()
        parameters.flags.writeable = False
        return frozen._replace(parameters=parameters)

    def save(self, path: PathLike) -> None:
        """Write the net to a file, for `fastnn.load` (extra `checkpoint`).

        Parameters
        ----------
        path : path-like
            In the safetensors format: arrays W1, b1, ..., and the layers as metadata. A file that stood there is
            replaced when the new one is whole and on the disk; its permissions stay.

        Raises
        ------
        NotBuiltError
            Without parameters.
        TypeError, ValueError
            For a path that cannot be written to, weights that are not finite, or a net with functions of your own.
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
            dtype; standardisation is part of it. Of a net that begins with Columns the input is what `encode` gives:
            text and dates are left to it. Operators are those of version 13 (2020).

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
        """A table of the layers, which `print(net)` shows, too, and a notebook.

        Returns
        -------
        str
            One line a layer: shape, activation, number of parameters; then whether the net is trained.
        """
        return summaries.text(self)

    def _repr_html_(self) -> str:
        return summaries.page(self)

    def __str__(self) -> str:
        return self.summary()

    def __dir__(self) -> list[str]:
        return sorted(set(super().__dir__()) - self._MACHINERY)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layers!r}, loss={custom.shown(self.loss)}, dtype={str(self.dtype)!r})"


class _Claim(NamedTuple):
    """Who trains a net, or did: a lock that is held meanwhile, the process, and the claim that came after this one."""

    guard: threading.Lock
    process: int
    successor: dict[str, "_Claim"]

    def check(self):
        """Refuse what cannot be done to the net while this holds."""
        if self.guard.locked() and self.process == os.getpid():  # else a fork has a copy of a net that was trained
            raise BusyError("the net is being trained: wait for the end of its fit, or take a copy.deepcopy of it")


def _loss_of(net, these, outputs, threads):
    """Mean loss of the rows that count."""
    with plans.kept(net, backends.EVALUATE, len(these), threads, arrays.on_gpu(these.X)) as plan:
        plans.bind(net, plan, these)
        return plans.loss_of(plan)


def _checked_layers(layers):
    """The layers of a net, in a tuple."""
    accepted = "a list of fastnn.Dense, with at most one fastnn.Dropout before each, after fastnn.Columns or without"
    if not isinstance(layers, list | tuple) or not all(isinstance(layer, Layer) for layer in layers):
        raise must_be("layers", accepted, layers, TypeError)
    first = 1 if layers and isinstance(layers[0], Columns) else 0
    if any(isinstance(layer, Columns) for layer in layers[first:]):
        raise must_be("layers", accepted, layers)
    trained = [bool(layer.arrays) for layer in layers[first:]]
    if not trained or layers[-1].units is None or not all(map(any, zip(trained, trained[1:], strict=False))):
        raise must_be("layers", accepted, layers)
    for layer in layers[:-1]:
        if layer.activation is not None and backends.by_row(backends.activation(layer.activation)):
            raise must_be("activation", f"other than {layer.activation!r} before the last layer", layer.activation)
    return tuple(layers)


def _checked_loss(loss, last):
    """The loss of a net, by name or (f, df), for its last layer."""
    activation = last.activation or "linear"
    if loss is None:
        loss = next((record.name for record in backends.LOSSES.values() if record.activation == activation), "mse")
    if isinstance(loss, tuple):
        custom.check_loss(loss, activation)
    else:
        validation.choice("loss", loss, list(backends.LOSSES))
    needed, by_row = backends.loss(loss).activation, backends.by_row(backends.activation(activation))
    if (needed or by_row) and needed != activation:
        pairs = [f"{name!r} with {one.activation}" for name, one in backends.LOSSES.items() if one.activation]
        pairs.append("another without softmax")
        raise must_be("loss", ", ".join(pairs), described(f"{loss!r} with {activation!r}"))
    if last.units % backends.loss(loss).outputs_per_target:
        raise must_be(
            "units", f"even for {loss}: for each target its mean and the logarithm of its variance", last.units
        )
    if by_row and last.units < 2:
        raise must_be("units", f"at least 2 for a {activation} layer", last.units)
    return loss


def _checked_dtype(dtype):
    try:
        found = None if dtype is None else np.dtype(dtype)
    except Exception:  # NumPy raises many
        found = None
    if found not in (np.float32, np.float64) or not found.isnative:
        raise must_be("dtype", "'float32' or 'float64'", dtype)
    return found

"""Multi-layer perceptrons as scikit-learn's, with what its users miss there."""

import math
import numbers
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from .. import backends, validation
from ..backends import Floats
from ..callbacks import Callback
from ..columns import Columns
from ..custom import Pair
from ..errors import DivergedError, described, must_be, users_level
from ..history import History
from ..layers import Dense, Dropout
from ..models import Sequential
from ..optimizers import SGD, Adam
from ..schedules import Schedule
from . import full_batch, inputs
from .base import NetClassifier, NetEstimator

Hidden = int | Sequence[int]
Activations = str | Pair | Sequence[str | Pair]
Callbacks = Sequence[Callback | Callable[[Sequential, History], Any]]

_OURS = {"identity": "linear", "logistic": "sigmoid"}  # activations that scikit-learn calls otherwise
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_LOSSES = {"squared_error": "mse", "absolute_error": "mae"}  # losses, too
_STOCHASTIC = ("adam", "sgd")
_SLOWEST = 1e-6  # a rate that learning_rate="adaptive" does not divide any more


class _InverseScaling(Schedule):
    """rate / (samples seen + 1)^power, as of the second epoch after the optimizer's start.

    Parameters
    ----------
    rate : float
        Of the first epoch.
    power : float
        How fast it falls.
    seen : int
        Samples before this fit.
    rows : int
        Samples of an epoch.
    fresh : bool
        Whether the optimizer starts with this fit.
    """

    def __init__(self, rate, power, seen, rows, fresh):
        self.rate, self.power, self.seen, self.rows, self.fresh = rate, power, seen, rows, fresh

    def _rates(self, epochs):
        falling = self.rate / (self.seen + epochs * self.rows + 1) ** self.power
        return np.where(epochs == 0, self.rate, falling) if self.fresh else falling


class _Watch(Callback):
    """Keeps the record of an estimator up to date, and ends its fit by scikit-learn's rules.

    Parameters
    ----------
    estimator : _MLP
        Gets loss_, loss_curve_, n_iter_, t_ and the validation scores.
    scale : float
        scikit-learn's loss is the net's times it.
    rows : int
        Samples of an epoch.
    score : str or None
        Name of the validation score, where there is one.
    """

    def __init__(self, estimator, scale, rows, score):
        self.estimator, self.scale, self.rows, self.score = estimator, scale, rows, score
        self.run = self.best = None

    def begin(self, run):
        """Go on with the rate to which learning_rate="adaptive" has fallen."""
        self.run, run.rate_scale = run, self.estimator._rate_scale
        if self.estimator.early_stopping:
            self.best = run.net.state.parameters.copy()

    def epoch(self, run):
        """Record an epoch, and end the fit or slow it down where nothing has improved for too long."""
        score = None if self.score is None else run.history.last(self.score)
        self.record(run.history.last("loss"), score)
        estimator = self.estimator
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            adaptive = estimator.solver == "sgd" and estimator.learning_rate == "adaptive"
            if adaptive and run.rate_scale * estimator.learning_rate_init > _SLOWEST:
                run.rate_scale /= 5.0
                estimator._rate_scale, estimator._no_improvement_count = run.rate_scale, 0
            else:
                run.stop()

    def record(self, loss, score):
        """Add an epoch; count how many have not improved."""
        estimator = self.estimator
        estimator.loss_ = self.scale * loss
        estimator.loss_curve_.append(estimator.loss_)
        estimator.n_iter_, estimator.t_ = estimator.n_iter_ + 1, estimator.t_ + self.rows
        text = f"Iteration {estimator.n_iter_}, loss {estimator.loss_:.8f}"
        stuck = False
        if score is not None:
            best = estimator.best_validation_score_
            stuck = score < best + estimator.tol
            estimator.validation_scores_.append(score)
            if score > best:
                estimator.best_validation_score_ = score
                if self.best is not None:
                    np.copyto(self.best, self.run.net.state.parameters)
            text += f", validation score {score:.6f}"
        if not estimator.early_stopping:
            stuck = estimator.loss_ > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = min(estimator.best_loss_, estimator.loss_)
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if stuck else 0
        if estimator.verbose:
            print(text)

    def end(self, run):
        """Put the weights with the best validation score back."""
        self.put_back(run.net)

    def put_back(self, net):
        """Put the weights with the best validation score back, if early stopping kept any."""
        if self.best is not None and not np.array_equal(net.parameters, self.best):
            net.state.forget()
            np.copyto(net.parameters, self.best)


def r2(y_true, outputs, sample_weight=None):
    """`sklearn.metrics.r2_score`, NaN for outputs that are not finite: the name is that of the metric in a history."""
    if not np.isfinite(outputs).all():
        return math.nan
    return r2_score(y_true, outputs, sample_weight=sample_weight)


def _check_settings(estimator):
    """Refuse parameters that are not accepted, whether or not the solver takes them."""
    get = vars(estimator).__getitem__
    validation.choice("solver", get("solver"), [*_STOCHASTIC, "lbfgs"])
    validation.choice("learning_rate", get("learning_rate"), ["constant", "invscaling", "adaptive"])
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
        validation.flag(name, get(name))
    for name in ("max_iter", "max_fun"):
        validation.size(name, get(name))
    for name in ("alpha", "tol", "power_t"):
        validation.number(name, get(name), low=0.0)
    for name in ("learning_rate_init", "epsilon"):
        validation.number(name, get(name), above=0.0)
    for name in ("momentum", "beta_1", "beta_2"):
        validation.number(name, get(name), low=0.0, below=1.0)
    if get("early_stopping"):
        validation.number("validation_fraction", get("validation_fraction"), above=0.0, below=1.0)
    if get("n_iter_no_change") != math.inf:
        validation.size("n_iter_no_change", get("n_iter_no_change"))
    if not isinstance(get("batch_size"), str) or get("batch_size") != "auto":
        validation.size("batch_size", get("batch_size"))
    inputs.check_verbose(get("verbose"))
    if not (get("callbacks") is None or isinstance(get("callbacks"), list | tuple)):
        raise must_be("callbacks", "None or a sequence of callbacks", get("callbacks"), TypeError)


def _by_layer(name, value, count, single):
    """A setting for each of `count` hidden layers, from one for all or a sequence."""
    if single(value):
        return [value] * count
    if not isinstance(value, list | tuple | np.ndarray):
        raise must_be(name, "a setting for all hidden layers, or a list of one for each", value, TypeError)
    if len(value) != count:
        raise must_be(name, f"a list of one for each of the {count} hidden layers", described(f"{len(value)}"))
    return list(value)


def _is_activation(value):
    return isinstance(value, str) or (isinstance(value, tuple) and all(map(callable, value)))


def _hidden_layers(estimator):
    """(Dense, Dropout or None) for each hidden layer."""
    sizes = estimator.hidden_layer_sizes
    sizes = [sizes] if isinstance(sizes, numbers.Integral) else sizes
    if not isinstance(sizes, list | tuple | np.ndarray):
        raise must_be("hidden_layer_sizes", "a positive int or a sequence of them", sizes, TypeError)
    activations = _by_layer("activation", estimator.activation, len(sizes), _is_activation)
    rates = _by_layer("dropout", estimator.dropout, len(sizes), lambda value: isinstance(value, numbers.Real))
    for size, activation, rate in zip(sizes, activations, rates, strict=True):
        name = _OURS.get(activation, activation) if isinstance(activation, str) else activation
        dropout = Dropout(validation.number("dropout", rate, low=0.0, below=1.0))
        yield Dense(validation.size("hidden_layer_sizes", size), name), dropout


def _drawn_weights(layers, n_features, rng):
    """Starting values W1, b1, W2, ... as scikit-learn draws them, from the same numbers (Glorot and Bengio 2010)."""
    factor, n_in = 6.0, n_features
    for layer in layers:
        if layer is not layers[-1]:
            factor = 2.0 if layer.activation == "sigmoid" else 6.0
        bound = math.sqrt(factor / (n_in + layer.units))
        yield rng.uniform(-bound, bound, (n_in, layer.units)).T
        yield rng.uniform(-bound, bound, layer.units)
        n_in = layer.units


def _has_partial_fit(estimator):
    return estimator.solver in _STOCHASTIC


class _MLP(NetEstimator):
    """What the classifier and the regressor share. Subclasses say how targets are encoded, and the last layer."""

    _score: str  # name of the validation score

    @property
    def coefs_(self) -> list[Floats]:
        """Weights of each layer, (n_in, n_out): views of those of `net_`, without what columns of codes have."""
        return [W.T for W in self._arrays()[::2]]

    @property
    def intercepts_(self) -> list[Floats]:
        """Biases of each layer, (n_out,): views of those of `net_`."""
        return self._arrays()[1::2]

    def _arrays(self):
        """W1, b1, W2, ... of the dense layers."""
        tables = 0 if self.net_.columns is None else len(self.net_.bound_layers[0].arrays)
        return self.net_.arrays[tables:]

    @property
    def n_layers_(self) -> int:
        """Layers, the inputs counted as one."""
        return len(self.coefs_) + 1

    @property
    def n_outputs_(self) -> int:
        """Outputs of the net."""
        return self.net_.outputs

    @property
    def out_activation_(self) -> str:
        """Activation of the outputs, by scikit-learn's name."""
        activation = self.net_.layers[-1].activation
        return _THEIRS.get(activation, activation)

    def _fit(self, X, y, sample_weight, validation_data=None, partial=False):
        """Carry out `fit`, or `partial_fit`."""
        _check_settings(self)
        if partial and self.early_stopping:
            raise must_be("early_stopping", "False for partial_fit, which holds nothing out", True)
        going_on = hasattr(self, "net_") and (partial or self.warm_start)
        dtypes = [self.net_.dtype] if going_on else inputs.dtype_of(self.dtype)
        X, y = self._validated(X, y, dtypes, not going_on)
        dtype = X.dtype if self.columns is None else dtypes[0]
        weights = validation.sample_weights("sample_weight", sample_weight, dtype, len(X))
        if not going_on:
            vars(self).pop("net_", None)  # a fit that is refused leaves an estimator that is not fitted
        targets = self._encoded(y, going_on, partial)
        rng = check_random_state(self.random_state)
        net = self.net_ if going_on else self._new_net(X, targets, dtype, rng)
        rows, held_out = self._held_out(X, targets, weights, validation_data, dtype, rng)
        weights = self._weighted(targets, dtype, weights, rows)
        self._begin(net, going_on, partial)
        if self.solver in _STOCHASTIC:
            self._train(X, targets, rows, weights, held_out, partial)
        else:
            self._minimize(X, targets, weights)
        if hasattr(self, "feature_names_in_") and self.columns is None:
            self.net_.feature_names = tuple(self.feature_names_in_)
        return self

    def _new_net(self, X, targets, dtype, rng):
        """A net with starting weights; one with columns gets its own when these have learned."""
        hidden = list(_hidden_layers(self))
        output, of_loss = self._output(targets)
        dense = [*(layer for layer, _ in hidden), output]
        layers = [layer for pair in hidden for layer in pair if not (isinstance(layer, Dropout) and not layer.rate)]
        weights = () if self.columns is not None else list(_drawn_weights(dense, X.shape[1], rng))
        seed = check_random_state(self.random_state).randint(2**31 - 1)  # rng is to split rows as scikit-learn does
        settings = dict(dtype=dtype, device=self.device, seed=seed, **of_loss)
        if self.columns is not None:
            return Sequential([self.columns_, *layers, output], **settings)
        net = Sequential([*layers, output], **settings)
        net.build(X.shape[1]).set_weights(weights)
        return net

    def _begin(self, net, going_on, partial):
        """Take the net, and begin its record anew or go on with it."""
        self.net_, self.n_iter_ = net, 0
        if not partial:
            if net.n_features is not None:
                net.state.forget()
            self._rate_scale = 1.0
        if not going_on:
            self.t_ = 0
        if not going_on or (self.best_loss_ is None) != self.early_stopping:
            self._no_improvement_count, self._rate_scale = 0, 1.0
            self.loss_curve_, self.best_loss_ = [], None if self.early_stopping else math.inf
            self.validation_scores_ = self.best_validation_score_ = None

    def _held_out(self, X, targets, weights, given, dtype, rng):
        """(numbers of the rows to train on or None, what `Sequential.fit` takes as validation_data)."""
        if given is not None:
            if self.solver not in _STOCHASTIC:
                raise must_be("validation_data", f"None for solver={self.solver!r}", described("some"))
            if not isinstance(given, list | tuple) or len(given) not in (2, 3):
                raise must_be("validation_data", "None, (X, y) or (X, y, sample_weight)", given, TypeError)
            held_X, held_y = self._validated(given[0], given[1], [dtype], False)
            return None, (held_X, self._encoded(held_y, True, True), *given[2:])
        if not self.early_stopping or self.solver not in _STOCHASTIC:
            return None, None
        classes = targets if self._stratifies(targets) else None
        numbers = np.arange(len(X))
        train, held = train_test_split(numbers, random_state=rng, test_size=self.validation_fraction, stratify=classes)
        if len(held) < 2:
            accepted = "a share of the rows that leaves at least two to validate on"
            raise must_be("validation_fraction", accepted, described(f"{self.validation_fraction} of {len(X)} rows"))
        apart = () if weights is None else (weights[held],)
        return train, (X[held] if self.columns is None else X.taken(held), targets[held], *apart)

    def _train(self, X, targets, rows, weights, held_out, partial):
        """Make the steps of adam or sgd."""
        net, count = self.net_, len(X) if rows is None else len(rows)
        batch = min(200 if self.batch_size == "auto" else self.batch_size, count)
        if self.batch_size != "auto" and self.batch_size > count:
            warnings.warn(
                f"batch_size is {self.batch_size}; all {count} rows are taken as one batch", stacklevel=users_level()
            )
        scale = self._scale()
        mean_weight = 1.0 if weights is None else float(np.mean(weights if rows is None else weights[rows]))
        if held_out is not None and self.validation_scores_ is None:
            self.validation_scores_, self.best_validation_score_ = [], -math.inf
        watch = _Watch(self, scale, count, None if held_out is None else self._score)
        try:
            net.fit(
                X,
                targets,
                optimizer=self._optimizer(scale, count, partial),
                epochs=1 if partial else self.max_iter,
                batch_size=None if batch == count else batch,
                shuffle=self.shuffle,
                sample_weight=weights,
                l2=self.alpha / (scale * batch * mean_weight),
                validation_data=held_out,
                metrics=() if held_out is None else (r2 if self._score == "r2" else self._score,),
                callbacks=[*(self.callbacks or ()), watch],
                rows=rows,
            )
        except DivergedError as error:
            if watch.best is None or self.best_validation_score_ == -math.inf:
                raise
            watch.record(math.nan, math.nan)
            warnings.warn(
                f"{error}; the weights with the best validation score", ConvergenceWarning, stacklevel=users_level()
            )
        finally:
            if watch.run is not None:
                self.history_ = watch.run.history
                watch.put_back(net)
        if not partial and self.n_iter_ == self.max_iter and not watch.run.stopped:
            text = f"max_iter={self.max_iter} epochs were made, and the fit had not come to its end"
            warnings.warn(text, ConvergenceWarning, stacklevel=users_level())

    def _minimize(self, X, targets, weights):
        """Let lbfgs end by itself."""
        net, scale = self.net_, self._scale()
        if any(isinstance(layer, Dropout) for layer in net.layers):
            raise must_be("dropout", f"0 for solver={self.solver!r}", self.dropout)
        self.loss_ = scale * full_batch.minimize(self, X, targets, weights, scale, self.alpha)
        self.n_iter_, self.t_ = self.history_.epochs, self.t_ + self.history_.epochs * len(X)
        self.loss_curve_ += (scale * self.history_.loss).tolist()
        if self.best_loss_ is not None:
            self.best_loss_ = min(self.best_loss_, self.loss_)

    def _optimizer(self, scale, count, partial):
        """adam or sgd; gradients of the net's loss are those of scikit-learn's, divided by `scale`."""
        rate = self.learning_rate_init
        if self.solver == "adam":
            return Adam(rate, self.beta_1, self.beta_2, self.epsilon / scale)
        rate = rate * scale
        if self.learning_rate == "invscaling":
            fresh = not partial or self.net_.state.step == 0
            rate = _InverseScaling(rate, self.power_t, self.t_, count, fresh)
        return SGD(rate, self.momentum, self.nesterovs_momentum and self.momentum > 0)


class MLPClassifier(NetClassifier, _MLP):
    """A net that classifies, with the parameters of `sklearn.neural_network.MLPClassifier` and more.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; () for none.
    activation : str, tuple or sequence
        Of the hidden layers: identity, logistic, tanh, relu, or any other that `fastnn.Dense` takes, by name or as a
        pair of functions. A list has one for each layer.
    solver : str
        adam, sgd, or lbfgs, which takes all rows at once and ends by itself.
    alpha : float
        Adds alpha / 2 * sum(W^2) / (weight of a batch) to the mean loss of a batch; biases are left out.
    batch_size : int or "auto"
        Rows of a step; "auto" is min(200, rows).
    learning_rate : str
        constant; invscaling, learning_rate_init / (samples seen + 1)^power_t from the second epoch on; or adaptive,
        divided by 5 whenever nothing has improved for n_iter_no_change epochs, until it is below 1e-6. For sgd.
    learning_rate_init : float
        Step size of adam and sgd.
    power_t : float
        Exponent of invscaling.
    max_iter : int
        Most epochs, or iterations of lbfgs.
    shuffle : bool
        Visit the rows in a new order each epoch.
    random_state : int, RandomState or None
        Starting weights, which are those of scikit-learn, rows that are held out, order of rows, dropout.
    tol : float
        An epoch has improved when its loss is lower, or its validation score greater, than the best by at least tol;
        lbfgs ends where no element of the gradient is larger.
    verbose : bool or int
        Print a line an epoch.
    warm_start : bool
        Let `fit` go on from the weights of the last one, with a new optimizer.
    momentum : float
        Share of the velocity that sgd keeps, in [0, 1).
    nesterovs_momentum : bool
        Let sgd look ahead along the velocity.
    early_stopping : bool
        Hold rows out, end the fit when the accuracy on them has not improved for n_iter_no_change epochs, and put the
        best weights back; for adam and sgd.
    validation_fraction : float
        Share of the rows that early_stopping holds out, where `fit` gets no validation_data, stratified by label.
    beta_1, beta_2 : float
        Smoothing of the gradient and of its square, in [0, 1), for adam.
    epsilon : float
        Added by adam to the root, after its bias is corrected.
    n_iter_no_change : int
        Epochs without improvement that are let pass; the fit ends after one more. math.inf for all.
    max_fun : int
        Most evaluations of the loss by lbfgs.
    dropout : float or sequence of float
        Share of the outputs of each hidden layer that is dropped while training, in [0, 1).
    class_weight : dict or "balanced", optional
        Weight of each label in the training loss, times sample_weight; "balanced" gives all labels the same weight in
        sum.
    callbacks : sequence, optional
        As `fastnn.Sequential.fit` takes them, or for lbfgs as `minimize` does.
    device : str
        "cpu", "cuda" or "auto", as `fastnn.Sequential` takes it; X and y are on the host.
    dtype : str or dtype
        float32, which is about twice as fast, or float64; "auto" is that of X where it is one of them, else float64.
    columns : Columns, "infer" or None
        What the columns of a table are, so that X may be a frame with text, dates and gaps; "infer" lets
        `fastnn.Columns.infer` decide. With alpha=0 a step touches only what its rows touch of the tables of codes.

    Attributes
    ----------
    net_ : fastnn.Sequential
        The net.
    history_ : fastnn.History
        Of the last fit.
    coefs_, intercepts_ : list of array
        W (n_in, n_out) and b (n_out,) of each layer.
    loss_ : float
        Of the last epoch or iteration, with the penalty.
    loss_curve_ : list of float
        `loss_` of each epoch or iteration.
    best_loss_ : float or None
        The least of them; None with early_stopping.
    validation_scores_ : list of float or None
        The accuracy after each epoch, where there are rows to validate on.
    best_validation_score_ : float or None
        The greatest of them.
    n_iter_, t_ : int
        Epochs or iterations of the last fit, and rows that were trained on in all, each time counted.
    n_layers_, n_outputs_ : int
        Layers, the inputs counted as one, and outputs of the net.
    out_activation_ : str
        logistic for two classes and for labels that do not exclude each other, else softmax.
    classes_ : array (c,)
        The labels, sorted; range(k) for k labels that do not exclude each other.
    coding_ : object
        How labels become targets of the net, and its outputs labels.
    columns_ : Columns
        Those that are read, where the parameter `columns` is set.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : array of str
        Their names, where X was a table that has them.
    """

    _score = "accuracy"

    def __init__(
        self,
        hidden_layer_sizes: Hidden = (100,),
        activation: Activations = "relu",
        *,
        solver: str = "adam",
        alpha: float = 1e-4,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 1e-3,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15_000,
        dropout: float | Sequence[float] = 0.0,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        callbacks: Callbacks | None = None,
        device: str = "cpu",
        dtype: DTypeLike | Literal["auto"] = "auto",
        columns: Columns | Literal["infer"] | None = None,
    ) -> None:
        vars(self).update({name: value for name, value in locals().items() if name not in ("self", "__class__")})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_data: Sequence[Any] | None = None,
    ) -> Self:
        """Train, from new weights on unless warm_start is set.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples. A sparse one is made dense, which may take no more than scikit-learn's working_memory (1 GiB,
            `sklearn.set_config`).
        y : array-like (m,) or (m, k)
            Labels, of text or numbers; or 0 and 1, for k labels that do not exclude each other.
        sample_weight : array-like (m,), optional
            Not negative; a row of weight 2 counts as two rows.
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight): the accuracy on them is recorded after each epoch, and early_stopping
            judges by it.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            For what is not accepted.
        DivergedError
            If the loss or a parameter is not finite, unless early_stopping has weights to put back.
        KeyboardInterrupt
            On Ctrl-C: the estimator can be used, as it stood after the last completed step.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(_has_partial_fit)
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, classes: ArrayLike | None = None
    ) -> Self:
        """Make one epoch over these rows, from the current weights and optimizer state on.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples. A sparse one is made dense, which may take no more than scikit-learn's working_memory (1 GiB,
            `sklearn.set_config`).
        y : array-like (m,) or (m, k)
            Labels, of text or numbers; or 0 and 1, for k labels that do not exclude each other.
        sample_weight : array-like (m,), optional
            Not negative; a row of weight 2 counts as two rows.
        classes : array-like (c,), optional
            All labels; needed in the first call, unless it follows `fit`.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        known = self.coding_ if hasattr(self, "net_") else None
        if known is None and classes is None:
            raise must_be("classes", "all labels in the first call of partial_fit", classes)
        if known is not None and classes is not None and not np.array_equal(known.classes, np.unique(classes)):
            raise must_be("classes", "None, or those of the first call", classes)
        self._known_classes = classes
        if self.class_weight == "balanced":
            raise must_be("class_weight", "None or a dict for partial_fit, which sees some rows", self.class_weight)
        return self._fit(X, y, sample_weight, partial=True)

    def _validated(self, X, y, dtypes, reset):
        return inputs.samples_and_targets(self, X, y, dtypes, reset, multi_output=True)

    def _encoded(self, y, going_on, some):
        """Class numbers, or 0 and 1 (m, k). `some`: y need not have all classes."""
        if not going_on:
            self.coding_ = inputs.Coding(y, self._known_classes if some else None)
            self.classes_ = self.coding_.classes
        elif not some and not self.coding_.multilabel and not np.array_equal(np.unique(y), self.classes_):
            raise must_be("y", f"of the classes {self.classes_} of the last fit, with warm_start", np.unique(y))
        return self.coding_.encoded("y", y)

    def _stratifies(self, targets):
        return targets.ndim == 1

    def _output(self, targets):
        """The last layer, and what `Sequential` is to know of the loss."""
        return Dense(self.coding_.outputs, self.coding_.activation), {}

    def _scale(self):
        return float(self.n_outputs_) if self.coding_.multilabel else 1.0

    def _weighted(self, targets, dtype, weights, rows):
        return self.coding_.class_weights(self.class_weight, targets, dtype, weights, rows)


class MLPRegressor(RegressorMixin, _MLP):
    """A net that predicts numbers, with the parameters of `sklearn.neural_network.MLPRegressor` and more.

    Parameters
    ----------
    loss : str or tuple
        squared_error (halved), absolute_error, huber, poisson (without the terms of y alone), quantile, gaussian, or a
        pair of functions, as `fastnn.Sequential` takes them. That of several targets is the sum of theirs.
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; () for none.
    activation : str, tuple or sequence
        Of the hidden layers: identity, logistic, tanh, relu, or any other that `fastnn.Dense` takes, by name or as a
        pair of functions. A list has one for each layer.
    solver : str
        adam, sgd, or lbfgs, which takes all rows at once and ends by itself.
    alpha : float
        Adds alpha / 2 * sum(W^2) / (weight of a batch) to the mean loss of a batch; biases are left out.
    batch_size : int or "auto"
        Rows of a step; "auto" is min(200, rows).
    learning_rate : str
        constant; invscaling, learning_rate_init / (samples seen + 1)^power_t from the second epoch on; or adaptive,
        divided by 5 whenever nothing has improved for n_iter_no_change epochs, until it is below 1e-6. For sgd.
    learning_rate_init : float
        Step size of adam and sgd.
    power_t : float
        Exponent of invscaling.
    max_iter : int
        Most epochs, or iterations of lbfgs.
    shuffle : bool
        Visit the rows in a new order each epoch.
    random_state : int, RandomState or None
        Starting weights, which are those of scikit-learn, rows that are held out, order of rows, dropout.
    tol : float
        An epoch has improved when its loss is lower, or its validation score greater, than the best by at least tol;
        lbfgs ends where no element of the gradient is larger.
    verbose : bool or int
        Print a line an epoch.
    warm_start : bool
        Let `fit` go on from the weights of the last one, with a new optimizer.
    momentum : float
        Share of the velocity that sgd keeps, in [0, 1).
    nesterovs_momentum : bool
        Let sgd look ahead along the velocity.
    early_stopping : bool
        Hold rows out, end the fit when R² on them has not improved for n_iter_no_change epochs, and put the
        best weights back; for adam and sgd.
    validation_fraction : float
        Share of the rows that early_stopping holds out, where `fit` gets no validation_data.
    beta_1, beta_2 : float
        Smoothing of the gradient and of its square, in [0, 1), for adam.
    epsilon : float
        Added by adam to the root, after its bias is corrected.
    n_iter_no_change : int
        Epochs without improvement that are let pass; the fit ends after one more. math.inf for all.
    max_fun : int
        Most evaluations of the loss by lbfgs.
    dropout : float or sequence of float
        Share of the outputs of each hidden layer that is dropped while training, in [0, 1).
    quantile : float
        Of loss="quantile", above 0 and below 1.
    callbacks : sequence, optional
        As `fastnn.Sequential.fit` takes them, or for lbfgs as `minimize` does.
    device : str
        "cpu", "cuda" or "auto", as `fastnn.Sequential` takes it; X and y are on the host.
    dtype : str or dtype
        float32, which is about twice as fast, or float64; "auto" is that of X where it is one of them, else float64.
    columns : Columns, "infer" or None
        What the columns of a table are, so that X may be a frame with text, dates and gaps; "infer" lets
        `fastnn.Columns.infer` decide. With alpha=0 a step touches only what its rows touch of the tables of codes.

    Attributes
    ----------
    net_ : fastnn.Sequential
        The net.
    history_ : fastnn.History
        Of the last fit.
    coefs_, intercepts_ : list of array
        W (n_in, n_out) and b (n_out,) of each layer.
    loss_ : float
        Of the last epoch or iteration, with the penalty.
    loss_curve_ : list of float
        `loss_` of each epoch or iteration.
    best_loss_ : float or None
        The least of them; None with early_stopping.
    validation_scores_ : list of float or None
        R² after each epoch, where there are rows to validate on.
    best_validation_score_ : float or None
        The greatest of them.
    n_iter_, t_ : int
        Epochs or iterations of the last fit, and rows that were trained on in all, each time counted.
    n_layers_, n_outputs_ : int
        Layers, the inputs counted as one, and outputs of the net.
    out_activation_ : str
        identity, or exp for poisson.
    columns_ : Columns
        Those that are read, where the parameter `columns` is set.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : array of str
        Their names, where X was a table that has them.
    """

    _score = "r2"

    def __init__(
        self,
        loss: str | Pair = "squared_error",
        hidden_layer_sizes: Hidden = (100,),
        activation: Activations = "relu",
        *,
        solver: str = "adam",
        alpha: float = 1e-4,
        batch_size: int | Literal["auto"] = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 1e-3,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15_000,
        dropout: float | Sequence[float] = 0.0,
        quantile: float = 0.5,
        callbacks: Callbacks | None = None,
        device: str = "cpu",
        dtype: DTypeLike | Literal["auto"] = "auto",
        columns: Columns | Literal["infer"] | None = None,
    ) -> None:
        vars(self).update({name: value for name, value in locals().items() if name not in ("self", "__class__")})

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        validation_data: Sequence[Any] | None = None,
    ) -> Self:
        """Train, from new weights on unless warm_start is set.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples. A sparse one is made dense, which may take no more than scikit-learn's working_memory (1 GiB,
            `sklearn.set_config`).
        y : array-like (m,) or (m, k)
            Numbers.
        sample_weight : array-like (m,), optional
            Not negative; a row of weight 2 counts as two rows.
        validation_data : tuple, optional
            (X, y) or (X, y, sample_weight): R² on them is recorded after each epoch, and early_stopping
            judges by it.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            For what is not accepted.
        DivergedError
            If the loss or a parameter is not finite, unless early_stopping has weights to put back.
        KeyboardInterrupt
            On Ctrl-C: the estimator can be used, as it stood after the last completed step.
        """
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(_has_partial_fit)
    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Make one epoch over these rows, from the current weights and optimizer state on.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples. A sparse one is made dense, which may take no more than scikit-learn's working_memory (1 GiB,
            `sklearn.set_config`).
        y : array-like (m,) or (m, k)
            Numbers.
        sample_weight : array-like (m,), optional
            Not negative; a row of weight 2 counts as two rows.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, partial=True)

    def predict(self, X: ArrayLike, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """What the net gives.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples.
        return_std : bool
            Give the standard deviations, too; for loss="gaussian".

        Returns
        -------
        array (m,) or (m, k), or two of them
            Numbers, (m,) for one target: means for gaussian, rates for poisson. In the net's dtype.
        """
        check_is_fitted(self)
        if return_std and self.net_.loss != "gaussian":
            raise must_be("return_std", "False for a loss other than gaussian", return_std)
        outputs, targets = inputs.outputs_of(self, X), self.net_.targets
        parts = [outputs[:, :targets], np.exp(outputs[:, targets:] / 2)] if return_std else [outputs[:, :targets]]
        shaped = tuple(part[:, 0] if targets == 1 else part for part in parts)
        return shaped if return_std else shaped[0]

    def _validated(self, X, y, dtypes, reset):
        return inputs.samples_and_targets(self, X, y, dtypes, reset, multi_output=True, y_numeric=True)

    def _encoded(self, y, going_on, some):
        return y

    def _stratifies(self, targets):
        return False

    def _output(self, targets):
        """The last layer, and what `Sequential` is to know of the loss."""
        loss = _LOSSES.get(self.loss, self.loss) if isinstance(self.loss, str) else self.loss
        if not isinstance(loss, tuple):
            numbers = [name for name, record in backends.LOSSES.items() if record.targets == "numbers"]
            validation.choice("loss", loss, [*_LOSSES, *numbers])
        record = backends.loss(loss)
        units = record.outputs_per_target * (1 if targets.ndim == 1 else targets.shape[1])
        return Dense(units, record.activation or "linear"), {"loss": loss, "quantile": self.quantile}

    def _scale(self):
        return self.net_.targets / 2 if self.net_.loss == "mse" else float(self.net_.targets)

    def _weighted(self, targets, dtype, weights, rows):
        return weights

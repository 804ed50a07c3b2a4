"""Scores of a net's outputs: two of our own, those that scikit-learn has a name for, and the user's functions.

A `kind` is that of a loss's targets, as `formulas.Loss` has it: "probabilities", "classes" or "numbers".
"""

import contextlib
import functools
import inspect
import warnings
from typing import NamedTuple

import numpy as np

from . import backends
from .errors import described, misspelt, must_be

_RESERVED = ("loss", "validation_loss")  # what history and EarlyStopping call other things


def kind_with_labels(loss):
    """The kind of the targets of a loss, which must be a cross-entropy."""
    kind = backends.loss(loss).targets
    if kind == "numbers":
        raise must_be("loss", "a cross-entropy for predict_labels", loss)
    return kind


def labels(outputs, kind):
    """Classes from probabilities (m, k): indices (m,) for "classes", else 0 or 1 an output; (m,) for one output."""
    if kind == "classes":
        return outputs.argmax(axis=1)
    above = (outputs > 0.5).astype(np.int64)
    return above[:, 0] if above.shape[1] == 1 else above


def checked_labels(outputs, kind):
    """`labels`, where no output is NaN."""
    without = np.isnan(outputs).any(axis=1)
    if without.any():
        given = described(f"row {int(without.argmax())}, whose outputs are NaN")
        raise must_be("X", "rows that the net gives numbers for", given)
    return labels(outputs, kind)


def truth(y, kind):
    """Targets, as the loss takes them, as scores take them: the right labels, int64, or numbers (m,) or (m, k)."""
    if kind == "probabilities":
        return (y > 0.5).astype(np.int64)
    if kind == "classes":
        return y.astype(np.int64) if y.ndim == 1 else y.argmax(axis=1)
    return y


def accuracy(outputs, y, kind, weights=None):
    """Weighted share of the rows whose labels are all right; y as the loss takes it: (m,) or (m, k)."""
    right = (labels(outputs, kind) == truth(y, kind)).reshape(len(y), -1).all(axis=1)
    return float(np.average(right & ~np.isnan(outputs).any(axis=1), weights=weights))


def r2(outputs, y, weights=None):
    """Weighted share of the variance of y that is explained, mean over the targets; NaN for a constant y."""
    target, outputs = y.reshape(len(y), -1).astype(np.float64), predictions(outputs, y)
    apart = target - target[0]  # exact zeros for a constant, whose mean is rounded
    spread = np.average((apart - np.average(apart, axis=0, weights=weights)) ** 2, axis=0, weights=weights)
    error = np.average((target - outputs) ** 2, axis=0, weights=weights)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.mean(np.where(spread > 0, 1 - error / spread, np.nan)))


def predictions(outputs, y):
    """Those of the outputs that are to be the targets y; the others say how uncertain they are."""
    return outputs[:, : y.size // len(y)]


class Metric(NamedTuple):
    """A score that has a name.

    Parameters
    ----------
    name : str
        What the user calls it.
    greater : bool or None
        Whether greater is better; None where nobody said so.
    compute : callable
        A float from (outputs (m, k), y as the loss takes it, weights (m,) or None).
    checked : bool
        Whether it is worth a try on the targets before anything is trained.
    """

    name: str
    greater: bool | None
    compute: callable
    checked: bool


def resolve(metrics, kind):
    """The Metrics that a user names.

    Parameters
    ----------
    metrics : sequence of str or callable
        As `fit` takes them.
    kind : str
        Of the targets of the net's loss.

    Returns
    -------
    list of Metric
        In the same order.
    """
    accepted = "a sequence of names or functions f(y_true, outputs)"
    if not isinstance(metrics, list | tuple):
        raise must_be("metrics", accepted, metrics, TypeError)
    found = []
    for metric in metrics:
        if isinstance(metric, str):
            found.append(_named(metric, kind))
        elif callable(metric) and not isinstance(metric, type):
            found.append(_function(metric, kind))
        else:
            raise must_be("metrics", accepted, metric, TypeError)
    names = [metric.name for metric in found]
    for name in names:
        if names.count(name) > 1 or name in _RESERVED:
            raise must_be("metrics", f"of different names, other than {' and '.join(_RESERVED)}", name)
    return found


def _named(name, kind):
    if name in ("accuracy", "r2"):
        if (name == "accuracy") != (kind != "numbers"):
            raise must_be("metrics", "'accuracy' for a cross-entropy and 'r2' for another loss", name)
        if name == "r2":
            return Metric(name, True, r2, False)
        return Metric(name, True, lambda outputs, y, weights: accuracy(outputs, y, kind, weights), False)
    try:
        from sklearn.metrics import get_scorer, get_scorer_names
    except ImportError:
        raise ImportError(f"the metric {name!r} needs scikit-learn: {backends.pip_install('metrics')}") from None
    known = get_scorer_names()
    if name not in known:
        where = "'accuracy', 'r2', a name of sklearn.metrics.get_scorer_names() or a function"
        raise must_be("metrics", where, misspelt(name, known))
    scorer = get_scorer(name)

    def compute(outputs, y, weights):
        keywords = {} if weights is None else {"sample_weight": weights}
        return float(scorer(_estimator(outputs, y, kind), outputs, truth(y, kind), **keywords))

    return Metric(name, True, compute, True)


def _function(function, kind):
    name = getattr(function, "__name__", None)
    name = name if isinstance(name, str) else type(function).__name__
    greater = getattr(function, "greater_is_better", None)
    if not (greater is None or isinstance(greater, bool | np.bool_)):
        raise must_be("metrics", "functions whose greater_is_better is True, False or None", greater, TypeError)
    try:
        takes_weights = "sample_weight" in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of one that was not written in Python
        takes_weights = False

    def compute(outputs, y, weights):
        keywords = {"sample_weight": weights} if takes_weights and weights is not None else {}
        value = function(_read_only(truth(y, kind)), outputs[:, 0] if outputs.shape[1] == 1 else outputs, **keywords)
        with contextlib.suppress(Exception):  # what comes from the user may fail in any way
            if not isinstance(value, str | bytes):  # "1_000" would be 1000
                return float(value)
        raise must_be("metrics", f"functions that give a number, as {name} should", value, TypeError)

    return Metric(name, greater, compute, False)


@functools.cache
def _adaptors():
    """Estimators of scikit-learn, a classifier and a regressor, that know their outputs already."""
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

    class Classifier(ClassifierMixin, BaseEstimator):
        def __init__(self, outputs=None, kind=None):
            self.outputs, self.kind = outputs, kind
            columns = outputs.shape[1]
            several = kind == "probabilities" and columns > 1
            self.classes_ = [np.arange(2)] * columns if several else np.arange(max(columns, 2))

        def predict(self, X):
            return labels(self.outputs, self.kind)

        def predict_proba(self, X):
            return np.hstack([1 - self.outputs, self.outputs]) if self.outputs.shape[1] == 1 else self.outputs

    class Regressor(RegressorMixin, BaseEstimator):
        def __init__(self, outputs=None):
            self.outputs = outputs

        def predict(self, X):
            return self.outputs[:, 0] if self.outputs.shape[1] == 1 else self.outputs

    return Classifier, Regressor


def _estimator(outputs, y, kind):
    classifier, regressor = _adaptors()
    return regressor(predictions(outputs, y)) if kind == "numbers" else classifier(outputs, kind)


def computed(metrics, outputs, y, weights):
    """The values of Metrics by name, on the rows whose weight is not 0.

    No metric can write to what others, or the training, read.

    Parameters
    ----------
    metrics : list of Metric
        From `resolve`.
    outputs : array (m, k)
        Of the net.
    y : array (m,) or (m, k)
        Targets as the loss takes them.
    weights : array (m,) or None
        Weights of the samples.

    Returns
    -------
    dict
        From name to float.
    """
    outputs, y, weights = (None if array is None else _read_only(array) for array in _counted(outputs, y, weights))
    return {metric.name: metric.compute(outputs, y, weights) for metric in metrics}


def _counted(outputs, y, weights):
    """The rows whose weight is not 0."""
    if weights is None or weights.all():
        return outputs, y, weights
    rows = weights > 0
    return outputs[rows], y[rows], weights[rows]


def _read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


def check(metrics, y, kind, n_outputs, weights):
    """Refuse scores that these targets do not suit, by a try on outputs that are right.

    Parameters
    ----------
    metrics : list of Metric
        From `resolve`.
    y : array (m,) or (m, k)
        Targets as the loss takes them.
    kind : str
        Of the targets of the net's loss.
    n_outputs : int
        Outputs of the net.
    weights : array (m,) or None
        Weights of the samples.
    """
    metrics = [metric for metric in metrics if metric.checked]
    if not metrics:
        return
    _, y, weights = _counted(y, y, weights)
    right = truth(y, kind)
    if kind == "classes":
        outputs = np.zeros((len(right), n_outputs))
        outputs[np.arange(len(right)), right] = 1.0
    else:
        outputs = right.reshape(len(y), -1).astype(np.float64)
    if kind == "numbers":
        outputs = abs(outputs) + 1.0  # some scores take positive numbers alone
    for metric in metrics:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                metric.compute(outputs, y, weights)
        except Exception as error:
            given = described(f"{metric.name!r}: {error}")
            raise must_be("metrics", "scores that suit the net and its targets", given) from error

"""What the estimators make of X, y and weights before a net sees them, and of the outputs of a net."""

import numpy as np
from scipy.sparse import csr_matrix, issparse
from scipy.special import log_expit, log_softmax
from sklearn import get_config
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import column_or_1d, validate_data

from .. import frames, labels, validation
from ..columns import Columns
from ..errors import described, must_be, quoted
from ..layers import Dense
from ..models import Sequential


def dtype_of(value):
    """The dtypes that X may keep for a parameter `dtype`; it becomes the first of them where it has another."""
    if isinstance(value, str) and value == "auto":
        return [np.float64, np.float32]
    try:
        found = None if value is None else np.dtype(value)
    except TypeError:
        found = None
    if found not in (np.float32, np.float64):
        raise must_be("dtype", "'auto', 'float32' or 'float64'", value)
    return [found]


def check_verbose(value):
    """Refuse what is neither a bool nor an int."""
    if not isinstance(value, bool | np.bool_):
        validation.count("verbose", value)


def samples_and_targets(estimator, X, y, dtype, reset, **checks):
    """X (m, n), dense and in one of the dtypes, or a Table where the estimator has columns, and y (m,) or (m, k)."""
    if estimator.columns is not None:
        y = validate_data(estimator, y=y, **checks)  # which forgets what it knew of X
        X = _table(estimator, X, reset)
        if len(y) != len(X):
            raise must_be("y", f"an array of {len(X)} rows, as X", described(f"{len(y)} rows"))
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
    X, y = validate_data(estimator, X, y, accept_sparse="csr", dtype=dtype, order="C", reset=reset, **checks)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if issparse(X):
        needed, most = X.shape[0] * X.shape[1] * X.dtype.itemsize, _working_memory()
        if needed > most:
            way_out = "partial_fit takes it in parts, sklearn.set_config(working_memory=MiB) sets the limit"
            accepted = f"an array, or sparse and dense no larger than {most:,} bytes ({way_out})"
            raise must_be("X", accepted, described(f"a sparse matrix of shape {X.shape}, dense {needed:,} bytes"))
        X = X.toarray(order="C")
    return X, y


def _table(estimator, X, reset):
    """A Table, of which scikit-learn's attributes are set; columns are known by name, so that their order is free."""
    table = frames.table("X", X)
    if reset:
        estimator.columns_ = columns_of(estimator.columns, table)
        estimator.n_features_in_ = table.width
        vars(estimator).pop("feature_names_in_", None)
        if table.names is not None:
            estimator.feature_names_in_ = np.array(table.names, object)
    return table


def columns_of(value, table):
    """The Columns of a parameter `columns`."""
    if isinstance(value, Columns):
        return value
    if not isinstance(value, str) or value != "infer":
        raise must_be("columns", "None, 'infer' or fastnn.Columns", value)
    return Columns.infer(table)


def outputs_of(estimator, X, predict=None):
    """What the net of an estimator gives for X, a part at a time where X is sparse.

    Parameters
    ----------
    estimator : estimator
        Fitted.
    X : array-like or sparse matrix (m, n)
        Samples.
    predict : callable, optional
        From (rows, n) to (rows, k), in place of the net's own `predict`.

    Returns
    -------
    array (m, k)
        In the net's dtype.
    """
    net = estimator.net_
    predict = predict or net.predict
    if net.columns is not None:
        return predict(X)
    X = validate_data(estimator, X, accept_sparse="csr", dtype=net.dtype, order="C", reset=False)
    if not issparse(X):
        return predict(X)
    rows = max(1, _working_memory() // (X.shape[1] * X.dtype.itemsize))
    return np.concatenate([predict(X[i : i + rows].toarray(order="C")) for i in range(0, X.shape[0], rows)])


def _working_memory():
    """Bytes that scikit-learn lets temporary arrays take."""
    return int(get_config()["working_memory"] * 2**20)


def linear_outputs(net):
    """From (m, n) to the outputs of a classifier's net before their sigmoid or softmax."""
    *hidden, last = net.layers
    linear = Sequential([*hidden, Dense(last.units)], loss="mse", dtype=net.dtype, device=net.device)
    linear.build(net.n_features if net.columns is None else net.encoding)
    linear.parameters = net.state.parameters
    return linear.predict


class Coding:
    """Class labels as targets of a net, and the net's outputs as labels.

    Parameters
    ----------
    y : array (m,) or (m, k)
        Labels of any kind that NumPy can sort; or 0 and 1, for k labels that do not exclude each other.
    classes : array, optional
        All labels, where y need not have each of them.

    Attributes
    ----------
    classes : array (c,)
        All labels, sorted.
    multilabel : bool
        Whether they do not exclude each other.
    outputs : int
        Of the net: one for two classes.
    activation : str
        Of the net's last layer.
    """

    def __init__(self, y, classes=None):
        check_classification_targets(y)
        kind = type_of_target(y)
        self.multilabel, self._sparse = kind == "multilabel-indicator", issparse(y)
        if kind.endswith("multioutput"):
            raise must_be("y", "labels (m,), or 0 and 1 (m, k)", described(f"labels of shape {y.shape}"))
        if self.multilabel:
            self.classes = np.arange(y.shape[1])
        else:
            self.classes = np.unique(y if classes is None else column_or_1d(classes))
        self.outputs = len(self.classes) if self.multilabel or len(self.classes) > 2 else 1
        self.activation = "sigmoid" if self.multilabel or self.outputs == 1 else "softmax"

    def encoded(self, name, y):
        """Targets: class numbers (m,) of int64, or 0 and 1 (m, k)."""
        if self.multilabel:
            y = y.toarray() if issparse(y) else y
            if type_of_target(y) != "multilabel-indicator" or y.shape[1] != self.outputs:
                raise must_be(name, f"0 and 1 of shape (m, {self.outputs})", described(f"shape {y.shape}"))
            return np.ascontiguousarray(y)
        y = column_or_1d(y)
        unknown = np.setdiff1d(y, self.classes)
        if len(unknown):
            raise must_be(name, f"of the classes {quoted(self.classes.tolist())}", unknown.tolist())
        return np.searchsorted(self.classes, y)

    def decoded(self, outputs):
        """Labels (m,) or 0 and 1 (m, k), of a net's outputs (m, k)."""
        if self.multilabel:
            found = (outputs > 0.5).astype(np.int64)
            return csr_matrix(found) if self._sparse else found
        numbers = outputs.argmax(axis=1) if self.outputs > 1 else (outputs[:, 0] > 0.5).astype(np.int64)
        return self.classes[np.minimum(numbers, len(self.classes) - 1)]  # there may be one class alone

    def probabilities(self, outputs):
        """(m, c), a column for each class, of a net's outputs (m, k)."""
        if self.outputs > 1 or self.multilabel:
            return outputs
        if len(self.classes) == 1:
            return np.ones_like(outputs)
        return np.concatenate((1 - outputs, outputs), axis=1)

    def log_probabilities(self, logits):
        """Logarithms of the probabilities (m, c), also of those that are rounded to 0, from logits (m, k)."""
        if self.multilabel:
            return log_expit(logits)
        if self.outputs > 1:
            return log_softmax(logits, axis=1)
        if len(self.classes) == 1:
            return np.zeros_like(logits)
        return np.concatenate((log_expit(-logits), log_expit(logits)), axis=1)

    def class_weights(self, value, y, dtype, weights, rows=None):
        """Weights (m,) by class, times `weights`, for targets y that `encoded` gave; None for none of either."""
        if value is None:
            return weights
        if self.multilabel:
            raise must_be("class_weight", "None for labels that do not exclude each other", value)
        value = labels.by_index("class_weight", value, self.classes)
        return validation.class_weights(value, y, True, self.outputs, dtype, rows, weights)

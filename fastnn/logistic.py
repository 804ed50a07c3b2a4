"""Logistic regression as a net of one layer."""

from numpy.typing import DTypeLike

from .columns import Columns
from .errors import must_be
from .layers import Dense, Layer
from .models import Sequential
from .validation import size


def logistic_net(
    n_classes: int = 2,
    dtype: DTypeLike = "float32",
    device: str = "cpu",
    seed: int = 0,
    standardize: bool = False,
    precision: str = "float32",
    columns: Columns | None = None,
) -> Sequential:
    """A net for logistic regression: one sigmoid neuron for two classes, one softmax layer for more, zero weights.

    `fastnn.sklearn.LogisticRegression` is the estimator of that name, with labels of any kind and a solver that ends.

    Parameters
    ----------
    n_classes : int
        Number of classes, at least 2.
    dtype : str or dtype
        float32 or float64.
    device : str
        "cpu", "cuda" or "auto", as for `Sequential`.
    seed : int
        Shuffling.
    standardize : bool
        Scale features to mean 0 and standard deviation 1, as `Sequential` does.
    precision : str
        "float32", "tf32" or "bf16", as for `Sequential`.
    columns : Columns, optional
        Of a table: numbers, and codes whose weights are gathered, which is the classic model of clicks. Codes should be
        one-hot then, as they are by default; with vectors it is no linear model.

    Returns
    -------
    Sequential
        Not built. Its `predict` gives probabilities, its `predict_labels` classes.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted.
    """
    if size("n_classes", n_classes) < 2:
        raise must_be("n_classes", "an int of at least 2", n_classes)
    units, activation = (1, "sigmoid") if n_classes == 2 else (n_classes, "softmax")
    layers: list[Layer] = [Dense(units, activation, kernel_initializer="zeros")]
    if columns is not None:
        if not isinstance(columns, Columns):
            raise must_be("columns", "None or fastnn.Columns", columns, TypeError)
        layers.insert(0, columns)
    return Sequential(layers, dtype=dtype, device=device, seed=seed, standardize=standardize, precision=precision)

"""Logistic regression as a net of one layer."""

from numpy.typing import DTypeLike

from .errors import must_be
from .layers import Dense
from .models import Sequential
from .validation import size


def logistic_net(
    n_classes: int = 2,
    dtype: DTypeLike = "float32",
    device: str = "cpu",
    seed: int = 0,
    standardize: bool = False,
    precision: str = "float32",
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
    layers = [Dense(units, activation, kernel_initializer="zeros")]
    return Sequential(layers, dtype=dtype, device=device, seed=seed, standardize=standardize, precision=precision)

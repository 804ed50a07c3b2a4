"""Logistic regression: a net of one layer."""

from numpy.typing import DTypeLike

from .errors import must_be
from .layers import Dense
from .models import Sequential
from .validation import size


class LogisticRegression(Sequential):
    """Logistic regression: one sigmoid neuron for two classes, one softmax layer for more, zero weights at the start.

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
    """

    def __init__(
        self,
        n_classes: int = 2,
        dtype: DTypeLike = "float32",
        device: str = "cpu",
        seed: int = 0,
        standardize: bool = False,
        precision: str = "float32",
    ) -> None:
        self.n_classes = size("n_classes", n_classes)
        if self.n_classes < 2:
            raise must_be("n_classes", "an int of at least 2", n_classes)
        layer = (
            Dense(1, "sigmoid", kernel_initializer="zeros")
            if self.n_classes == 2
            else Dense(self.n_classes, "softmax", kernel_initializer="zeros")
        )
        super().__init__([layer], dtype=dtype, device=device, seed=seed, standardize=standardize, precision=precision)

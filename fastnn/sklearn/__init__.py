"""Estimators for scikit-learn, over `fastnn.Sequential` (extra `sklearn`).

Parameters, attributes and defaults are named as in scikit-learn, and mean the same, where scikit-learn has them.
"""

import sys

from .. import backends, surface

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError(f"fastnn.sklearn needs scikit-learn: {backends.pip_install('sklearn')}") from None

from .logistic import LogisticRegression
from .mlp import MLPClassifier, MLPRegressor

__all__ = ["LogisticRegression", "MLPClassifier", "MLPRegressor"]
surface.finish(sys.modules[__name__], __all__)

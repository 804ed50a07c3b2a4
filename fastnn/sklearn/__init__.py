"""Estimators for scikit-learn, over `fastnn.Sequential` (extra `sklearn`).

Parameters, attributes and defaults are named as in scikit-learn, and mean the same, where scikit-learn has them.
"""

import sys

try:
    import sklearn  # noqa: F401
except ImportError:
    raise ImportError("fastnn.sklearn needs scikit-learn: pip install 'fastnn[sklearn]'") from None

from .. import surface
from .logistic import LogisticRegression
from .mlp import MLPClassifier, MLPRegressor

__all__ = ["LogisticRegression", "MLPClassifier", "MLPRegressor"]
surface.finish(sys.modules[__name__], __all__)

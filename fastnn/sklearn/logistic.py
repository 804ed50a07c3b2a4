"""Logistic regression as scikit-learn's."""

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import validation
from ..backends import Floats
from ..columns import Columns
from ..errors import described, must_be, quoted
from ..logistic import logistic_net
from ..solvers import SOLVERS
from . import full_batch, inputs
from .base import NetClassifier


class LogisticRegression(NetClassifier):
    """Logistic regression, binary or multinomial, with the objective of `sklearn.linear_model.LogisticRegression`.

    It minimises sum(w l) + sum(W^2) / (2 C), l the cross-entropy of each row and w its weight. What belongs to other
    solvers of scikit-learn is not there: l1_ratio, dual, intercept_scaling, n_jobs.

    Parameters
    ----------
    penalty : "l2" or None
        None is C=inf.
    C : float
        Inverse strength of the penalty, above 0; inf for none.
    tol : float
        The solver ends where no element of the gradient of the objective, divided by the sum of the weights, is larger.
    fit_intercept : bool
        Whether there is an intercept; without one, solver is lbfgs.
    class_weight : dict or "balanced", optional
        Weight of each label, times sample_weight; "balanced" gives all labels the same weight in sum.
    random_state : int, RandomState or None
        Without effect: nothing is random. Kept for code that sets it.
    solver : str
        lbfgs, or newton-cholesky, which is fast where rows are many and columns few.
    max_iter : int
        Iterations at most.
    verbose : bool or int
        Print a line an iteration.
    warm_start : bool
        Let `fit` go on from the coefficients of the last one.
    device : str
        "cpu", "cuda" or "auto", as `fastnn.Sequential` takes it; X and y are on the host.
    dtype : str or dtype
        float32 or float64, of the coefficients; "auto" is that of X where it is one of them, else float64. The last
        iterations are in float64 either way.
    columns : Columns, "infer" or None
        What the columns of a table are, so that X may be a frame with text, dates and gaps; "infer" lets
        `fastnn.Columns.infer` decide. One-hot codes keep it a linear model; solver is lbfgs then.

    Attributes
    ----------
    net_ : fastnn.Sequential
        The net, of one layer.
    history_ : fastnn.History
        Of the last fit.
    coef_, intercept_ : array (1, n) and (1,) for two classes, else (c, n) and (c,)
        Coefficients and intercepts: views of those of `net_`.
    n_iter_ : array (1,)
        Iterations of the last fit.
    classes_ : array (c,)
        The labels, sorted.
    coding_ : object
        How labels become targets of the net, and its outputs labels.
    columns_ : Columns
        Those that are read, where the parameter `columns` is set.
    n_features_in_ : int
        Columns of X.
    feature_names_in_ : array of str
        Their names, where X was a table that has them.
    """

    def __init__(
        self,
        penalty: Literal["l2"] | None = "l2",
        *,
        C: float = 1.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        random_state: int | np.random.RandomState | None = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        verbose: bool | int = 0,
        warm_start: bool = False,
        device: str = "cpu",
        dtype: DTypeLike | Literal["auto"] = "auto",
        columns: Columns | Literal["infer"] | None = None,
    ) -> None:
        vars(self).update({name: value for name, value in locals().items() if name not in ("self", "__class__")})

    @property
    def coef_(self) -> Floats:
        """Coefficients, (1, n) for two classes, else (c, n); with columns those of numbers, `net_` has the others."""
        return self.net_.arrays[-2]

    @property
    def intercept_(self) -> Floats:
        """Intercepts, (1,) for two classes, else (c,)."""
        return self.net_.arrays[-1]

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Find the minimum of the objective.

        Parameters
        ----------
        X : array-like or sparse matrix (m, n)
            Samples. A sparse one is made dense, which may take no more than scikit-learn's working_memory (1 GiB,
            `sklearn.set_config`).
        y : array-like (m,)
            Labels, of text or numbers, of two classes at least.
        sample_weight : array-like (m,), optional
            Not negative; a row of weight 2 counts as two rows.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            For what is not accepted.
        KeyboardInterrupt
            On Ctrl-C: the estimator can be used, as it stood after the last iteration.
        """
        strength = self._checked_strength()
        going_on = hasattr(self, "net_") and self.warm_start
        dtypes = [self.net_.dtype] if going_on else inputs.dtype_of(self.dtype)
        X, y = inputs.samples_and_targets(self, X, y, dtypes, not going_on)
        dtype = X.dtype if self.columns is None else dtypes[0]
        weights = validation.sample_weights("sample_weight", sample_weight, dtype, len(X))
        if not going_on:
            vars(self).pop("net_", None)  # a fit that is refused leaves an estimator that is not fitted
        coding = inputs.Coding(y)
        if len(coding.classes) < 2:
            raise must_be("y", "labels of at least two classes", described(f"one class, {quoted(coding.classes[0])}"))
        net = self.net_ if going_on else None
        if net is None:
            self.coding_, self.classes_ = coding, coding.classes
            columns = None if self.columns is None else self.columns_
            net = logistic_net(len(coding.classes), dtype=dtype, device=self.device, columns=columns)
            net.build(X.shape[1] if columns is None else X)
        elif not np.array_equal(coding.classes, self.classes_):
            raise must_be("y", f"of the classes {self.classes_} of the last fit, with warm_start", coding.classes)
        targets = coding.encoded("y", y)
        weights = coding.class_weights(self.class_weight, targets, dtype, weights)
        if not self.fit_intercept:
            net.arrays[-1][...] = 0.0  # of a fit that had one
        self.net_ = net
        full_batch.minimize(self, X, targets, weights, 1.0, strength)
        self.n_iter_ = np.array([self.history_.epochs])
        if hasattr(self, "feature_names_in_") and self.columns is None:
            self.net_.feature_names = tuple(self.feature_names_in_)
        return self

    def _checked_strength(self):
        """1 / C, after a look at all parameters."""
        validation.choice("solver", self.solver, SOLVERS)
        if self.penalty not in ("l2", None):
            raise must_be("penalty", "'l2' or None", self.penalty)
        for name in ("fit_intercept", "warm_start"):
            validation.flag(name, getattr(self, name))
        if not self.fit_intercept and self.solver != "lbfgs":
            raise must_be("solver", "'lbfgs' where fit_intercept is False", self.solver)
        validation.number("tol", self.tol, low=0.0)
        inputs.check_verbose(self.verbose)
        if self.penalty is None or (isinstance(self.C, float) and self.C == np.inf):
            return 0.0
        return 1.0 / validation.number("C", self.C, above=0.0)

"""Solvers that take all rows at once and end by themselves: those of `Sequential.minimize`."""

import warnings

from sklearn.exceptions import ConvergenceWarning

from ..errors import users_level


def _show(net, history):
    print(f"Iteration {history.epochs}, loss {history.loss[-1]:.8f}")


def minimize(estimator, X, targets, weights, scale, penalty):
    """Carry out the `fit` of an estimator with such a solver: it gets history_ and n_iter_.

    Parameters
    ----------
    estimator : NetEstimator
        With net_, solver, max_iter, tol and verbose; max_fun, fit_intercept and callbacks where it has them.
    X : array (m, n)
        Samples.
    targets : array (m,) or (m, k)
        As the net takes them.
    weights : array (m,) or None
        Of the samples.
    scale : float
        The estimator's objective is the net's loss times it, and a penalty.
    penalty : float
        Adds penalty / 2 * sum(W^2) / (sum of the weights) to that.

    Returns
    -------
    float
        The net's loss at the end, with the penalty.
    """
    net, mass = estimator.net_, len(X) if weights is None else weights.sum(dtype="float64")
    l2 = float(penalty / (scale * mass))
    history = estimator.history_ = net.minimize(
        X,
        targets,
        solver=estimator.solver,
        sample_weight=weights,
        l2=l2,
        max_iter=estimator.max_iter,
        max_fun=getattr(estimator, "max_fun", None),
        tol=estimator.tol / scale,
        biases=getattr(estimator, "fit_intercept", True),
        callbacks=[*(getattr(estimator, "callbacks", None) or ()), *([_show] if estimator.verbose else [])],
    )
    if not history.converged:
        text = f"{estimator.solver} made {history.epochs} iterations and has not converged"
        warnings.warn(
            f"{text}: raise max_iter, or scale the columns of X", ConvergenceWarning, stacklevel=users_level()
        )
    return history.last("loss") if history.epochs else net.objective(X, targets, weights, l2)(net.state.parameters)[0]

"""The Hessian of the loss of a net of one layer, and Newton's step with it."""

import numpy as np

from . import backends, plans
from .errors import described, must_be
from .layers import Dense, Dropout

MOST_PARAMETERS = 8192  # whose Hessian is factorised as one: it takes 512 MB
CHUNK_FLOPS = 1e9  # of products between two looks at Ctrl-C, some 0.02 s


def check(net, n_features):
    """Refuse a net that has no Hessian here."""
    accepted = "'lbfgs' for a net of other layers than one Dense, and for a loss other than"
    accepted += " a cross-entropy, poisson, or mse of a linear layer"
    loss, kinds = backends.loss(net.loss), [type(layer) for layer in net.layers]
    alone = kinds.count(Dense) == 1 and all(kind in (Dense, Dropout) for kind in kinds)
    activation = net.layers[-1].activation or "linear"
    if not (alone and loss.curvature and activation == (loss.activation or "linear")):
        raise must_be("solver", accepted, "newton-cholesky")
    size = (n_features + 1) * (net.outputs if loss.by_row else 1)
    if size > MOST_PARAMETERS:
        accepted = f"'lbfgs' for more than {MOST_PARAMETERS:,} parameters that depend on one another"
        raise must_be("solver", accepted, described(f"'newton-cholesky' for {size:,}"))


class Curvature:
    """The Hessian of the loss by the parameters of the one layer, in float64 from sums in the dtype of the rows.

    Parameters
    ----------
    net : Sequential
        That `check` lets through, built.
    rows : data.Data
        In the dtype of the arithmetic.
    l2 : float
        Strength of the l2 term.
    threads : int
        Threads that may take part in the forward pass.
    """

    def __init__(self, net, rows, l2, threads):
        self._loss, self._l2, self._outputs = backends.loss(net.loss), l2, net.outputs
        self._X, self._dtype = np.asarray(rows.X), rows.X.dtype
        m, n = self._X.shape
        weights = np.full(m, 1.0 / m) if rows.weights is None else rows.weights / rows.weights.sum(dtype=np.float64)
        # the loss is a mean over outputs that do not depend on one another
        self._weights = weights if self._loss.by_row else weights / net.outputs
        learned = net.standardization
        shift, scale = (np.zeros(n), np.ones(n)) if learned is None else (learned.mean, 1 / learned.std)
        self._shift, self._scale = shift.astype(self._dtype), scale.astype(self._dtype)
        self._theta, self._out = np.zeros(net.program.size, self._dtype), np.empty((m, net.outputs), self._dtype)
        self._plan = plans.make(net, backends.PREDICT, m, threads, False, self._theta)
        self._plan.bind_data(self._X)
        self._plan.bind_output(self._out)
        W, b = net.parameter_slices[0]
        numbers = np.arange(net.program.size)
        # the parameters of each output, its bias last
        self._places = np.column_stack([numbers[W].reshape(net.outputs, n), numbers[b]])

    def step(self, theta, gradient):
        """Newton's step from theta, -H^-1 gradient, for the loss with the l2 term.

        Parameters
        ----------
        theta, gradient : array (p,), float64
            In the layout of the parameters.

        Returns
        -------
        array (p,), float64, or None
            None where H is not positive definite.
        """
        from scipy.linalg import LinAlgError, cho_factor, cho_solve

        self._theta[:] = theta
        plans.run(self._plan)
        step = np.zeros_like(gradient)
        for outputs in [range(self._outputs)] if self._loss.by_row else [[i] for i in range(self._outputs)]:
            places = self._places[outputs].ravel()
            try:
                factor = cho_factor(self._hessian(outputs), lower=True, overwrite_a=True, check_finite=False)
            except LinAlgError:
                return None
            step[places] = -cho_solve(factor, gradient[places], check_finite=False)
        return step if np.isfinite(step).all() else None

    def _hessian(self, outputs):
        """Of the parameters of some outputs."""
        count, side = len(outputs), self._X.shape[1] + 1
        H = np.empty((count, side, count, side))
        for a, i in enumerate(outputs):
            for b, j in enumerate(outputs[: a + 1]):
                H[a, :, b] = H[b, :, a] = self._block(i, j)
        every = np.arange(count)
        for j in range(side - 1):
            H[every, j, every, j] += self._l2
        if count > 1:  # what all outputs have in common changes no softmax, and no penalty keeps it
            for j in range(side - 1, side) if self._l2 else range(side):
                H[:, j, :, j] += H[every, j, every, j].mean()
        return H.reshape(count * side, -1)

    def _block(self, i, j):
        """The second derivatives by the parameters of outputs i and j."""
        m, n = self._X.shape
        work = np.empty(backends.gram_work_size(n), self._dtype)
        out, total = np.empty((n + 1, n + 1), self._dtype), np.zeros((n + 1, n + 1))
        rows = max(64, int(CHUNK_FLOPS / (n + 1) ** 2))
        for first in range(0, m, rows):
            part = slice(first, first + rows)
            weights = (self._loss.curvature(self._out[part], i, j) * self._weights[part]).astype(self._dtype)
            X = np.require(self._X[part], requirements="CW")  # for another layout another kernel would be compiled
            backends.weighted_gram(X, weights, self._shift, self._scale, work, out)
            total += out
        return total

"""The loss of a net as a function of its parameters, for optimizers that look at all rows at once."""

import threading

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arrays, backends, plans
from .errors import described, must_be


class Objective:
    """f(theta) -> (loss, gradient), as `Sequential.objective` gives it.

    It keeps the rows, which are checked, and the working memory of one evaluation. Calls from several threads wait for
    each other.

    Parameters
    ----------
    net : Sequential
        Built; it is only read. What becomes of it later changes nothing here.
    rows : data.Data
        In the dtype of the arithmetic.
    l2 : float
        Strength of the l2 term.
    threads : int
        Threads that may take part.
    dtype : dtype
        Of the arithmetic, float32 or float64.
    """

    def __init__(self, net, rows, l2, threads, dtype):
        self._theta, self._l2, self._lock = np.zeros(net.program.size, dtype), l2, threading.Lock()
        on_gpu = arrays.on_gpu(rows.X)
        self._plan = plans.make(net, backends.GRADIENT, len(rows), threads, on_gpu, self._theta)
        plans.bind(net, self._plan, rows, visits=plans.MANY_VISITS)
        self._penalized = net.program.penalized if l2 else []

    @property
    def device(self) -> str:
        """Where it is evaluated: "cpu" or "cuda"."""
        return self._plan.device

    def __call__(self, theta: ArrayLike) -> tuple[float, NDArray[np.float64]]:
        """The loss and its gradient.

        Parameters
        ----------
        theta : array-like (p,)
            Parameters in the layout of `Sequential.parameters`. They are rounded to the dtype of the arithmetic.

        Returns
        -------
        loss : float
            Mean over the rows, with the l2 term; not finite where theta is not, or where it overflows.
        gradient : array (p,), float64
            Of its own.

        Raises
        ------
        ValueError
            For another shape.
        """
        theta = np.asarray(theta, np.float64)
        if theta.shape != self._theta.shape:
            raise must_be("theta", f"an array of shape {self._theta.shape}", described(f"shape {theta.shape}"))
        with self._lock:
            with np.errstate(over="ignore"):  # the loss shows it
                self._theta[:] = theta
            loss = plans.loss_of(self._plan)
            gradient = self._plan.gradient.astype(np.float64)
        for part in self._penalized:
            weights = theta[part]
            loss += self._l2 / 2 * float(weights @ weights)
            gradient[part] += self._l2 * weights
        return loss, gradient

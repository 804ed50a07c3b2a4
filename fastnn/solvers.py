"""Training on all rows at once: solvers that go to a minimum of the loss and end there.

check      arguments and data, before anything changes         `minimize`
build      the net is built, or learns the standardisation     `fit.prepare`
search     the solver asks for losses and gives iterates       `Search`, `_lbfgs`, `_newton`
"""

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import backends, data, fit, newton, progress, validation
from .errors import DivergedError, must_be
from .history import History
from .objective import Objective

SOLVERS = ("lbfgs", "newton-cholesky")
# Relative change of the loss in an iteration below which float32 goes over to float64: a loss in float32 is good to
# some 1e-7, and the decisions of a line search rest on differences.
FINE_CHANGE = 1e-6
PAIRS = 10  # of steps and changes of the gradient that L-BFGS keeps, SciPy's default
SEARCH_STEPS = 50  # evaluations of a line search at most, as scikit-learn has it
HALVINGS = 21  # of a step of Newton's method, until there is none
ENOUGH = 1e-4  # of the decrease that the slope promises, Armijo's condition
LEAST_CHANGE = 64 * np.finfo(np.float64).eps  # relative change of the loss at which nothing is left, as scikit-learn


@dataclass(frozen=True)
class Goal:
    """What `Sequential.minimize` is to reach; checked when it is made."""

    solver: Any = "lbfgs"
    l2: Any = 0.0
    max_iter: Any = 100
    tol: Any = 1e-4
    threads: Any = None
    max_fun: Any = None
    biases: Any = True

    def __post_init__(self):
        vars(self).update(
            solver=validation.choice("solver", self.solver, SOLVERS),
            l2=validation.number("l2", self.l2, low=0.0),
            max_iter=validation.size("max_iter", self.max_iter),
            tol=validation.number("tol", self.tol, low=0.0),
            threads=backends.thread_count("threads", self.threads),
            max_fun=np.inf if self.max_fun is None else validation.size("max_fun", self.max_fun),
            biases=validation.flag("biases", self.biases),
        )


def minimize(net, given, goal, callbacks, bar):
    """Carry out `Sequential.minimize`.

    Parameters
    ----------
    net : Sequential
        To be trained.
    given : fit.Rows
        Its data.
    goal : Goal
        What is wanted.
    callbacks : sequence of callable
        Called with (net, history) after each iteration.
    bar : bool
        Whether progress is shown.

    Returns
    -------
    History
        An entry an iteration.
    """
    _check_scipy()
    if not isinstance(callbacks, list | tuple) or not all(map(callable, callbacks)):
        raise must_be("callbacks", "a sequence of functions (net, history)", callbacks, TypeError)
    rows = data.encoded(net, data.check(net, given.X, given.y, given.sample_weight))[0]
    if goal.solver == "newton-cholesky":
        newton.check(net, rows.X.shape[1])
    weighted = rows.weighted_by_class(net, given.class_weight)
    history = History(goal.max_iter)
    history.buffers.rates = np.zeros(0)  # there is no learning rate
    with progress.make(bar, goal.max_iter) as bar:
        fit.prepare(net, rows, (given.X, given.y))
        with (guard := threading.Lock()):
            net.claim(guard)
            net.state.forget()
            search = Search(net, given, weighted, goal, history, callbacks, bar)
            search.start()
            if goal.solver == "newton-cholesky":
                _newton(search)
            _lbfgs(search)  # from where the other one could not go on
            history.converged = search.converged
    return history


def _check_scipy():
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        raise ImportError(f"minimize() needs SciPy: {backends.pip_install('solvers')}") from None


class Search:
    """The way of a solver over the loss: evaluates it, and records each iterate in the net and its history.

    A net of float32 is evaluated in float32 until the loss changes by less than its digits show, then in float64.

    Parameters
    ----------
    net : Sequential
        Built; its parameters are the first iterate, and then each iterate.
    given : fit.Rows
        The rows as the user passed them, to be converted to float64.
    rows : data.Data
        The rows in the net's dtype, weighted.
    goal : Goal
        When it ends.
    history : History
        Receives an entry an iteration.
    callbacks : sequence of callable
        Called after each iteration.
    bar : progress.Bar
        Shows them.

    Attributes
    ----------
    theta : array (p,), float64
        The last iterate.
    loss, gradient : float, array (p,)
        There.
    precise : bool
        Whether the arithmetic is in float64.
    converged : bool
        Whether the gradient is within `tol`, or nothing is left that float64 could tell.
    ended : bool
        Whether the solver is to end.
    """

    def __init__(self, net, given, rows, goal, history, callbacks, bar):
        self.net, self.goal, self.history = net, goal, history
        self._given, self._callbacks, self._bar = given, callbacks, bar
        self.precise, self.converged, self.ended = net.dtype == np.float64, False, False
        self._bind(rows, net.dtype)
        self.theta, self._known = net.state.parameters.astype(np.float64), None
        program = net.program
        self._fixed = [] if goal.biases else [part for part in program.slices if part not in program.penalized]
        history.device = self._evaluate.device

    def start(self):
        """Evaluate the first iterate, which compiles, and start the clock."""
        self.loss, self.gradient = self.value(self.theta)
        if not (np.isfinite(self.loss) and np.isfinite(self.gradient).all()):
            raise DivergedError(0, None, self.history)
        self._bar.start(0, 0)
        self._began = time.perf_counter()
        self._check_gradient()

    def value(self, theta):
        """(loss, gradient) at theta; that of the last theta is kept."""
        if self._known is None or not np.array_equal(self._known[0], theta):
            self._known = theta.copy(), self._evaluate(theta)
            for part in self._fixed:
                self._known[1][1][part] = 0.0
        loss, gradient = self._known[1]
        return loss, gradient.copy()

    def refine(self):
        """Go on in float64; False where that was so."""
        if self.precise:
            return False
        given, net = self._given, self.net
        rows = data.check(net, given.X, given.y, given.sample_weight, dtype=np.float64)
        rows = rows.weighted_by_class(net, given.class_weight)
        self._bind(rows, np.dtype(np.float64))
        self.precise, self._known = True, None
        self.loss, self.gradient = self.value(self.theta)
        return True

    def newton_step(self):
        """Newton's step from the last iterate, None where there is none."""
        if self._curvature is None:
            self._curvature = newton.Curvature(self.net, self._bound, self.goal.l2, self.goal.threads)
        return self._curvature.step(self.theta, self.gradient)

    def _bind(self, rows, dtype):
        """Evaluate these rows from now on."""
        self._bound, self._curvature = rows, None
        self._evaluate = Objective(self.net, rows, self.goal.l2, self.goal.threads, dtype)

    def accept(self, theta):
        """Take theta for the next iterate."""
        before = self.loss
        self.theta = theta.copy()
        self.loss, self.gradient = self.value(self.theta)
        self.net.parameters = self.theta
        self._record()
        self._check_gradient()
        self.ended = self.ended or self.history.epochs == self.goal.max_iter
        for callback in self._callbacks:
            self.ended = bool(callback(self.net, self.history)) or self.ended
        if not self.ended and before - self.loss <= FINE_CHANGE * abs(before):
            self.refine()

    def _record(self):
        history, written = self.history, self.history.buffers
        history.seconds = time.perf_counter() - self._began
        written.loss[history.epochs], written.elapsed[history.epochs] = self.loss, history.seconds
        history.epochs, history.steps = history.epochs + 1, history.steps + 1
        self._bar.update(history.epochs, history.epochs * len(self._bound), history)

    def _check_gradient(self):
        if abs(self.gradient).max() <= self.goal.tol:
            self.converged = self.ended = True


def _lbfgs(search):
    """L-BFGS (Liu and Nocedal 1989), SciPy's L-BFGS-B without bounds."""
    from scipy import optimize

    def iterate(theta):
        search.accept(theta)
        if search.ended:
            raise StopIteration

    while not search.ended:
        precise = search.precise
        # `accept` counts the iterations and looks at the gradient
        limits = {"maxiter": search.goal.max_iter, "maxfun": search.goal.max_fun, "gtol": 0.0, "ftol": LEAST_CHANGE}
        options = limits | {"maxcor": PAIRS, "maxls": SEARCH_STEPS}
        found = optimize.minimize(
            search.value, search.theta, jac=True, method="L-BFGS-B", callback=iterate, options=options
        )
        # a run that began in float32 may have ended for its rounding: once more in float64
        if not search.ended and precise:
            search.converged = bool(found.success)
            return
        search.refine()


def _newton(search):
    """Newton's method with a line search, until it cannot go on."""
    while not search.ended:
        step, found = search.newton_step(), None
        if step is not None:
            found = _shortened(search, step)
        if found is not None:
            search.accept(found)
        elif not search.refine():
            return


def _shortened(search, step):
    """The first of theta + step, theta + step / 2, ... at which the loss is low enough; None where none is."""
    slope, scale = float(search.gradient @ step), 1.0
    if not slope < 0:
        return None
    for _ in range(HALVINGS):
        theta = search.theta + scale * step
        loss, _ = search.value(theta)
        if loss <= search.loss + ENOUGH * scale * slope:
            return theta
        scale /= 2
    return None

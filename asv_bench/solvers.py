"""Logistic regression to its optimum, one class a library: the same data, penalty and solver.

What counts is the time of a fit that ends after the first iteration within a share CLOSE of the least loss. How many
iterations that takes is found beforehand, for each library.
"""

import os
import time
import warnings

import numpy as np
from workers import LeftOut, need

CLOSE = 1e-4
TIGHT = 1e-7  # gradient at which a solution is taken for the optimum
MOST = 4096  # iterations


class Problem:
    """Data, the inverse strength C of the penalty, and the solver; `load` gives X, float32, and the classes of y."""

    def __init__(self, label, load, C, solver):
        self.load, self.C, self.solver = load, C, solver
        self.name = f"{label}, {solver}"


def made():
    """Classes drawn with the probabilities of a logistic regression."""
    random = np.random.default_rng(0)
    X, w = random.standard_normal((100_000, 28), np.float32), random.standard_normal(28)
    return X, (random.random(len(X)) < 1 / (1 + np.exp(-X @ w))).astype(np.int64)


def _stored(name):
    path = os.path.join(os.environ.get("FASTNN_DATA", ""), f"{name}.npz")
    if not os.path.exists(path):
        raise LeftOut(f"no {name}.npz in the folder FASTNN_DATA")
    return np.load(path)


def adult():
    """Incomes by six standardised numbers and the categories, each a column of 0 and 1."""
    data = _stored("adult_income")
    numbers, categories = data["X_num_train"].astype(np.float32), data["X_cat_train"].astype(np.int64)
    columns = [c[:, np.newaxis] == np.arange(-1, c.max() + 1) for c in categories.T]
    X = np.concatenate([(numbers - numbers.mean(axis=0)) / numbers.std(axis=0), *columns], axis=1)
    return X.astype(np.float32), data["y_train"].astype(np.int64)


def mnist():
    """The first digits, from 0 to 1."""
    data, count = _stored("mnist"), 6000
    return (data["X_train"][:count].reshape(count, -1) / 255).astype(np.float32), data["y_train"][:count].astype(int)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("logistic 28-1, 100,000 rows", made, 1.0, "lbfgs"),
        Problem("logistic 28-1, 100,000 rows", made, 1.0, "newton-cholesky"),
        Problem("adult 110-1, 32,561 rows", adult, 1.0, "lbfgs"),
        Problem("adult 110-1, 32,561 rows", adult, 1.0, "newton-cholesky"),
        Problem("mnist 784-10, 6,000 rows", mnist, 0.01, "lbfgs"),
    )
}


class Solver:
    """A subclass has `solve(iterations, tol)`, which gives (W (k, n), b (k,)) with k 1 for two classes."""

    def __init__(self, problem, threads):
        self.problem, self.threads = PROBLEMS[problem], threads
        self.X, self.y = self.problem.load()
        self.classes = int(self.y.max()) + 1
        self.l2 = 1 / (self.problem.C * len(self.X))
        self.make()

    def loss(self, W, b):
        """Of a solution, in float64."""
        z = self.X @ W.T.astype(np.float64) + b
        if len(W) == 1:
            losses = np.logaddexp(0.0, z[:, 0]) - self.y * z[:, 0]
        else:
            peak = z.max(axis=1)
            losses = peak + np.log(np.exp(z - peak[:, np.newaxis]).sum(axis=1)) - z[np.arange(len(z)), self.y]
        return float(losses.mean() + self.l2 / 2 * (W.astype(np.float64) ** 2).sum())

    def optimum(self):
        """The loss at a tight tolerance."""
        return self.loss(*self.solve(MOST, TIGHT))

    def prepare(self, best):
        """Find the number of iterations, and give it."""
        low, high = 0, 1
        while not self.close(high, best):
            low, high = high, 2 * high
            if high > MOST:
                raise LeftOut(f"not within {CLOSE:g} of the optimum after {MOST} iterations")
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.close(middle, best) else (middle, high)
        self.iterations = high
        return high

    def close(self, iterations, best):
        return self.loss(*self.solve(iterations, 1e-14)) <= best * (1 + CLOSE)

    def round(self):
        """Seconds of a fit."""
        start = time.perf_counter()
        self.solve(self.iterations, 1e-14)
        return time.perf_counter() - start


class Fastnn(Solver):
    def make(self):
        import fastnn

        self.fastnn = fastnn

    def solve(self, iterations, tol):
        net = self.fastnn.logistic_net(self.classes)
        options = dict(l2=self.l2, tol=tol, max_iter=iterations, threads=self.threads)
        net.minimize(self.X, self.y, self.problem.solver, **options)
        return net.get_weights()


class Sklearn(Solver):
    def make(self):
        self.kind = need("sklearn.linear_model").LogisticRegression
        warnings.simplefilter("ignore")  # that it has not converged

    def solve(self, iterations, tol):
        net = self.kind(C=self.problem.C, solver=self.problem.solver, tol=tol, max_iter=iterations)
        net.fit(self.X, self.y)
        return net.coef_, net.intercept_


SOLVERS = {"fastnn": Fastnn, "sklearn": Sklearn}

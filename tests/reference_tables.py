"""A slow float64 twin of nets that begin with an Embedding: its one-hot matrices are made, and the rest is a Dense net.

The weights of one-hot codes are columns of the first W beside those of the other features; a vector is a one-hot row
times its table.
"""

import numpy as np
import reference

from fastnn.kernels.program import Bins, Missing, OneHot, Plain, Vector


def codes(column, levels):
    """The codes of a column, 0 for what is none."""
    column = np.asarray(column, np.float64)
    valid = (column >= 0) & (column < levels) & (column == np.floor(column))
    return np.where(valid, column, 0).astype(int)


def one_hot(column, levels):
    """A row of 0 and one 1 for each code."""
    return (codes(column, levels)[:, None] == np.arange(levels)).astype(float)


def numbers(feature, column):
    """What a feature makes of a column of numbers, (m, size)."""
    x = np.asarray(column, np.float64)[:, None]
    missing = np.isnan(x)
    if isinstance(feature, Plain):
        return np.where(missing, 0.0, x)
    if isinstance(feature, Missing):
        return missing.astype(float)
    lower, upper = feature.edges[:-1], feature.edges[1:]
    return np.where(missing, 0.0, np.clip((x - lower) / (upper - lower), 0.0, 1.0))


class TableNet:
    """A program [Embedding, (Dropout,) Dense, ...] over lists of its arrays, tables first.

    `optimizer` is a `reference.Optimizer`; rows of tables whose gradient is all zero keep value and moments, unless l2
    acts on them.
    """

    def __init__(self, program, activations, loss, l2=0.0):
        self.features, self.l2 = program.operations[0].ordered, l2
        self.tables = [one for one in self.features if isinstance(one, Vector | OneHot)]
        self.vectors = [one for one in self.tables if isinstance(one, Vector)]
        self.net = reference.Net(activations, loss)
        self.width = sum(one.size for one in self.features)

    def arrays(self, program, flat):
        """The arrays of the program, float64, in the order of its operations."""
        return [np.array(array, np.float64) for arrays in program.views(flat) for array in arrays]

    def _dense(self, weights, X):
        """(weights, inputs) of the net of Dense layers that computes the same."""
        tables, (W, b, *others) = weights[: len(self.tables)], weights[len(self.tables) :]
        hot = [(one, table) for one, table in zip(self.tables, tables, strict=True) if isinstance(one, OneHot)]
        made = [one_hot(X[:, one.source], one.levels) @ table for one, table in zip(self.vectors, tables, strict=False)]
        made += [numbers(one, X[:, one.source]) for one in self.features if isinstance(one, Plain | Missing | Bins)]
        made += [one_hot(X[:, one.source], one.levels) for one, _ in hot]
        return [np.hstack([W, *(table.T for _, table in hot)]), b, *others], np.hstack(made)

    def predict(self, weights, X):
        """Outputs."""
        return self.net.predict(*self._dense(weights, X))

    def objective(self, weights, X, y, w=None, masks=None):
        """The weighted mean loss, and l2 / 2 times the squares of all tables and W."""
        dense, inputs = self._dense(weights, X)
        penalized = [*weights[: len(self.tables)], *weights[len(self.tables) :: 2]]
        penalty = 0.5 * self.l2 * sum((array**2).sum() for array in penalized)
        return self.net.objective(dense, inputs, y, w, self._masks(masks, inputs)) + penalty

    def _masks(self, mask, inputs):
        """Masks of all layers: of the features alone, not of one-hot codes."""
        if mask is None:
            return None
        whole = np.ones_like(inputs)
        whole[:, : self.width] = mask
        return [whole, *[1.0] * (len(self.net.layers) - 1)]

    def gradients(self, weights, X, y, w=None, masks=None):
        """Of the objective, by each array."""
        dense, inputs = self._dense(weights, X)
        (dW, db, *others), dX = self.net.gradients(dense, inputs, y, w, self._masks(masks, inputs))
        found, at, column = [], 0, self.width
        for one in self.tables:
            matrix = one_hot(X[:, one.source], one.levels)
            if isinstance(one, Vector):
                found.append(matrix.T @ dX[:, at : at + one.size])
                at += one.size
            else:
                found.append(dW[:, column : column + one.levels].T)
                column += one.levels
        found += [dW[:, : self.width], db, *others]
        decays = [True] * len(self.tables) + [True, False] * len(self.net.layers)
        pairs = zip(found, weights, decays, strict=True)
        return [g + self.l2 * array if decays_it else g for g, array, decays_it in pairs]

    def step(self, weights, optimizer, X, y, w=None, masks=None):
        """The weights after one step on these rows."""
        return self.update(weights, optimizer, self.gradients(weights, X, y, w, masks))

    def update(self, weights, optimizer, grads):
        """The weights after an update from these gradients."""
        zeros = [np.zeros_like(array) for array in weights]
        before = [[*weights], *([*state] if state else zeros for state in (optimizer.one, optimizer.two))]
        after = [optimizer.update(weights, grads), optimizer.one, optimizer.two]
        if self.l2 == 0.0:
            for i in range(len(self.tables)):
                untouched = ~grads[i].any(axis=1)
                for old, new in zip(before, after, strict=True):
                    new[i][untouched] = old[i][untouched]
        return after[0]

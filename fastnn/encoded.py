"""The layer that Columns become once a net has seen data: vectors and one-hot weights of codes, features of numbers."""

from typing import Any

import numpy as np

from . import backends
from .codings import FIRST
from .initializers import initialize
from .layers import Dense, Layer

_SPREAD = 0.1  # standard deviation of the vectors that codes start with (an estimate)


class Encoded(Layer):
    """Columns with what they learned, before the Dense layer on whose products one-hot codes are added.

    Parameters
    ----------
    encoding : Encoding
        What the columns learned.
    dense : Dense
        The first one after them.
    """

    encoding: Any
    operation: Any
    dense: Dense

    def __init__(self, encoding: Any, dense: Dense) -> None:
        features = encoding.features()
        hot = any(isinstance(one, backends.operations.OneHot) for one in features)
        operation = backends.operations.Embedding(features, dense.units if hot else 0)
        names = tuple(f"E_{encoding.feature_names[one.source]}" for one in operation.tables)
        vars(self).update(encoding=encoding, dense=dense, operation=operation, arrays=names)

    @property
    def units(self) -> int:
        """Numbers that it makes of a row; one-hot codes make none."""
        return int(self.operation.outputs(self.encoding.n_features))

    @property
    def title(self) -> str:
        """Name of the kind that the user gave."""
        return "Columns"

    def operations(self, number: int) -> list[Any]:
        """One Embedding.

        Parameters
        ----------
        number : int
            Layers with parameters before it.

        Returns
        -------
        list
            Operations of `kernels.program`.
        """
        return [self.operation]

    def initialize(self, arrays: Any, rng: Any) -> None:
        """Draw the rows of all levels; those of what is unseen and of what is missing start at zero.

        Weights of one-hot codes start at zero beside other features (docs/tables.md: better on most tables), and alone
        as the Dense does, whose units would be alike for ever otherwise.

        Parameters
        ----------
        arrays : list of array
            A table (levels, size) for each column of codes; written to.
        rng : numpy.random.Generator
            Source of randomness.
        """
        inputs = len(self.operation.tables)  # of the Dense that are not zero, where there are one-hot codes alone
        for one, array in zip(self.operation.tables, arrays, strict=True):
            if isinstance(one, backends.operations.OneHot) and self.units:
                array[...] = 0.0
            elif isinstance(one, backends.operations.OneHot):
                array[...] = initialize(self.dense.kernel_initializer, inputs, self.dense.units, array.shape, rng)
            else:
                array[...] = _SPREAD * rng.standard_normal(array.shape)
            array[:FIRST] = 0.0

    def add_to_onnx(self, graph: Any, value: str, names: list[str]) -> str | None:
        """Its features; what is added to the products of the Dense after it becomes `graph.added`.

        Parameters
        ----------
        graph : exchange.Graph
            Receives them.
        value : str
            Name of the rows of codes and numbers.
        names : list of str
            Those of the tables.

        Returns
        -------
        str or None
            Name of its output; None where there are only one-hot codes.
        """
        parts, tables = [], iter(names)
        for one in self.operation.ordered:
            column = graph.add("Gather", value, graph.integers(one.source), axis=1)
            match one:
                case backends.operations.Vector():
                    parts.append(_rows_of_table(graph, column, one.levels, next(tables)))
                case backends.operations.OneHot():
                    rows = _rows_of_table(graph, column, one.levels, next(tables))
                    graph.added = rows if graph.added is None else graph.add("Add", graph.added, rows)
                case _:
                    parts.append(_number(graph, column, one))
        return graph.add("Concat", *parts, axis=1) if parts else None

    def __repr__(self) -> str:
        return repr(self.encoding.columns)


def _rows_of_table(graph, column, levels, table):
    """Rows of a table by the codes of a column (m,): what is no code counts as code 0."""
    zero = graph.constant(0.0)
    inside = graph.add("And", graph.add("Greater", column, graph.constant(-1.0)), _less(graph, column, levels))
    inside = graph.add("Where", inside, column, zero)
    whole = graph.cast(graph.cast(inside, np.int64), graph.dtype)
    code = graph.add("Where", graph.add("Equal", whole, inside), inside, zero)
    return graph.add("Gather", table, graph.cast(code, np.int64), axis=0)


def _less(graph, column, limit):
    return graph.add("Less", column, graph.constant(float(limit)))


def _number(graph, column, one):
    """Features (m, size) of a column of numbers."""
    column = graph.add("Unsqueeze", column, graph.integers([1]))
    missing = graph.add("IsNaN", column)
    match one:
        case backends.operations.Missing():
            return graph.cast(missing, graph.dtype)
        case backends.operations.Plain():
            return graph.add("Where", missing, graph.constant(0.0), column)
    edges = one.edges.astype(graph.dtype)
    shares = graph.add("Sub", column, graph.constant(edges[:-1]))
    shares = graph.add("Mul", shares, graph.constant(1.0 / np.diff(one.edges)))
    shares = graph.add("Clip", shares, graph.constant(0.0), graph.constant(1.0))
    return graph.add("Where", missing, graph.constant(0.0), shares)

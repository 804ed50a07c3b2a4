"""Features of the columns of a table: numbers, bins, learned vectors, and sums of the weights of one-hot codes.

A column's record is found by the place of its features among those of the operation, in a few steps; a code that is
none of its column counts as 0, so that no row of the data reaches outside a table.
"""

import numpy as np

from ..program import Embedding
from ..tables import MISSING, PLAIN, VECTOR, Column
from .primitives import global_at
from .toolchain import device, for_each_real

CONSTANTS, COLUMNS, CODES = Embedding.fields.CONSTANTS, Embedding.fields.COLUMNS, Embedding.fields.CODES
VECTORS, UNITS, ADDS_TO = Embedding.fields.VECTORS, Embedding.fields.UNITS, Embedding.fields.ADDS_TO
CELL = 8  # bytes of a field


@device
def columns_of(op):
    """The records of the columns."""
    return global_at(op[CONSTANTS], np.int64)


@device
def column_with(op, feature):
    """The number of the column that makes a feature of the output: the last one that begins there or before."""
    columns, low, high = columns_of(op), 0, op[COLUMNS]
    while high - low > 1:
        middle = (low + high) >> 1
        if columns[Column.SIZE * middle + Column.AT] <= feature:
            low = middle
        else:
            high = middle
    return low


@device
def one_hots_from(op):
    """The number of the first column of one-hot codes: those of vectors come before it."""
    return column_with(op, op[VECTORS] - 1) + 1 if op[VECTORS] > 0 else 0


@for_each_real
def features_of(real):
    """(code_of, feature, one_hot_sum): what a row of the table becomes."""
    zero, one = real(0.0), real(1.0)

    @device
    def code_of(x, column):
        """The code that a number stands for: 0 where it is none of its column."""
        if not (x >= zero and x < real(column[Column.LEVELS])):  # so is NaN
            return 0
        code = int(x)
        return code if real(code) == x else 0

    @device
    def feature(parameters, op, x, by_column, i):
        """Feature i of the row at x."""
        column = columns_of(op) + Column.SIZE * column_with(op, i)
        value, j = x[column[Column.SOURCE] * by_column], i - column[Column.AT]
        size, kind = column[Column.SIZE_OF], column[Column.KIND]
        if kind == VECTOR:
            return parameters[column[Column.TABLE] + code_of(value, column) * size + j]
        missing = value != value
        if kind == MISSING:
            return one if missing else zero
        if missing or kind == PLAIN:
            return zero if missing else value
        lower = global_at(op[CONSTANTS] + CELL * Column.SIZE * op[COLUMNS], real) + column[Column.EDGES]
        share = (value - lower[j]) * lower[size + j]
        return one if share > one else share if share > zero else zero

    @device
    def one_hot_sum(parameters, op, x, by_column, i):
        """Sum of the weights of unit i that the one-hot codes of the row at x choose."""
        summed, columns, units = zero, columns_of(op), op[UNITS]
        for c in range(one_hots_from(op), op[CODES]):
            column = columns + Column.SIZE * c
            code = code_of(x[column[Column.SOURCE] * by_column], column)
            summed += parameters[column[Column.TABLE] + code * units + i]
        return summed

    return code_of, feature, one_hot_sum

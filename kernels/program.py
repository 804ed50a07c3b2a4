"""What a net is, for any backend: a list of operations, and where their parameters stand in one flat vector.

All parameters are one vector, operation after operation, each range of them starting at a multiple of ALIGN elements;
the ranges of which a step touches only some rows come after all others. Gradients and optimizer state have the same
layout. A program is only read: any number of runs share it.

To add a kind of layer, add its class here and to KINDS, and a file of its `name` to `kernels/cpu` and `kernels/cuda`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .formulas import Activation, Loss
from .randomness import CHANCE_BITS
from .tables import ADDED, EXPANDED, FROM_ROWS, LOGITS, Column, Fields, Header, Op, Range

ALIGN = 16


def round_up(n, multiple):
    """The smallest multiple of `multiple` that is at least n."""
    return -(-n // multiple) * multiple


def limits(count: int, share: int, shares: int) -> tuple[int, int]:
    """(first, past the last) of `count` things that are number `share` of `shares`, as even as can be."""
    return share * count // shares, (share + 1) * count // shares


class Operation:
    """One step of a forward pass, from one buffer to the next.

    Attributes
    ----------
    name : str
        Of its kind, and of the file of each backend that computes it.
    fields : Fields
        Of its kind in the records of a program, from Op.OWN on.
    only_trains : bool
        Whether it is left out where nothing is trained.
    by_touched_rows : bool
        Whether a step updates of its ranges only the rows that the batch touches.
    ends_rows : bool
        Whether what comes after it has no samples as rows any more.
    activation : Activation or None
        What its outputs went through.
    alpha : float
        Parameter of the activation.
    """

    name: ClassVar[str]
    fields: ClassVar[Fields] = Fields("Own", "", Op.OWN)
    only_trains: ClassVar[bool] = False
    by_touched_rows: ClassVar[bool] = False
    ends_rows: ClassVar[bool] = False
    activation: Activation | None = None
    alpha: float = 0.0

    def outputs(self, n_in: int) -> int:
        """Features that it makes of `n_in`."""
        return n_in

    def parameters(self, n_in: int) -> list[tuple[tuple[int, ...], bool]]:
        """(shape, whether l2 acts on it) of each array of its parameters, a matrix or a vector."""
        return []

    def facts(self, offsets: Sequence[int]) -> dict[str, int]:
        """Its own fields, from the offsets of its ranges."""
        return {}

    def flops(self, n_in: int) -> int:
        """Floating-point operations of a training step for each sample, roughly."""
        return 0

    def constants(self, dtype: Any, offsets: Sequence[int]) -> NDArray[Any] | None:
        """Numbers that it works with, which are not trained, in a dtype or as whole int64; from its ranges' offsets."""
        return None


@dataclass(frozen=True)
class Dense(Operation):
    """A fully connected layer, g(W x + b) with W (units, n_in) and b (units,)."""

    units: int
    activation: Activation
    alpha: float = 0.0
    name = "dense"
    ends_rows = True
    fields = Fields("Dense", "W_AT B_AT ACTIVATION ACTIVATE SLOPE PRODUCT_ROWS", Op.OWN)

    def outputs(self, n_in: int) -> int:
        """Its units."""
        return self.units

    def parameters(self, n_in: int) -> list[tuple[tuple[int, ...], bool]]:
        """W, on which l2 acts, and b."""
        return [((self.units, n_in), True), ((self.units,), False)]

    def facts(self, offsets: Sequence[int]) -> dict[str, int]:
        """Where W and b stand, and the activation."""
        return {"W_AT": offsets[0], "B_AT": offsets[1], "ACTIVATION": self.activation.code}

    def flops(self, n_in: int) -> int:
        """Three products, and some for each output."""
        return 6 * n_in * self.units + 60 * self.units


@dataclass(frozen=True)
class Dropout(Operation):
    """Drops a share `rate` of its inputs at random; `layer` numbers the masks of a net."""

    rate: float
    layer: int
    name = "dropout"
    fields = Fields("Dropout", "THRESHOLD LAYER", Op.OWN)
    only_trains = True

    def facts(self, offsets: Sequence[int]) -> dict[str, int]:
        """Below which number a unit is dropped, and which masks."""
        return {"THRESHOLD": round(self.rate * (1 << CHANCE_BITS)), "LAYER": self.layer}


@dataclass(frozen=True, eq=False)
class Standardize(Operation):
    """(x - shift) * scale + offset, with one of each a feature, float64: to standard scores, or back from them."""

    shift: NDArray[np.float64]
    scale: NDArray[np.float64]
    offset: NDArray[np.float64]
    name = "standardize"
    fields = Fields("Standardize", "CONSTANTS", Op.OWN)

    def constants(self, dtype: Any, offsets: Sequence[int]) -> NDArray[Any]:
        """The shifts, then the scales, then the offsets."""
        return np.concatenate([self.shift, self.scale, self.offset]).astype(dtype)


class Plain(NamedTuple):
    """The number of a column, 0 where it is NaN."""

    source: int

    size = 1


class Missing(NamedTuple):
    """1 where a column is NaN, else 0."""

    source: int

    size = 1


class Bins(NamedTuple):
    """A number as the share of each bin that lies below it, in [0, 1] (Gorishniy et al. 2022); zeros where it is NaN.

    The bins lie between neighbours of the `edges`, float64 and increasing.
    """

    source: int
    edges: NDArray[np.float64]

    @property
    def size(self) -> int:
        """Bins."""
        return len(self.edges) - 1


class Vector(NamedTuple):
    """A learned vector of `size` numbers for each code of a column, 0 to levels - 1."""

    source: int
    levels: int
    size: int


class OneHot(NamedTuple):
    """A code of a column, 0 to levels - 1, as one-hot features of the Dense after it: those are never made."""

    source: int
    levels: int

    size = 0


_FEATURES = Plain, Missing, Bins, Vector, OneHot  # their places are `tables.PLAIN` and so on


@dataclass(frozen=True, eq=False)
class Embedding(Operation):
    """Features of the columns of a table, whose rows hold numbers and codes.

    Vectors come first, then what is made of numbers. A code in a row is a whole number in the dtype of the net; NaN,
    and whatever is no code of its column, counts as code 0. `units` are those of the Dense after it, on whose products
    the weights of one-hot codes are added; 0 where there are none.
    """

    features: tuple[Plain | Missing | Bins | Vector | OneHot, ...]
    units: int = 0
    name = "embedding"
    by_touched_rows = True
    fields = Fields("Embedding", "CONSTANTS COLUMNS CODES VECTORS UNITS ADDS_TO", Op.OWN)

    @functools.cached_property
    def ordered(self) -> tuple[Plain | Missing | Bins | Vector | OneHot, ...]:
        """The features as they come out: vectors, one-hot codes, which have no place, and numbers."""
        return tuple(sorted(self.features, key=lambda one: (not isinstance(one, Vector), not isinstance(one, OneHot))))

    @property
    def tables(self) -> list[Vector | OneHot]:
        """What has parameters, in their order."""
        return [one for one in self.ordered if isinstance(one, Vector | OneHot)]

    def outputs(self, n_in: int) -> int:
        """Numbers of all features."""
        return sum(one.size for one in self.features)

    def parameters(self, n_in: int) -> list[tuple[tuple[int, ...], bool]]:
        """A table (levels, size) for each column of codes, of one-hot codes (levels, units); l2 acts on all."""
        return [((one.levels, one.size or self.units), True) for one in self.tables]

    def facts(self, offsets: Sequence[int]) -> dict[str, int]:
        """How many features, codes among them, numbers of vectors and one-hot units; the buffer that these add to."""
        vectors = sum(one.size for one in self.tables)
        counts = {"COLUMNS": len(self.features), "CODES": len(self.tables), "VECTORS": vectors}
        return counts | {"UNITS": self.units}

    def flops(self, n_in: int) -> int:
        """Some for each number."""
        return 10 * (self.outputs(n_in) + len(self.tables) * self.units)

    def constants(self, dtype: Any, offsets: Sequence[int]) -> NDArray[np.int64]:
        """The fields of `tables.Column` of each feature, tables first; then, in the dtype, edges and inverse widths."""
        records = np.zeros((len(self.ordered), Column.SIZE), np.int64)
        numbers: list[NDArray[Any]] = []
        place, filled, at = 0, 0, iter(offsets)
        for record, one in zip(records, self.ordered, strict=True):
            record[[Column.KIND, Column.SOURCE, Column.AT]] = _FEATURES.index(type(one)), one.source, place
            record[Column.SIZE_OF] = self.units if isinstance(one, OneHot) else one.size
            place += one.size
            if isinstance(one, Vector | OneHot):
                record[[Column.LEVELS, Column.TABLE]] = one.levels, next(at)
            elif isinstance(one, Bins):
                record[Column.EDGES] = filled
                numbers += [one.edges[:-1], 1.0 / np.diff(one.edges)]
                filled += 2 * one.size
        packed = np.concatenate([*numbers, np.zeros(0)]).astype(dtype)
        cells = np.zeros(-(-packed.nbytes // 8), np.int64)
        cells.view(dtype)[: packed.size] = packed
        return np.concatenate([records.ravel(), cells])


KINDS: tuple[type[Operation], ...] = (Dense, Dropout, Standardize, Embedding)


class Program:
    """A net as tables.

    Parameters
    ----------
    n_features : int
        Inputs of the first operation.
    operations : sequence of Operation
        In order; operation i reads buffer i and fills buffer i + 1.
    loss : Loss
        What its outputs are trained on.
    loss_param : float
        Parameter of the loss.
    answer : sequence of Operation
        What prediction ends with, after the others; without parameters.

    Attributes
    ----------
    widths : tuple of int
        Features of each buffer.
    size : int
        Elements of the flat parameters.
    dense_size : int
        Elements up to the ranges of which a step touches only some rows.
    ranges : array (ranges, Range.SIZE), int64
        Ranges of the parameters.
    table : array, int64
        Header, operations and ranges, read-only; without addresses.
    alphas : array (operations,), float64
        Parameter of each activation.
    logits : bool
        Whether the loss takes what goes into the last activation.
    """

    def __init__(
        self,
        n_features: int,
        operations: Sequence[Operation],
        loss: Loss,
        loss_param: float = 0.0,
        answer: Sequence[Operation] = (),
    ) -> None:
        self.n_features, self.operations, self.answer = n_features, tuple(operations), tuple(answer)
        self.loss, self.loss_param = loss, loss_param
        last = self.operations[-1].activation
        self.logits = last is not None and loss.activation == last.name
        widths, firsts, ranges, shapes = [n_features], [], [], []
        for operation in self.operations:
            firsts.append(len(ranges))
            for shape, decays in operation.parameters(widths[-1]):
                ranges.append((0, *(*shape, 1)[:2], decays, operation.by_touched_rows))
                shapes.append((operation, shape))
            widths.append(operation.outputs(widths[-1]))
        self.widths, self._shapes = tuple(widths), shapes
        self.ranges = np.array(ranges, np.int64).reshape(-1, Range.SIZE)
        self.dense_size, self.size = self._place_ranges()
        self.alphas = np.array([operation.alpha for operation in self.operations], np.float64)
        records = np.zeros((len(self.operations), Op.SIZE), np.int64)
        last_on_rows = next((i for i, o in enumerate(self.operations) if o.ends_rows), 0)
        expanded = False
        for i, (operation, record) in enumerate(zip(self.operations, records, strict=True)):
            own = self.ranges[firsts[i] :][: len(operation.parameters(widths[i]))]
            record[[Op.KIND, Op.NUMBER, Op.INPUT, Op.OUTPUT]] = KINDS.index(type(operation)), i, i, i + 1
            record[[Op.N_IN, Op.N_OUT, Op.RANGE, Op.RANGES]] = widths[i], widths[i + 1], firsts[i], len(own)
            record[Op.FLAGS] |= (FROM_ROWS | EXPANDED * expanded) * (i <= last_on_rows)
            for name, value in operation.facts([int(offset) for offset in own[:, Range.OFFSET]]).items():
                record[getattr(operation.fields, name)] = value
            if isinstance(operation, Embedding):
                expanded = True
                record[Embedding.fields.ADDS_TO] = last_on_rows + 1
                records[last_on_rows, Op.FLAGS] = ADDED * (operation.units > 0)
        records[-1, Op.FLAGS] |= LOGITS * self.logits
        header = np.zeros(Header.SIZE, np.int64)
        header[[Header.OPERATIONS, Header.RANGES, Header.FEATURES]] = len(records), len(ranges), n_features
        header[[Header.OUTPUTS, Header.PARAMETERS, Header.DENSE]] = widths[-1], self.size, self.dense_size
        added = max((o.units for o in self.operations if isinstance(o, Embedding)), default=0)
        header[Header.WIDEST] = max(widths) + added
        header[[Header.OPERATIONS_AT, Header.RANGES_AT]] = Header.SIZE, Header.SIZE + records.size
        self.table = np.concatenate([header, records.ravel(), self.ranges.ravel()])
        for array in (self.ranges, self.alphas, self.table):
            array.flags.writeable = False

    def _place_ranges(self):
        """Give the ranges their offsets: (end of those that each step updates, end of all)."""
        ends, end = [], 0
        for by_touched_rows in (0, 1):
            for i in np.flatnonzero(self.ranges[:, Range.BY_TOUCHED_ROWS] == by_touched_rows):
                self.ranges[i, Range.OFFSET] = end
                end += round_up(int(self.ranges[i, Range.ROWS]) * int(self.ranges[i, Range.COLUMNS]), ALIGN)
            ends.append(end)
        return ends

    @property
    def records(self) -> NDArray[np.int64]:
        """The records of the operations (operations, Op.SIZE), a view of the table."""
        start = int(self.table[Header.OPERATIONS_AT])
        return self.table[start : start + len(self.operations) * Op.SIZE].reshape(-1, Op.SIZE)

    @property
    def outputs(self) -> int:
        """Features of the last buffer."""
        return self.widths[-1]

    def offsets(self, index: int) -> list[int]:
        """Where the ranges of operation number `index` stand in the flat parameters."""
        first = sum(len(one.parameters(n)) for one, n in zip(self.operations[:index], self.widths, strict=False))
        count = len(self.operations[index].parameters(self.widths[index]))
        return [int(offset) for offset in self.ranges[first : first + count, Range.OFFSET]]

    @functools.cached_property
    def embedding(self) -> "Embedding | None":
        """The operation that makes rows of its own of the samples, which those after it take for them."""
        return next((one for one in self.operations if isinstance(one, Embedding)), None)

    @property
    def trained(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of each operation that has parameters which each step updates."""
        sizes = zip(self.operations, self.widths, self.widths[1:], strict=False)
        return [(n, n_out) for one, n, n_out in sizes if one.parameters(n) and not one.by_touched_rows]

    @functools.cached_property
    def slices(self) -> list[slice]:
        """Where each range stands in the flat parameters."""
        return [slice(int(at), int(at + rows * columns)) for at, rows, columns, *_ in self.ranges]

    @functools.cached_property
    def gaps(self) -> NDArray[np.int64]:
        """Places of the flat parameters that are in no range: they let each range begin at a multiple of four."""
        between = np.ones(self.size, bool)
        for part in self.slices:
            between[part] = False
        return np.flatnonzero(between)

    def share(self, share: int, shares: int) -> list[slice]:
        """Where the rows of each range stand in the flat parameters that are number `share` of `shares`."""
        found = []
        for at, rows, columns, *_ in self.ranges.tolist():
            low, high = limits(rows, share, shares)
            found.append(slice(at + low * columns, at + high * columns))
        return found

    @functools.cached_property
    def penalized(self) -> list[slice]:
        """The slices that l2 acts on."""
        return [part for part, decays in zip(self.slices, self.ranges[:, Range.DECAYS], strict=True) if decays]

    def views(self, flat: NDArray[Any]) -> list[list[NDArray[Any]]]:
        """The arrays of each operation that has parameters, as views into a flat vector."""
        views: dict[int, list[NDArray[Any]]] = {}
        for part, (operation, shape) in zip(self.slices, self._shapes, strict=True):
            views.setdefault(id(operation), []).append(flat[part].reshape(shape))
        return list(views.values())

    @functools.cached_property
    def flops_per_sample(self) -> int:
        """Floating-point operations of a training step for each sample, roughly."""
        return sum(operation.flops(n_in) for operation, n_in in zip(self.operations, self.widths, strict=False))

    @functools.cached_property
    def evaluating(self) -> "Program":
        """The net without what acts in training only; its parameters stand where they stood."""
        kept = [operation for operation in self.operations if not operation.only_trains]
        if len(kept) == len(self.operations):
            return self
        return Program(self.n_features, kept, self.loss, self.loss_param, self.answer)

    @functools.cached_property
    def predicting(self) -> "Program":
        """The net as it answers; its parameters stand where they stood."""
        if not self.answer:
            return self.evaluating
        return Program(self.n_features, self.evaluating.operations + self.answer, self.loss, self.loss_param)

"""What a net is, for any backend: a list of operations, and where their parameters stand in one flat vector.

All parameters are one vector, operation after operation, each range of them starting at a multiple of ALIGN elements.
Gradients and optimizer state have the same layout. A program is only read: any number of runs share it.

To add a kind of layer, add its class here and to KINDS, and a file of its `name` to `kernels/cpu` and `kernels/cuda`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .formulas import Activation, Loss
from .randomness import CHANCE_BITS
from .tables import FROM_ROWS, LOGITS, Fields, Header, Op, Range

ALIGN = 16


def round_up(n, multiple):
    """The smallest multiple of `multiple` that is at least n."""
    return -(-n // multiple) * multiple


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
    activation : Activation or None
        What its outputs went through.
    alpha : float
        Parameter of the activation.
    """

    name: ClassVar[str]
    fields: ClassVar[Fields] = Fields("Own", "", Op.OWN)
    only_trains: ClassVar[bool] = False
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

    def constants(self, dtype: Any) -> NDArray[Any] | None:
        """Numbers that it works with, which are not trained."""
        return None


@dataclass(frozen=True)
class Dense(Operation):
    """A fully connected layer, g(W x + b) with W (units, n_in) and b (units,)."""

    units: int
    activation: Activation
    alpha: float = 0.0
    name = "dense"
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

    def constants(self, dtype: Any) -> NDArray[Any]:
        """The shifts, then the scales, then the offsets."""
        return np.concatenate([self.shift, self.scale, self.offset]).astype(dtype)


KINDS: tuple[type[Operation], ...] = (Dense, Dropout, Standardize)


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
        widths, ranges, firsts, shapes, end = [n_features], [], [], [], 0
        for operation in self.operations:
            firsts.append(len(ranges))
            for shape, decays in operation.parameters(widths[-1]):
                rows, columns = (*shape, 1)[:2]
                ranges.append((end, rows, columns, decays))
                shapes.append((operation, shape))
                end += round_up(rows * columns, ALIGN)
            widths.append(operation.outputs(widths[-1]))
        self.widths, self.size, self._shapes = tuple(widths), end, shapes
        self.ranges = np.array(ranges, np.int64).reshape(-1, Range.SIZE)
        self.alphas = np.array([operation.alpha for operation in self.operations], np.float64)
        records = np.zeros((len(self.operations), Op.SIZE), np.int64)
        first_with_parameters = next((i for i, o in enumerate(self.operations) if o.parameters(1)), 0)
        for i, (operation, record) in enumerate(zip(self.operations, records, strict=True)):
            own = self.ranges[firsts[i] :][: len(operation.parameters(widths[i]))]
            record[[Op.KIND, Op.NUMBER, Op.INPUT, Op.OUTPUT]] = KINDS.index(type(operation)), i, i, i + 1
            record[[Op.N_IN, Op.N_OUT, Op.RANGE, Op.RANGES]] = widths[i], widths[i + 1], firsts[i], len(own)
            record[Op.FLAGS] = FROM_ROWS * (i <= first_with_parameters)
            for name, value in operation.facts([int(offset) for offset in own[:, Range.OFFSET]]).items():
                record[getattr(operation.fields, name)] = value
        records[-1, Op.FLAGS] |= LOGITS * self.logits
        header = np.zeros(Header.SIZE, np.int64)
        header[[Header.OPERATIONS, Header.RANGES, Header.FEATURES]] = len(records), len(ranges), n_features
        header[[Header.OUTPUTS, Header.PARAMETERS]] = widths[-1], end
        header[[Header.OPERATIONS_AT, Header.RANGES_AT]] = Header.SIZE, Header.SIZE + records.size
        self.table = np.concatenate([header, records.ravel(), self.ranges.ravel()])
        for array in (self.ranges, self.alphas, self.table):
            array.flags.writeable = False

    @property
    def outputs(self) -> int:
        """Features of the last buffer."""
        return self.widths[-1]

    @property
    def trained(self) -> list[tuple[int, int]]:
        """(n_in, n_out) of each operation that has parameters."""
        sizes = zip(self.operations, self.widths, self.widths[1:], strict=False)
        return [(n_in, n_out) for operation, n_in, n_out in sizes if operation.parameters(n_in)]

    @functools.cached_property
    def slices(self) -> list[slice]:
        """Where each range stands in the flat parameters."""
        return [slice(int(at), int(at + rows * columns)) for at, rows, columns, _ in self.ranges]

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

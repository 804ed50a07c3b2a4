"""Where the numbers of a run stand on a GPU, and which form of the loop takes it.

Arrays of the host move to the device once for a plan; those of the device are read and written in place. Parameters
and optimizer state stay there until the host asks for them (`Plan.bring`).
"""

import os

import numpy as np

from .. import plan as _plan
from ..formulas import NEEDS_INPUT
from .arrays import on_device
from .graph import pass_over
from .launch import copied, fill, room_for, to_host
from .losses import RESULT
from .matmul import work_size
from .matrices import first_not_finite, warps_for
from .toolchain import SIMULATED, cuda
from .training import SUMS, THREADS

SHARED_BYTES = 48 << 10  # that a block gets without asking for more
# Estimated, not yet measured: the work of a step up to which one block beats the meetings of a grid, and these the
# launches of a graph
BLOCK_FLOPS, GRID_FLOPS = 1 << 21, 1 << 27
MOST_PARTS = 32  # of the gradient of a long batch
STATES = {"STATE_1", "STATE_2"}
LOOPS = ("block", "grid", "graph")


class Plan(_plan.Plan):
    """The tables of a run on a GPU; arguments and use are those of `kernels.plan.Plan`.

    X and OUT may be arrays of the device, X as `arrays.Rows`; all others are the host's.
    `loop` is "block", "grid" or "graph", by size, or by the environment variable FASTNN_CUDA_LOOP.
    """

    def __init__(self, layout, theta, batch, gradient, drops, precision="float32", loop=None):
        self.layout, self.theta, self.dtype = layout, theta, theta.dtype
        self.threads, self.kept, self._new, self.there, self.recording = 1, {}, set(), {}, None
        self.precision = precision
        self.ahead = False  # whether the device has parameters and state that the host lacks
        # the user's pairs of functions: those of the layers, that of the loss, and pair or code of each layer
        self.own, self.own_loss = tuple(dict.fromkeys(filter(None, layout.functions))), None
        self.codes = [
            pair or int(record[_plan.ACTIVATION]) for pair, record in zip(layout.functions, layout.layers, strict=True)
        ]
        self.table = np.zeros(_plan.HEADER + layout.layers.size, np.int64)
        self.reals = np.zeros(_plan.ALPHAS + len(layout.units))
        self.reals[_plan.ALPHAS :] = layout.alphas
        self.clip()
        ld = _plan.round_up(batch, 32) + 4  # neighbouring features begin in different banks
        self.set(
            LAYERS=len(layout.units),
            FEATURES=layout.n_features,
            OUTPUTS=layout.units[-1],
            PARAMETERS=layout.size,
            LAYERS_AT=_plan.HEADER,
            BATCH=batch,
            LD=ld,
        )
        self.gradients = self.allocate(layout.size).reshape(1, -1)
        if gradient:
            self.set(GRADIENTS=self.gradients)
        groups = -(-batch // 4)
        widths = (layout.n_features, *layout.units)
        # threads that have something to do: a tile of 4 x 4 for each, or a share of its sum
        work = max(
            groups * -(-max(widths) // 4),
            *(-(-a // 4) * -(-b // 4) for a, b in layout.sizes),
            *(groups * -(-b // 4) * (a >> 4) for a, b in (*layout.sizes, *(size[::-1] for size in layout.sizes))),
        )
        self.shape = 1, int(min(THREADS, _plan.round_up(work, 32)))
        size, flops = self._place(layout, ld, drops, gradient, batch), batch * layout.flops_per_sample()
        fits = size * theta.itemsize <= SHARED_BYTES
        by_size = "block" if fits and flops <= BLOCK_FLOPS else "grid" if flops <= GRID_FLOPS else "graph"
        self.loop = loop or os.environ.get("FASTNN_CUDA_LOOP") or by_size
        if self.loop not in LOOPS:
            raise ValueError(f"FASTNN_CUDA_LOOP must be {', '.join(LOOPS[:-1])} or {LOOPS[-1]}; got {self.loop!r}")
        if self.loop == "block" and not fits:
            accepted = "'grid' or 'graph' for a net and batch"
            raise ValueError(f"FASTNN_CUDA_LOOP must be {accepted} of {size:,} numbers; got 'block'")
        if self.loop == "graph":
            size = self._place_by_rows(layout, drops, gradient, batch)
        elif self.loop == "grid":
            if batch * max(widths) >= 1 << 32:  # of `quotient`
                numbers = f"a batch of {batch * max(widths):,} numbers"
                raise ValueError(f"FASTNN_CUDA_LOOP must be 'graph' for {numbers}; got 'grid'")
            blocks = min(_multiprocessors(), -(-work // THREADS))
            self.shape = blocks, THREADS
            size = self._place(layout, ld, drops, gradient, batch)
        self.size = size
        for record, pair in zip(self.records, layout.functions, strict=True):
            if pair:  # the loops of one launch tell them apart by number
                record[_plan.ACTIVATION] += self.own.index(pair)

    def _place(self, layout, ld, drops, gradient, batch):
        """Offsets of every buffer in the working space; gives its size."""
        end, threads = 0, self.shape[0] * self.shape[1]

        def place(elements):
            nonlocal end
            start, end = end, end + _plan.round_up(elements, 4)
            return start

        self.theta_at, self.sums_at = place(layout.size), place(SUMS * -(-threads // 32))
        inputs = place(layout.n_features * ld)
        for i, record in enumerate(self._new_records(layout, drops)):
            n_in, n_out = int(record[_plan.N_IN]), int(record[_plan.N_OUT])
            record[_plan.X_AT] = place(n_in * ld) if i > 0 and record[_plan.DROPS] else inputs
            record[_plan.A_AT] = inputs = place(n_out * ld)
            record[_plan.Z_AT] = place(n_out * ld) if record[_plan.ACTIVATION] in NEEDS_INPUT else inputs
            record[_plan.DELTA_AT] = place(n_out * ld) if gradient else 0
        self.set(INPUT_DELTA_AT=place(layout.n_features * ld) if gradient and not drops else 0)
        tiles = sum(-(-b // 4) * (-(-a // 4) + 1) for a, b in layout.sizes)
        self.parts = int(max(1, min(threads // tiles, batch // 16, MOST_PARTS)))
        self.grad_at = place(self.parts * layout.size if gradient else 0)
        return end

    def _place_by_rows(self, layout, drops, gradient, batch):
        """`_place` for the graph, whose samples are rows."""
        end, per_item = 0, -(-8 // self.dtype.itemsize)

        def place(elements):
            nonlocal end
            start, end = end, end + _plan.round_up(elements, 32)
            return start

        self.rows_at, self.weights_at = place(batch * per_item), place(batch)
        self.targets_at, self.result_at = place(batch * layout.units[-1]), place(RESULT)
        blocks, _ = pass_over(layout.size)
        self.penalties_at, self.squares_at, self.scale_at = place(blocks), place(blocks), place(1)
        inputs = place(batch * layout.n_features)
        for i, record in enumerate(self._new_records(layout, drops)):
            n_in, n_out = int(record[_plan.N_IN]), int(record[_plan.N_OUT])
            record[_plan.X_AT] = place(batch * n_in) if i > 0 and record[_plan.DROPS] else inputs
            record[_plan.A_AT] = inputs = place(batch * n_out)
            record[_plan.Z_AT] = place(batch * n_out) if record[_plan.ACTIVATION] in NEEDS_INPUT else inputs
        self.deltas_at = [place(batch * max(layout.units)) if gradient else 0 for _ in range(2)]
        self.work = max(work_size(batch, *sizes) for sizes in layout.sizes) if gradient else 0
        self.work_at = place(self.work)
        return end

    def _new_records(self, layout, drops):
        """The records of the layers, without buffers."""
        self.records = self.table[_plan.HEADER :].reshape(layout.layers.shape)
        self.records[:] = layout.layers
        if not drops:
            self.records[:, _plan.DROPS] = 0
        return self.records

    def set(self, **fields):
        """Write fields of the integer table; an array is kept, and copied to the device before the next run."""
        for name, value in fields.items():
            if isinstance(value, np.ndarray) or on_device(value):
                self.kept[name] = value
                self._new.add(name)
                value = 1  # there is one
            else:
                self.kept.pop(name, None)
                self._new.discard(name)
            self.table[getattr(_plan, name)] = value

    def device(self, name, size=None, dtype=None):
        """A kept array where it is one of the device, else its copy there, or room for `size` numbers."""
        if on_device(self.kept.get(name)):
            return self.kept[name]
        if size is None and name in self._new:
            self._new.discard(name)
            given, there = self.kept[name], self.there.get(name)
            if there is not None and (there.shape, there.dtype) == (given.shape, given.dtype):
                fill(there, given)
            else:
                self.there[name] = copied(np.ascontiguousarray(given), name)
        elif size is not None and (name not in self.there or self.there[name].size < size):
            self.there[name] = room_for(size, dtype or self.dtype, name)
        return self.there[name]

    def upload(self, name, array):
        """Put a host array where the device keeps what has this name."""
        fill(self.device(name, array.size, array.dtype)[: array.size], array)

    def push(self):
        """Bring parameters and optimizer state to the device, if it has not newer ones."""
        if not self.ahead:
            self.upload("theta", self.theta)
            self._new.update(STATES & self.kept.keys())

    def bring(self):
        """Bring parameters and optimizer state into the arrays of the host."""
        if self.ahead:
            for name, array in {"theta": self.theta, **{name: self.kept[name] for name in STATES}}.items():
                array[...] = to_host(self.there[name])
            self.ahead = False

    def remember(self):
        """Keep the parameters as they stand, on the device, for `restore`."""
        self.push()
        fill(self.device("remembered", self.layout.size), self.there["theta"])

    def restore(self):
        """Put back the parameters that `remember` kept."""
        self.theta[...] = to_host(self.there["remembered"])
        self.ahead = False

    def finite(self):
        """Whether all parameters on the device are."""
        found, size = self.device("found", warps_for(self.layout.size), np.int64), self.layout.size
        first_not_finite(self.there["theta"].reshape(1, size), found)
        return to_host(found).min() == size

    def address(self, name):
        """Where the device keeps an array."""
        kept = self.kept.get(name)
        array = kept if on_device(kept) else self.there[name]
        facts = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
        return int(facts["data"][0])

    @property
    def stride(self):
        """Elements from row to row of X on the device."""
        return self["X_STRIDE"] if on_device(self.kept.get("X")) else self["FEATURES"]

    def within(self, at):
        """Address of a place in the working space."""
        return self.address("room") + int(at) * self.dtype.itemsize


def _multiprocessors():
    # the simulator runs blocks one after another: they cannot meet
    return 1 if SIMULATED else cuda.get_current_device().MULTIPROCESSOR_COUNT

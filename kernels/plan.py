"""The tables that describe a net and a run to the compiled loop.

A net is data: one table of 64-bit integers (a header, a record for each layer, a record for each segment of the
parameter vector) and one of float64 (hyperparameters, alphas, running sums). Arrays stand in it as addresses and
strides. So one compilation for each dtype serves every architecture, loss and optimizer. A backend reads the same
tables on any device.

All parameters are one flat vector, layer after layer, W (n_out, n_in) then b (n_out,), each block starting at a
multiple of ALIGN elements. Gradients and optimizer state have the same layout.
"""

import numpy as np

from . import formulas

ALIGN = 16

# Integer table. What threads write stands on cache lines of its own.
STATUS, STOP, TICKET, DONE = 0, 1, 8, 16
(
    KIND,
    COMMAND,
    FLAGS,
    THREADS,
    LAYERS,
    FEATURES,
    OUTPUTS,
    PARAMETERS,
    LAYERS_AT,
    SEGMENTS,
    SEGMENTS_AT,
    ROWS,
    BATCH,
    BLOCK,
    LD,
    SLOTS,
    SLOTS_NOW,
    FIRST,
    COUNT,
    X,
    X_STRIDE,
    Y,
    Y_COLUMNS,
    LABELS,
    WEIGHTS,
    LOSS,
    LOGITS,
    OPTIMIZER,
    SHUFFLE,
    LOADED,
    KEY,
    LEFT_BITS,
    RIGHT_BITS,
    SEED,
    EPOCH,
    POSITION,
    STEP,
    STEPS,
    FINISHED,
    GRADIENTS,
    STATE_1,
    STATE_2,
    SCRATCH,
    SCRATCH_SIZE,
    SLOT_LOSSES,
    LOSSES,
    RATES,
    RATES_STRIDE,
    OUT,
    OUT_STRIDE,
    ROWS_AT,
    INPUT_AT,
    TARGETS_AT,
    WEIGHTS_AT,
    TURNED_AT,
    DELTA_AT,
    NEXT_DELTA_AT,
) = range(24, 81)
HEADER = 88

# Record of a layer
N_IN, N_OUT, W_AT, B_AT, ACTIVATION, Z_AT, A_AT, RECORD = range(8)
# Record of a segment: parameters START to START + LENGTH, all weights or all biases
START, LENGTH, IS_WEIGHT, SEGMENT = range(4)

# Float table: then the alpha of each layer
(LOSS_PARAM, MOMENTUM, BETA1, BETA2, EPS, WEIGHT_DECAY, DECOUPLED, L2) = range(8)
(RATE, ROOT_CORRECTION, SHRINK, BATCH_WEIGHT, EPOCH_LOSS, EPOCH_WEIGHT, LAST_LOSS, ALPHAS) = range(8, 16)

# Commands
TRAIN, PASS = 0, 1
# What a pass over the rows does beyond the forward pass
WRITE_OUTPUT, WITH_LOSS, WITH_GRADIENT, WRITE_INPUT_GRADIENT = 1, 2, 4, 8
# Phases, and statuses at the end of a run
GRADIENT_PHASE, UPDATE_PHASE = 0, 1
FINE, DIVERGED = 0, 1
# A ticket below zero sends helping threads home
NOBODY = -1

_SEGMENT_LENGTH = 1 << 14  # parameters that one thread updates at a time
_MAX_SLOTS = 16  # partial gradients, so threads that can share a step
_SLOT_FLOPS = 1 << 20  # work below which a slot of its own costs more than it brings (a phase costs about 1 us)
_BLOCK_BYTES = 1 << 20  # activations of a block of samples stay in the second-level cache
_MAX_BLOCK = 512


def round_up(n, multiple):
    """The smallest multiple of `multiple` that is at least n."""
    return -(-n // multiple) * multiple


class Layout:
    """Where the parameters of a net stand in its flat vector.

    Parameters
    ----------
    n_features : int
        Inputs of the first layer.
    units : sequence of int
        Outputs of each layer.
    activations : sequence of int
        Activation codes.
    alphas : sequence of float
        Parameter of each activation.
    """

    def __init__(self, n_features, units, activations, alphas):
        self.arguments = (n_features, tuple(units), tuple(activations), tuple(alphas))
        self.n_features = n_features
        self.units = tuple(units)
        self.sizes = list(zip((n_features, *units[:-1]), units, strict=True))
        self.offsets = []
        end = 0
        for n_in, n_out in self.sizes:
            w = end
            b = w + round_up(n_in * n_out, ALIGN)
            end = b + round_up(n_out, ALIGN)
            self.offsets.append((w, b))
        self.size = end
        # the records of the layers, without buffers, and the alphas: what prediction of single rows reads
        self.records = np.zeros((len(self.units), RECORD), np.int64)
        for record, (n_in, n_out), (w, b), code in zip(
            self.records, self.sizes, self.offsets, activations, strict=True
        ):
            record[: ACTIVATION + 1] = n_in, n_out, w, b, code
        self.alphas = np.array(alphas, np.float64)
        for array in (self.records, self.alphas):
            array.flags.writeable = False

    def __reduce__(self):
        return Layout, self.arguments  # copies of its arrays would not be read-only

    def segments(self):
        """(start, length, is_weight) of pieces that cover all parameters but the gaps."""
        for (n_in, n_out), (w, b) in zip(self.sizes, self.offsets, strict=True):
            for start, length, is_weight in ((w, n_in * n_out, 1), (b, n_out, 0)):
                for at in range(0, length, _SEGMENT_LENGTH):
                    yield start + at, min(_SEGMENT_LENGTH, length - at), is_weight

    def flops_per_sample(self):
        """Floating-point operations of a training step for each sample, roughly."""
        return sum(6 * n_in * n_out + 60 * n_out for n_in, n_out in self.sizes)

    def slots(self, rows):
        """Parts into which a batch of `rows` is cut, by shape alone, so that bits do not depend on threads."""
        least = 32 if self.size < 1 << 15 else 64 if self.size < 1 << 20 else 128
        return int(max(1, min(_MAX_SLOTS, rows // least, rows * self.flops_per_sample() // _SLOT_FLOPS)))

    def block(self, rows, itemsize, step):
        """Samples that go through the net together: a multiple of `step`."""
        bytes_per_sample = itemsize * (2 * sum(self.units) + 2 * self.n_features + 3 * max(self.units))
        fitting = _BLOCK_BYTES // bytes_per_sample // step * step
        return int(max(step, min(_MAX_BLOCK, fitting, round_up(rows, step))))


class Plan:
    """The two tables of a run, and the memory that it works in.

    Parameters
    ----------
    layout : Layout
        The net.
    theta : array (layout.size,), float32 or float64
        The parameters; a training run updates them in place.
    batch : int
        Most rows in one step.
    width : int
        Elements in one SIMD register of this dtype.
    step : int
        Columns of a register tile; blocks of samples are multiples of it.
    threads : int
        Threads that may take part.
    gradient : bool
        Whether gradients are wanted.
    """

    def __init__(self, layout, theta, batch, width, step, threads, gradient):
        self.layout, self.theta, self.dtype = layout, theta, theta.dtype
        slots = layout.slots(batch)
        block = layout.block(-(-batch // slots), theta.itemsize, step)
        ld = block + width  # an odd number of registers: rows of a block do not meet in one cache set
        segments = list(layout.segments())
        self.threads = max(1, min(threads, slots))
        layers_at, segments_at = HEADER, HEADER + RECORD * len(layout.units)
        self.table = _aligned(segments_at + SEGMENT * len(segments), np.int64)
        self.reals = np.zeros(ALPHAS + len(layout.units))
        self.reals[ALPHAS:] = layout.alphas
        self.slot_losses = np.zeros(slots)
        self.kept = {}  # the arrays whose addresses stand in the tables
        self.set(
            THREADS=self.threads,
            LAYERS=len(layout.units),
            FEATURES=layout.n_features,
            OUTPUTS=layout.units[-1],
            PARAMETERS=layout.size,
            LAYERS_AT=layers_at,
            SEGMENTS=len(segments),
            SEGMENTS_AT=segments_at,
            BATCH=batch,
            BLOCK=block,
            LD=ld,
            SLOTS=slots,
            SLOT_LOSSES=self.slot_losses,
        )
        self.table[segments_at:] = np.array(segments).ravel()
        size = self._place_buffers(layers_at, block, ld)
        self.set(SCRATCH=self.allocate(self.threads * size), SCRATCH_SIZE=size)
        if gradient:
            self.gradients = self.allocate(slots * layout.size).reshape(slots, layout.size)
            self.set(GRADIENTS=self.gradients)

    def _place_buffers(self, layers_at, block, ld):
        """Offsets of every buffer in a thread's scratch; gives its size."""
        layout, end = self.layout, 0

        def place(elements):
            nonlocal end
            start, end = end, end + round_up(elements, 64)
            return start

        widest = max(layout.n_features, *layout.units)
        hidden = max((0, *layout.units[:-1]))
        buffers = {
            "ROWS_AT": block * layout.n_features,
            "INPUT_AT": layout.n_features * ld,
            "TARGETS_AT": layout.units[-1] * ld,
            "WEIGHTS_AT": ld,
            "TURNED_AT": round_up(hidden, ALIGN) * block,
            "DELTA_AT": widest * ld,
            "NEXT_DELTA_AT": widest * ld,
        }
        self.set(**{name: place(elements) for name, elements in buffers.items()})
        records = self.table[layers_at : layers_at + layout.records.size].reshape(layout.records.shape)
        records[:] = layout.records
        for record in records:
            record[A_AT] = place(int(record[N_OUT]) * ld)
            own = record[ACTIVATION] in formulas.NEEDS_INPUT
            record[Z_AT] = place(int(record[N_OUT]) * ld) if own else record[A_AT]
        return end

    def allocate(self, elements):
        """Zeroed memory in the run's dtype, starting on a cache line."""
        try:
            return _aligned(elements, self.dtype)
        except MemoryError:
            size = elements * self.dtype.itemsize
            raise MemoryError(f"no memory for {size:,} bytes of working space of the run") from None

    def set(self, **fields):
        """Write fields of the integer table; an array stands as its address and is kept alive."""
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                self.kept[name] = value
                value = value.ctypes.data
            self.table[globals()[name]] = value

    def data(self, X, y=None, weights=None, labels=False):
        """Name the rows: X (m, n) with consecutive columns, y (m,) or (m, k), weights (m,), all in the run's dtype."""
        self.set(ROWS=X.shape[0], X=X, X_STRIDE=X.strides[0] // X.itemsize)
        if y is not None:
            self.set(Y=y, Y_COLUMNS=y.size // y.shape[0], LABELS=labels)
        if weights is not None:
            self.set(WEIGHTS=weights)

    def __getitem__(self, name):
        return int(self.table[globals()[name]])


def _aligned(elements, dtype):
    """Zeros that start on a cache line."""
    size = int(elements) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)

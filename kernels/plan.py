"""The tables that describe a net and a run to the compiled loop.

A net is data: one table of 64-bit integers (a header, a record for each layer, a record for each piece of the
parameters) and one of float64 (hyperparameters, alphas, running sums). Arrays stand in it as addresses and
strides. So one compilation for each dtype serves every architecture, loss and optimizer. A backend reads the same
tables on any device.

All parameters are one flat vector, layer after layer, W (n_out, n_in) then b (n_out,), each block starting at a
multiple of ALIGN elements. Gradients and optimizer state have the same layout.
"""

import functools

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
    PIECES,
    PIECES_AT,
    ROWS,
    BATCH,
    BLOCK,
    LD,
    SLOTS,
    SLOTS_NOW,
    PIECEWISE,
    FIRST,
    COUNT,
    X,
    X_STRIDE,
    Y,
    Y_COLUMNS,
    LABELS,
    WEIGHTS,
    BY_ROWS,
    LOSS,
    LOSS_FUNCTION,
    LOGITS,
    OPTIMIZER,
    SHUFFLE,
    GATHERS,
    SHIFTS,
    SCALES,
    LOADED,
    KEY,
    DROPOUT_KEY,
    SEEN,
    LEFT_BITS,
    RIGHT_BITS,
    SEED,
    EPOCH,
    POSITION,
    STEP,
    STEPS,
    FINISHED,
    CLIPS,
    SQUARES,
    GRADIENTS,
    STATE_1,
    STATE_2,
    SCRATCH,
    SCRATCH_SIZE,
    PIECE_ROOM,
    PIECE_ROOM_SIZE,
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
    INPUT_DELTA_AT,
) = range(24, 91)
HEADER = 96

# Record of a layer: sizes, parameters in the flat vector, and buffers in the scratch: inputs, pre-activations, outputs
# and deltas as (features, LD); the inputs once more as (samples, features), below zero where they are the samples.
# DROPS: the chance, of 1 << CHANCE_BITS, that an input is dropped. FUNCTION, SLOPE: addresses of a custom activation
(
    N_IN,
    N_OUT,
    W_AT,
    B_AT,
    ACTIVATION,
    FUNCTION,
    SLOPE,
    DROPS,
    X_AT,
    Z_AT,
    A_AT,
    DELTA_AT,
    TURNED_AT,
    RECORD,
) = range(14)
# Record of a piece of the parameters: ROWS_OF x COLUMNS_OF of a layer's W, from ROW and COLUMN on; with COLUMN 0 the
# biases of these rows, too
LAYER, ROW, ROWS_OF, COLUMN, COLUMNS_OF, PIECE = range(6)

# Float table: then the alpha of each layer
(LOSS_PARAM, MOMENTUM, BETA1, BETA2, EPS, WEIGHT_DECAY, DECOUPLED, L2) = range(8)
(CLIP_VALUE, CLIP_NORM, GRADIENT_SCALE) = range(8, 11)
(RATE, ROOT_CORRECTION, SHRINK, BATCH_WEIGHT, EPOCH_LOSS, EPOCH_WEIGHT, LAST_LOSS, ALPHAS) = range(11, 19)

# Commands
TRAIN, PASS = 0, 1
# What a pass over the rows does beyond the forward pass
WRITE_OUTPUT, WITH_LOSS, WITH_GRADIENT, WRITE_INPUT_GRADIENT = 1, 2, 4, 8
# How gradients are clipped: by value at once, by the norm of all only after all are there
BY_VALUE, BY_NORM = 1, 2
# Phases: the slots; the gradient of each piece, its update, or both in one visit. And statuses at the end of a run
SLOT_PHASE, COLLECT_PHASE, UPDATE_PHASE, COLLECT_AND_UPDATE_PHASE = 0, 1, 2, 3
FINE, DIVERGED = 0, 1
# A ticket below zero sends helping threads home
NOBODY = -1

_PIECE_ROWS, _PIECE_COLUMNS = 16, 1024  # of a piece of W: its gradient fits in the inner caches
_PIECEWISE_SIZE, _PIECEWISE_BYTES = 1 << 15, 1 << 24  # parameters from which, bytes to keep up to which it pays
_MAX_SLOTS = 16  # partial gradients, so threads that can share a step
_SLOT_FLOPS = 1 << 20  # work below which a slot of its own costs more than it brings (a phase costs about 1 us)
_BLOCK_BYTES = 1 << 19  # a block of samples and its activations stay in the second-level cache
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
    rates : sequence of float
        Share of each layer's inputs that is dropped in training.
    functions : sequence of tuple
        The user's (f, df) of each custom activation; None for the others.
    addresses : callable
        Gives addresses of loops over such a pair, for a CPU: called when they are first needed there.

    Attributes
    ----------
    layers : array (layers, RECORD), int64
        The records of the layers, without buffers and addresses.
    """

    def __init__(self, n_features, units, activations, alphas, rates, functions, addresses=None):
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
        self.functions, self._addresses = tuple(functions), addresses
        self.layers = np.zeros((len(self.units), RECORD), np.int64)
        for record, size, offset, code, rate in zip(
            self.layers, self.sizes, self.offsets, activations, rates, strict=True
        ):
            record[: DROPS + 1] = *size, *offset, code, 0, 0, round(rate * (1 << formulas.CHANCE_BITS))
        self.alphas = np.array(alphas, np.float64)
        for array in (self.layers, self.alphas):
            array.flags.writeable = False

    @functools.cached_property
    def records(self):
        """`layers` with the addresses of custom activations: what runs on a CPU read."""
        records = self.layers.copy()
        for record, pair in zip(records, self.functions, strict=True):
            if pair:
                record[[FUNCTION, SLOPE]] = self._addresses(*pair)
        records.flags.writeable = False
        return records

    def pieces(self):
        """Records of pieces that cover all parameters but the gaps."""
        for i, (n_in, n_out) in enumerate(self.sizes):
            columns = min(n_in, _PIECE_COLUMNS)
            rows = _PIECE_ROWS * (_PIECE_COLUMNS // columns)
            for row in range(0, n_out, rows):
                for column in range(0, n_in, columns):
                    yield i, row, min(rows, n_out - row), column, min(columns, n_in - column)

    def piecewise(self, rows, itemsize, by_rows):
        """Whether the gradient of a batch of `rows` is made piece by piece, each updated at once, or slot by slot.

        Piece by piece the gradient never leaves the inner caches, and the slots need no partial gradients; but the
        inputs and deltas of the whole batch must be kept.
        """
        kept = rows * itemsize * ((1 if by_rows else 2) * self.n_features + 3 * sum(self.units))
        return self.size >= _PIECEWISE_SIZE and rows <= self.slots(rows) * _MAX_BLOCK and kept <= _PIECEWISE_BYTES

    def flops_per_sample(self):
        """Floating-point operations of a training step for each sample, roughly."""
        return sum(6 * n_in * n_out + 60 * n_out for n_in, n_out in self.sizes)

    def by_rows(self, width):
        """Whether the first layer takes samples as they lie, with registers of `width` features.

        It costs a sum across the lanes for each output, about 10 transposed elements.
        """
        n_in, n_out = self.sizes[0]
        return n_in >= width and n_in >= 10 * n_out

    def slots(self, rows):
        """Parts into which a batch of `rows` is cut, by shape alone, so that bits do not depend on threads."""
        least = 32 if self.size < 1 << 15 else 64 if self.size < 1 << 20 else 128
        return int(max(1, min(_MAX_SLOTS, rows // least, rows * self.flops_per_sample() // _SLOT_FLOPS)))

    def block(self, rows, itemsize, step, by_rows):
        """Samples that go through the net together: a multiple of `step`, or of 8 where they are taken by rows."""
        if by_rows:
            step, inputs = 8, self.n_features
        else:
            inputs = 2 * self.n_features + 3 * max(self.n_features, *self.units)
        bytes_per_sample = itemsize * (inputs + 5 * sum(self.units))
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
    drops : bool
        Whether the inputs of layers are dropped as the layout says.
    """

    def __init__(self, layout, theta, batch, width, step, threads, gradient, drops=False):
        self.layout, self.theta, self.dtype = layout, theta, theta.dtype
        slots, by_rows = layout.slots(batch), layout.by_rows(width)
        piecewise = gradient and layout.piecewise(batch, theta.itemsize, by_rows)
        in_slot = -(-batch // slots)
        block = round_up(in_slot, step) if piecewise else layout.block(in_slot, theta.itemsize, step, by_rows)
        ld = round_up(block, step) + width  # an odd number of registers: rows of a block do not meet in one cache set
        pieces = np.array(list(layout.pieces()), np.int64)
        self.threads = max(1, min(threads, slots))
        layers_at, pieces_at = HEADER, HEADER + layout.records.size
        self.table = _aligned(pieces_at + pieces.size, np.int64)
        self.table[pieces_at:] = pieces.ravel()
        self.reals = np.zeros(ALPHAS + len(layout.units))
        self.reals[ALPHAS:] = layout.alphas
        self.reals[CLIP_VALUE] = self.reals[CLIP_NORM] = np.inf
        self.reals[GRADIENT_SCALE] = 1.0
        self.slot_losses, self.squares = np.zeros(slots), np.zeros(len(pieces))
        self.kept, self.remembered = {}, None  # the arrays whose addresses stand in the tables; earlier parameters
        self.set(
            THREADS=self.threads,
            LAYERS=len(layout.units),
            FEATURES=layout.n_features,
            OUTPUTS=layout.units[-1],
            PARAMETERS=layout.size,
            LAYERS_AT=layers_at,
            PIECES=len(pieces),
            PIECES_AT=pieces_at,
            BATCH=batch,
            BLOCK=block,
            LD=ld,
            SLOTS=slots,
            PIECEWISE=piecewise,
            BY_ROWS=by_rows,
            SLOT_LOSSES=self.slot_losses,
            SQUARES=self.squares,
        )
        size = self._place_buffers(layers_at, block, ld, piecewise, drops)
        self.set(SCRATCH=self.allocate((slots if piecewise else self.threads) * size), SCRATCH_SIZE=size)
        if gradient:
            self.gradients = self.allocate((1 if piecewise else slots) * layout.size).reshape(-1, layout.size)
            self.set(GRADIENTS=self.gradients)
            if piecewise:
                room = round_up(_PIECE_ROWS * _PIECE_COLUMNS + max(layout.units), 64)
                self.set(PIECE_ROOM=self.allocate(self.threads * room), PIECE_ROOM_SIZE=room)

    def _place_buffers(self, layers_at, block, ld, piecewise, drops):
        """Offsets of every buffer in a scratch; gives its size."""
        layout, end = self.layout, 0

        def place(elements):
            nonlocal end
            start, end = end, end + round_up(elements, 64)
            return start

        widest = max(layout.n_features, *layout.units)
        hidden = max((0, *layout.units[:-1]))
        shuffled = {"ROWS_AT": block * layout.n_features, "TARGETS_AT": layout.units[-1] * ld, "WEIGHTS_AT": ld}
        self.set(**{name: place(elements) for name, elements in shuffled.items()})
        records = self.table[layers_at : layers_at + layout.records.size].reshape(layout.records.shape)
        records[:] = layout.records
        # deltas of every layer, and its inputs turned, where they are kept; else what the layers use by turns
        deltas = [] if piecewise else [place(widest * ld) for _ in range(2)]
        turned = 0 if piecewise else place(hidden * block)
        inputs = place(0 if self["BY_ROWS"] else layout.n_features * ld)
        for i, record in enumerate(records):
            n_in, n_out = int(record[N_IN]), int(record[N_OUT])
            if not drops:
                record[DROPS] = 0
            record[X_AT] = place(n_in * ld) if i > 0 and record[DROPS] else inputs
            record[A_AT] = inputs = place(n_out * ld)
            record[Z_AT] = place(n_out * ld) if record[ACTIVATION] in formulas.NEEDS_INPUT else inputs
            record[DELTA_AT] = place(n_out * ld) if piecewise else deltas[i % 2]
            record[TURNED_AT] = -1 if i == 0 else place(n_in * block) if piecewise else turned
        self.set(INPUT_DELTA_AT=place(layout.n_features * ld) if piecewise else deltas[1])
        return end

    def remember(self):
        """Keep the parameters as they stand, for `restore`."""
        if self.remembered is None:
            self.remembered = np.empty_like(self.theta)
        np.copyto(self.remembered, self.theta)

    def restore(self):
        """Put back the parameters that `remember` kept."""
        np.copyto(self.theta, self.remembered)

    def bring(self):
        """Bring parameters and optimizer state into the arrays of the host, where runs on the CPU keep them."""

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
        self.set(WEIGHTS=0 if weights is None else weights)

    def visit(self, shuffle=False, shifts=None, scales=None):
        """How the rows are visited: in a new order each epoch, as (X - shifts) * scales with one of each a feature."""
        self.set(SHUFFLE=shuffle)
        if shifts is not None:
            self.set(SHIFTS=shifts, SCALES=scales)
        drops = self.table[self["LAYERS_AT"] + DROPS]
        self.set(GATHERS=shuffle or shifts is not None or drops != 0)

    def clip(self, value=None, norm=None):
        """Limit the gradient of a training step: each element to [-value, value], then the norm of all to `norm`."""
        for place, limit in ((CLIP_VALUE, value), (CLIP_NORM, norm)):
            self.reals[place] = np.inf if limit is None else limit
        self.set(CLIPS=(value is not None) * BY_VALUE | (norm is not None) * BY_NORM)

    def __getitem__(self, name):
        return int(self.table[globals()[name]])


def _aligned(elements, dtype):
    """Zeros that start on a cache line."""
    size = int(elements) * np.dtype(dtype).itemsize
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype)

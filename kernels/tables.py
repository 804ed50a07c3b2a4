"""The fields of the tables that describe a net and a run to a compiled loop.

A net is data. Its program (`kernels.program`) is a table of 64-bit integers that is only read: a header, a record for
each operation, a record for each parameter range. A run binds it: the run's table says where data, buffers and working
memory stand, and its reals are hyperparameters and sums. What training changes beside the parameters stands in the
tables of the state (`kernels.state`). Arrays stand in tables as addresses and strides, so one compilation for each
dtype serves every net.
"""

from types import ModuleType


class Fields(ModuleType):
    """Places in a table, by name: `Run.ROWS`. A name that is not there is an error, in Python and in compiled code.

    A module, since Numba takes the attributes of modules for constants.

    Parameters
    ----------
    name : str
        Of the namespace.
    names : str
        Of the fields, in their order; `12:ROWS` puts one at a place of its own.
    start : int
        Place of the first.

    Attributes
    ----------
    SIZE : int
        Places up to the end of the last field.
    """

    def __init__(self, name, names, start=0):
        super().__init__(name)
        place = start
        for field in names.split():
            at, _, field = field.rpartition(":")
            if field == "SIZE":
                raise ValueError(f"a field of the table {name} cannot be called SIZE, which is that of the table")
            place = int(at) if at else place
            setattr(self, field, place)
            place += 1
        self.SIZE = place

    def __getattr__(self, name):
        raise AttributeError(f"the table {self.__name__} has no field {name}")


# The program: its header, then a record for each operation and one for each parameter range. With MEMBERS above 0 the
# header is that of an ensemble: whole tables of so many nets follow, operations and parameters are those of all. DENSE
# parameters come before the ranges of which a step touches only some rows; WIDEST: most numbers that an operation makes
# of a sample.
Header = Fields(
    "Header",
    """
    OPERATIONS RANGES FEATURES OUTPUTS PARAMETERS DENSE OPERATIONS_AT RANGES_AT LOSS FEW_ROWS LENGTH MEMBERS WIDEST
    """,
)
FEW_ROWS_MARK = 0x66617374_6E6E0000  # plus the bytes of an element: marks what is linked for `apply_rows`
# An operation: which kind, its number in the program, the buffers that it reads and fills, their features, its
# parameter ranges; on a CPU the addresses of its compiled functions. From OWN on the fields are those of its kind.
Op = Fields("Op", "KIND NUMBER BLOCK FEW_ROWS INPUT OUTPUT N_IN N_OUT RANGE RANGES FLAGS 11:OWN 17:END")
Op.SIZE = Op.END
# A range of the flat parameters: a matrix of ROWS x COLUMNS elements from OFFSET on; whether l2 acts on it; whether a
# step updates only the rows that its batch touches.
Range = Fields("Range", "OFFSET ROWS COLUMNS DECAYS BY_TOUCHED_ROWS")
# A feature of an Embedding, made of the column SOURCE of the rows: which kind, its place among the outputs, how many
# numbers it is, for codes their number and where their table stands in the parameters, where the edges of its bins
# stand behind the records: lower edges, then inverse widths.
Column = Fields("Column", "KIND SOURCE AT SIZE_OF LEVELS TABLE EDGES")
PLAIN, MISSING, BINS, VECTOR, ONE_HOT = range(5)

# Flags of an operation: its input is the samples as rows; its activation belongs to the loss, which takes logits; these
# rows are the features that an Embedding made; the weights of one-hot codes are added to its products; those round
# their operands.
FROM_ROWS, LOGITS, EXPANDED, ADDED, ROUNDED = 1, 2, 4, 8, 16

# A run. What threads write stands on cache lines of its own.
Run = Fields(
    "Run",
    """
    STATUS STOP FAILURE 8:TASKS 16:DONE
    24:PHASE COMMAND THREADS PROGRAM STATE SUMS
    ROWS BATCH X X_STRIDE Y Y_COLUMNS LABELS WEIGHTS ROW_INDEX SHUFFLE OPEN_EPOCH GATHERS KEEPS_ROWS LOADED SEEN
    FIRST COUNT KEY DROPOUT_KEY LEFT_BITS RIGHT_BITS
    ENTRY STEPS FINISHED RATES RATES_STRIDE LOSSES OUT OUT_STRIDE
    UPDATE PREPARE FIRST_MOMENT SECOND_MOMENT CLIPS GRADIENTS PARTIALS
    CODES CODES_AT DELTAS DELTA_STRIDE VECTORS ADDED_AT SLOTS SLOT_BITS TOUCHED MARKS GROUPS_AT
    BLOCK LD SHARDS SHARDS_NOW BY_PARTS BY_ROWS PARTS PARTS_AT
    SCRATCH SCRATCH_SIZE PART_BUFFER PART_BUFFER_SIZE SHARD_LOSSES SQUARES ROWS_AT TARGETS_AT WEIGHTS_AT BUFFERS_AT
    WAITING_AT TILES OPERAND_AT OPERAND_STEPS PACKED_AT PARAMETERS REALS
    """,
)
# Where a buffer of the program stands in the scratch: what it holds, what went into the activation that made it, the
# gradient with respect to it, and once more as (samples, features), -1 where that is not kept. Of an operation that
# reads it and rounds: where its operands stand, the weights in TILES, those of the gradient in the scratch, or in TILES
# where gradients are made by parts.
Buffer = Fields("Buffer", "VALUE PRE DELTA TRANSPOSED WEIGHTS INPUTS DELTAS")

# Training state: counters, and the sums of the epoch that has begun.
State = Fields("State", "SEED STEP EPOCH POSITION")
Sums = Fields("Sums", "LOSS WEIGHT")

# Reals of a run: then the alpha of each operation. RATE to SETTINGS are what an update rule gets: three numbers that
# `Rule.prepare` computes for each step, and up to four settings.
Real = Fields(
    "Real",
    """
    LOSS_PARAM L2 WEIGHT_DECAY CLIP_VALUE CLIP_NORM GRADIENT_SCALE BATCH_WEIGHT LAST_LOSS
    8:RATE 11:SETTINGS 15:ALPHAS
    """,
)
NUMBERS = Real.ALPHAS - Real.RATE

# A command is the set of what a run does with the rows: their loss, the gradient, an update, outputs, the gradient with
# respect to the inputs, which is that of each output where there is no loss.
LOSS, BACKWARD, UPDATE, OUTPUT, INPUT_BACKWARD = 1, 2, 4, 8, 16
EVALUATE, GRADIENT, TRAIN, PREDICT, APPLY = LOSS, LOSS | BACKWARD, LOSS | BACKWARD | UPDATE, OUTPUT, UPDATE
INPUT_GRADIENT, JACOBIAN = GRADIENT | INPUT_BACKWARD, INPUT_BACKWARD

# Statuses at the end of a run
FINE, DIVERGED = 0, 1
# How gradients are clipped: by value at once, by the norm of all only after all are there
BY_VALUE, BY_NORM = 1, 2

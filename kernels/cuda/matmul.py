"""Products of any shape and strides: which kernel takes them, and sums cut into parts.

`multiply` queues what the layers need, on addresses; `matmul` is the public kernel on arrays.
"""

import functools
import warnings
from typing import NamedTuple

import numpy as np

from ..annotations import DeviceArray, Stream
from ..formulas import LINEAR
from . import PRECISIONS, hopper
from .async_tile import TILES, async_product_of, shared_of
from .launch import (
    MOST_BLOCKS,
    checked,
    copies_past_registers,
    has_wgmma,
    operand,
    place,
    plane,
    processors,
    run,
    to_device,
    to_host,
)
from .primitives import global_at
from .skinny import FEW, FEW_COLUMNS, OF_A_COLUMN, across_of, columns_of, rows_of
from .skinny import THREADS as SKINNY_THREADS
from .tensor import tensor_product_of
from .tile import product_of
from .tiling import ACROSS, ACTIVATE, ALONG, NOTHING, QUARTER, SINGLY, SLOPE, THREADS
from .toolchain import SIMULATED, current_device, for_each_real, kernel

PROOF = 1000, 1100, 900  # sizes of the product that wgmma has to get right: edges, more panels than stages, parts
LARGEST = max(TILES)
MOST_PARTS = 64  # of a sum (an estimate)
# In multiply-adds of a multiprocessor, as they are counted here: an element of a part, written once and read once more
# from the memory of the card (3.35 TB/s beside 66.9 TFLOP/s); and a launch that adds them, 1.2 us
OF_A_PART, OF_A_LAUNCH = 0.6, 300_000


class Side(NamedTuple):
    """A matrix as a product takes it: address of its first element, steps between rows and columns in elements."""

    address: int
    rows: int
    columns: int

    def aligned(self, columns):
        """Whether its lines, of `columns` elements, can be read and written four elements at a time."""
        return self.columns == 1 and self.rows % 4 == 0 and columns % 4 == 0 and self.address % 16 == 0

    def transposed(self):
        """Its transpose."""
        return Side(self.address, self.columns, self.rows)


NO_OPERAND = Side(0, 0, 0)
PLAIN = NOTHING, LINEAR, 0.0  # no epilogue


@for_each_real
def combine_of(real):
    """C = the sum of the parts of a product, in order; and likewise the sums of the rows of A, which stand behind."""
    zero = real(0.0)

    @kernel(256)
    def combine(m, n, parts, between, partial, c, rs_c, cs_c, summed, by):
        i, j = place()
        columns = n if summed == 0 else n + 1
        if i < m and j < columns:
            p, value = global_at(partial, real) + (i * n + j if j < n else m * n + i), zero
            for _ in range(parts):
                value += p[0]
                p = p + between
            if j < n:
                global_at(c, real)[i * rs_c + j * cs_c] = value
            else:
                global_at(summed, real)[i * by] = value

    return combine


def terms_of(k, parts):
    """Terms of each part of a sum of k, but the last, which may have fewer."""
    return -(-k // (16 * parts)) * 16


def cost_of(sizes, parts, tile, available):
    """Multiply-adds of the busiest multiprocessor, those that stand for other instructions included."""
    m, n, k = sizes
    blocks = -(-m // tile) * -(-n // tile) * parts
    return -(-blocks // available) * terms_of(k, parts) * tile * tile * TILES[tile]


def tile_of(sizes, parts, available, tiles=TILES):
    """The side of the tiles that takes least time."""
    return min(tiles, key=lambda tile: cost_of(sizes, parts, tile, available))


def has_few_columns(sizes, available):
    """Whether a warp for each row takes less time than tiles, many of whose columns would be empty."""
    m, n, k = sizes
    tile = tile_of(sizes, 1, available)
    return n <= FEW_COLUMNS and OF_A_COLUMN * m * n * k <= available * cost_of(sizes, 1, tile, available)


@functools.lru_cache
def parts_of(products, available, added_anyway=False):
    """Into how many parts the sums of some products are cut, all alike, so that they take least time.

    By their shapes and the number of multiprocessors alone: so the same bits come out whenever a card computes them.
    `added_anyway`: no launch more adds the parts.
    """

    def cost(parts):
        products_alone = sum(cost_of(sizes, parts, tile_of(sizes, parts, available), available) for sizes in products)
        added = OF_A_PART * sum(m * n for m, n, _ in products) * parts
        return products_alone + added + (OF_A_LAUNCH if parts > 1 and not added_anyway else 0)

    most, longest = 1, max((k for _, _, k in products), default=0)
    while 2 * most <= MOST_PARTS and 32 * most <= longest:
        most *= 2
    return min((1 << i for i in range(most.bit_length())), key=cost)


def _between(m, n):
    """Elements from part to part of a product in working space: it and the sums of its rows, aligned."""
    return -(-(m * n + m) // 4) * 4


def may_be_wgmma(precision):
    """Whether products of that precision may be wgmma's on the GPU at hand."""
    return precision != "float32" and has_wgmma()


def work_size(m: int, n: int, k: int, precision: str = "float32") -> int:
    """Elements of working space with which every product of these three sizes runs at full speed.

    Parameters
    ----------
    m, n, k : int
        Sizes of the product, or of a layer, in any order.
    precision : str, optional
        Of the products, as `matmul` has it: on a Hopper "tf32" and "bf16" take room for rounded operands.

    Returns
    -------
    int
        Number of elements, in the dtype of the operands; 0 where no sum is long enough to be cut.
    """
    needs, rounds = [0], may_be_wgmma(precision)
    for rows, columns, terms in ((m, n, k), (m, k, n), (n, k, m)):
        parts = parts_of(((rows, columns, terms),), processors())
        needs.append(parts * _between(max(rows, columns), min(rows, columns)) if parts > 1 else 0)
        for cut in [hopper.cut_of(*each, precision) for each in ((rows, columns, terms), (columns, rows, terms))]:
            needs.append(cut.size if rounds and cut else 0)
    return max(needs)


def multiply(
    real,
    stream,
    sizes,
    a,
    b,
    c,
    epilogue=PLAIN,
    extra_1=NO_OPERAND,
    extra_2=NO_OPERAND,
    sums=(0, 0),
    work=(0, 0),
    precision="float32",
    split=None,
):
    """Queue C = A B and its epilogue, by the kernel that suits its shape.

    Parameters
    ----------
    real : type
        numpy.float32 or float64.
    stream : stream
        Where it is queued.
    sizes : tuple of int
        (m, n, k): C is (m, n), the sum has k terms.
    a, b, c : Side
        The matrices; C must not overlap A or B.
    epilogue : tuple
        NOTHING, ACTIVATE or SLOPE; the key of an activation; its parameter.
    extra_1, extra_2 : Side
        Bias and pre-activation, or pre-activation and output, as `product_of` says.
    sums : tuple of int
        Address and step of what receives the sums of the rows of A; address 0 where nothing does.
    work : tuple of int
        Address and elements of working space: where it is large enough, a long sum is cut into parts.
    precision : str
        "float32", "tf32" or "bf16", as `matmul` says.
    split : tuple of int, optional
        Into how many parts the sum is cut, and elements from part to part of C and of `sums`, where they are left:
        who takes them adds them.

    Raises
    ------
    ValueError
        If precision is none of these, or not "float32" for float64.
    """
    m, n, k = sizes
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be 'float32', 'tf32' or 'bf16'; got {precision!r}")
    if precision != "float32" and real is not np.float32:
        raise ValueError(f"precision must be 'float32' for {real.__name__} arrays; got {precision!r}")
    if m == 0 or n == 0:
        return
    plain = epilogue[0] == NOTHING and not sums[0] and not split
    if plain and n > max(m, QUARTER * MOST_BLOCKS):  # long sides go along x
        multiply(
            real, stream, (n, m, k), b.transposed(), a.transposed(), c.transposed(), work=work, precision=precision
        )
        return
    if precision != "float32" and not split:
        cut = hopper.cut_of(m, n, k, precision, epilogue[0] != NOTHING)
        if cut and cut.size <= work[1] and trusts_wgmma(precision):
            _wgmma(stream, sizes, a, b, c, epilogue, extra_1, extra_2, sums, work[0], cut, precision)
            return
    precision = precision if min(m, n) > FEW else "float32"
    parts, between, to, to_sums = 1, 0, c, sums
    if split:
        parts, between = split
    elif epilogue[0] == NOTHING and work[1]:
        parts, between = parts_of((sizes,), processors()), _between(m, n)
        parts = parts if work[1] >= parts * between else 1
    combines = parts > 1 and not split
    if combines:
        to = Side(work[0], n, 1)
        to_sums = (work[0] + m * n * real().itemsize, 1) if sums[0] else (0, 0)
    part = terms_of(k, parts)
    by_rows = precision == "float32" and parts == 1 and not sums[0] and epilogue[0] != SLOPE
    if by_rows and has_few_columns(sizes, processors()):
        aligned = a.aligned(k) and b.transposed().aligned(k)
        chosen = rows_of(real, n, aligned, epilogue[0] == ACTIVATE, epilogue[1])
        shape = max(1, -(-m // (SKINNY_THREADS // 32))), SKINNY_THREADS
        run(chosen, shape, stream, m, k, *a, *b, *c, real(epilogue[2]), *extra_1, *extra_2)
    elif m <= FEW and epilogue[0] == NOTHING:
        aligned = b.aligned(n) and to.aligned(n)
        shape = (-(-n // across_of(aligned)), parts), SKINNY_THREADS
        run(columns_of(real, m, aligned), shape, stream, n, k, *a, *b, *to, part, between, *to_sums)
    else:
        _tiles(real, stream, sizes, a, b, to, epilogue, extra_1, extra_2, to_sums, parts, part, between, precision)
    if combines:
        run(combine_of(real), plane(m, n + 1), stream, m, n, parts, between, work[0], *c, *sums)


def _tiles(real, stream, sizes, a, b, c, epilogue, extra_1, extra_2, sums, parts, part, between, precision):
    """Queue a product in square tiles, of the side that suits its shape."""
    m, n, k = sizes
    copies = real is np.float32 and precision == "float32" and copies_past_registers()
    tile = QUARTER
    if copies:
        tile = tile_of(sizes, parts, processors())
    elif precision != "float32":
        tile = tile_of(sizes, parts, processors(), (LARGEST, QUARTER))
    how_a = ALONG if a.aligned(k) else ACROSS if a.transposed().aligned(m) else SINGLY
    how_b = ALONG if b.transposed().aligned(k) else ACROSS if b.aligned(n) else SINGLY
    kind, key, param = epilogue
    wide = c.aligned(n)
    shape = (-(-m // tile), -(-n // tile), parts), THREADS
    made = how_a, how_b, kind, key, sums[0] != 0
    if precision != "float32":
        chosen = tensor_product_of(precision, tile, *made)
    else:
        chosen = async_product_of(tile, *made) if copies else product_of(real, *made)
    arguments = *sizes, *a, *b, *c, wide, part, between, real(param), *extra_1, *extra_2, *sums
    run(chosen, shape, stream, *arguments, shared=shared_of(tile) if copies else 0, precision=precision)


def _wgmma(stream, sizes, a, b, c, epilogue, extra_1, extra_2, sums, work, cut, precision):
    """Queue a product of operands rounded before, cut as `hopper.cut_of` says, with that much working space."""
    (m, n, k), real, (kind, key, param) = sizes, np.float32, epilogue
    twin_a, twin_b, in_panels, results = (work + at * real().itemsize for at in (*cut.twins, cut.sums, cut.results))
    lines, down, right = b.transposed(), -(-m // hopper.DOWN), -(-n // hopper.RIGHT)
    twins = *a, a.aligned(k), *lines, lines.aligned(k), twin_a, twin_b, in_panels if sums[0] else 0
    shape = (down + 2 * right) * cut.panels, THREADS
    run(hopper.twins_of(precision), shape, stream, *sizes, *twins, precision=precision)
    if sums[0]:
        shape = -(-m // hopper.WARPS), 32 * hopper.WARPS
        run(hopper.line_sums, shape, stream, m, cut.panels, in_panels, *sums)
    to = Side(results, n, 1) if cut.parts > 1 else c
    arguments = m, n, cut.panels, twin_a, twin_b, *to, to.aligned(n), cut.part, cut.between, real(param)
    chosen, shape = hopper.wgmma_product_of(precision, kind, key), ((down, right, cut.parts), hopper.BLOCK)
    run(chosen, shape, stream, *arguments, *extra_1, *extra_2, shared=hopper.SHARED, precision=precision)
    if cut.parts > 1:
        run(combine_of(real), plane(m, n), stream, m, n, cut.parts, cut.between, results, *c, 0, 0)


def trusts_wgmma(precision):
    """Whether the GPU at hand has wgmma, and it gives what mma.sync gives."""
    return has_wgmma() and _proved(precision, None if SIMULATED else current_device())


@functools.cache
def _proved(precision, device):
    """Compare the two on a product, once a process.

    Operands are whole numbers but for a little that rounding takes away, so that all sums are exact.
    """
    (m, n, k), random = PROOF, np.random.default_rng(0)
    cut, rest = hopper.cut_of(m, n, k, precision), (PLAIN, NO_OPERAND, NO_OPERAND, (0, 0))
    operands = [random.integers(-3, 4, shape) * (1 - 2.0**-13) for shape in ((k, m), (n, k))]
    blanks = [np.full(shape, np.nan) for shape in ((m, n), (m, n), (1, cut.size))]
    memory = [to_device(array.astype(np.float32)) for array in (*operands, *blanks)]
    a, b, by_wgmma, by_mma, work = (side(operand("array", array, 2)) for array in memory)
    sides = a.transposed(), b.transposed()
    _wgmma(0, PROOF, *sides, by_wgmma, *rest, work.address, cut, precision)
    _tiles(np.float32, 0, PROOF, *sides, by_mma, *rest, 1, -(-k // 16) * 16, 0, precision)
    same = np.array_equal(to_host(memory[2]), to_host(memory[3]))
    if not same:
        doubt = f"wgmma gave another product than mma.sync on GPU {device}, which is used instead: please report it"
        warnings.warn(doubt, RuntimeWarning, stacklevel=2)
    return same


@checked()
def matmul(
    A: DeviceArray,
    B: DeviceArray,
    work: DeviceArray | None,
    out: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """Matrix product, out = A @ B.

    Parameters
    ----------
    A : device array (m, k), float32 or float64
        Left operand, any strides.
    B : device array (k, n), dtype of A
        Right operand, any strides.
    work : device array (w,), dtype of A
        Working space of `work_size(m, n, k, precision)` elements, consecutive; None: slower, without it, for long sums
        and for large products of a lower precision.
    out : device array (m, n), dtype of A
        Receives the product; must not overlap the operands.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", or what the operands, of float32, are rounded to for tensor cores: "tf32" (10 bits behind the point)
        or "bf16" (7). Sums stay in float32, and so do products with at most eight rows or columns, where reading the
        operands is all the work.

    Raises
    ------
    ValueError
        If precision is none of these, or not "float32" for float64.
    RuntimeError
        If there is no GPU, or for "tf32" and "bf16" one of a compute capability below 8.0.
    """
    sizes = A.shape[0], B.shape[1], A.shape[1]
    multiply(A.dtype.type, stream, sizes, side(A), side(B), side(out), work=space(work), precision=precision)


def side(operand):
    """The Side of an Operand."""
    return Side(operand.address, *operand.strides)


def space(operand):
    """(address, elements) of working space that may be None."""
    if operand is None or operand.strides != (1,) or operand.address % 16:
        return 0, 0
    return operand.address, operand.shape[0]

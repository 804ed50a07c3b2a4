"""The register tile: rows x vectors SIMD registers that one product keeps its sums in.

Everything around it (edges, blocking, packing) is ordinary compiled Python in `matmul.py`. Sizes of a tile are
compile-time constants; LLVM keeps its registers apart and in place.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from ..options import COMPILED
from .memory import I64, Pointer, element
from .plain import replace_primitives
from .registers import (
    I32,
    Vector,
    fused,
    load_first,
    load_vector,
    register,
    spread,
    store_vector,
)


class Tile(types.Type):
    """`rows` x `vectors` registers of `dtype` elements."""

    def __init__(self, dtype, rows, vectors):
        self.dtype, self.rows, self.vectors = dtype, rows, vectors
        self.vector = Vector(dtype)
        super().__init__(name=f"Tile({rows}x{vectors} {self.vector})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(register(kind.vector), kind.rows * kind.vectors))


def _step(builder, pointer, stride, times=1):
    offset = stride if times == 1 else builder.mul(stride, ir.Constant(I64, times))
    return builder.gep(pointer, [offset])


def _row(builder, kind, pointer):
    """The registers of one row from consecutive memory."""
    width = kind.vector.width
    return [
        load_vector(builder, kind.vector, builder.gep(pointer, [ir.Constant(I64, j * width)]))
        for j in range(kind.vectors)
    ]


def _from_rows(context, builder, kind, rows):
    value = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for i, row in enumerate(rows):
        for j, vector in enumerate(row):
            value = builder.insert_value(value, vector, i * kind.vectors + j)
    return value


def _to_rows(builder, kind, value):
    return [[builder.extract_value(value, i * kind.vectors + j) for j in range(kind.vectors)] for i in range(kind.rows)]


@intrinsic(prefer_literal=True)
def tile_zeros(typingctx, pointer, rows, vectors):
    """A tile of zeros, of the type that `pointer` points to."""
    kind = Tile(pointer.dtype, rows.literal_value, vectors.literal_value)

    def codegen(context, builder, sig, args):
        return ir.Constant(context.get_value_type(kind), None)

    return kind(pointer, rows, vectors), codegen


@intrinsic
def tile_bias(typingctx, tile, bias):
    """Row i filled with bias[i]."""

    def codegen(context, builder, sig, args):
        rows = []
        for i in range(tile.rows):
            scalar = builder.load(builder.gep(args[1], [ir.Constant(I64, i)]))
            rows.append([spread(builder, scalar, tile.vector.width)] * tile.vectors)
        return _from_rows(context, builder, tile, rows)

    return tile(tile, bias), codegen


@intrinsic
def tile_load(typingctx, tile, c, stride):
    """The tile that stands at `c`, its rows `stride` elements apart."""

    def codegen(context, builder, sig, args):
        _, p, stride = args
        rows = []
        for _ in range(tile.rows):
            rows.append(_row(builder, tile, p))
            p = _step(builder, p, stride)
        return _from_rows(context, builder, tile, rows)

    return tile(tile, c, types.intp), codegen


@intrinsic
def tile_store(typingctx, tile, c, stride):
    """Write the tile to `c`, its rows `stride` elements apart."""

    def codegen(context, builder, sig, args):
        value, p, stride = args
        for row in _to_rows(builder, tile, value):
            for j, vector in enumerate(row):
                store_vector(builder, tile.vector, vector, builder.gep(p, [ir.Constant(I64, j * tile.vector.width)]))
            p = _step(builder, p, stride)
        return context.get_dummy_value()

    return types.void(tile, c, types.intp), codegen


def _add_products(context, builder, kind, value, a, stride, row):
    """Tile + outer product of the scalars a[i * stride] and the registers of `row`."""
    rows = []
    for i, sums in enumerate(_to_rows(builder, kind, value)):
        scalar = spread(builder, builder.load(_step(builder, a, stride, i)), kind.vector.width)
        rows.append([fused(builder, kind.vector, scalar, b, c) for b, c in zip(row, sums, strict=True)])
    return _from_rows(context, builder, kind, rows)


@intrinsic
def rank1(typingctx, tile, a, stride, b):
    """tile[i, :] += a[i * stride] * b[0 : width of the tile]."""

    def codegen(context, builder, sig, args):
        value, a, stride, b = args
        return _add_products(context, builder, tile, value, a, stride, _row(builder, tile, b))

    return tile(tile, a, types.intp, b), codegen


@intrinsic
def rank1_vector(typingctx, tile, a, stride, vector):
    """tile[i, :] += a[i * stride] * vector, for a tile one register wide."""

    def codegen(context, builder, sig, args):
        value, a, stride, v = args
        return _add_products(context, builder, tile, value, a, stride, [v])

    return tile(tile, a, types.intp, vector), codegen


@intrinsic
def tile_spill(typingctx, tile):
    """Pointer to a copy of the tile on the stack, row after row."""

    def codegen(context, builder, sig, args):
        held = cgutils.alloca_once_value(builder, args[0])
        builder.store(args[0], held)
        return builder.bitcast(held, element(tile.dtype).as_pointer())

    return Pointer(tile.dtype)(tile), codegen


def _half_sums(builder, a, b, width, span):
    """The register of the half sums of every `span` lanes of a, then of b."""
    low = [lane for lane in range(2 * width) if lane % span < span // 2]
    halves = []
    for start in (0, span // 2):
        chosen = ir.Constant(ir.VectorType(I32, width), [lane + start for lane in low])
        halves.append(builder.shuffle_vector(a, b, chosen))
    return builder.fadd(*halves)


@intrinsic
def tile_totals(typingctx, tile):
    """Pointer to the sums of the lanes of every register, row after row; each as `simd.total` adds it, by halves."""

    def codegen(context, builder, sig, args):
        vectors = [v for row in _to_rows(builder, tile, args[0]) for v in row]
        # two registers become one that holds the half sums of both, until every lane is a sum
        width = span = tile.vector.width
        while span > 1:
            pairs = vectors * 2 if len(vectors) == 1 else vectors
            pairs = zip(pairs[::2], pairs[1::2], strict=True)
            vectors, span = [_half_sums(builder, a, b, width, span) for a, b in pairs], span // 2
        held = cgutils.alloca_once(builder, ir.ArrayType(register(tile.vector), len(vectors)))
        sums = builder.bitcast(held, element(tile.dtype).as_pointer())
        for i, vector in enumerate(vectors):
            store_vector(builder, tile.vector, vector, builder.gep(sums, [ir.Constant(I64, i * width)]))
        return sums

    return Pointer(tile.dtype)(tile), codegen


def _add_lane_products(context, builder, tile, value, left, right):
    rows = [
        [fused(builder, tile.vector, a, b, c) for b, c in zip(right, sums, strict=True)]
        for a, sums in zip(left, _to_rows(builder, tile, value), strict=True)
    ]
    return _from_rows(context, builder, tile, rows)


@intrinsic
def lane_products(typingctx, tile, a, stride_a, b, stride_b):
    """tile[i, j] += a[i * stride_a + lane] * b[j * stride_b + lane]: sums that stay apart in the lanes."""

    def codegen(context, builder, sig, args):
        value, a, stride_a, b, stride_b = args
        left = [load_vector(builder, tile.vector, _step(builder, a, stride_a, i)) for i in range(tile.rows)]
        right = [load_vector(builder, tile.vector, _step(builder, b, stride_b, j)) for j in range(tile.vectors)]
        return _add_lane_products(context, builder, tile, value, left, right)

    return tile(tile, a, types.intp, b, types.intp), codegen


@intrinsic
def lane_products_first(typingctx, tile, a, stride_a, b, stride_b, count):
    """`lane_products` of the first `count` lanes; the others are not read."""

    def codegen(context, builder, sig, args):
        value, a, stride_a, b, stride_b, count = args
        left = [load_first(builder, tile.vector, _step(builder, a, stride_a, i), count) for i in range(tile.rows)]
        right = [load_first(builder, tile.vector, _step(builder, b, stride_b, j), count) for j in range(tile.vectors)]
        return _add_lane_products(context, builder, tile, value, left, right)

    return tile(tile, a, types.intp, b, types.intp, types.intp), codegen


@intrinsic
def transpose_square(typingctx, source, stride, rows, columns, target, target_stride):
    """Transpose one square of registers: target[j, i] = source[i, j] for i < rows, j < columns.

    Rows of `source` past `rows` and elements past `columns` are not read; rows of `target` past `columns` are not
    written, nor elements past `rows`.
    """
    vector = Vector(source.dtype)
    width = vector.width

    def codegen(context, builder, sig, args):
        p, stride, rows, columns, q, target_stride = args
        full = builder.and_(
            builder.icmp_signed(">=", rows, ir.Constant(I64, width)),
            builder.icmp_signed(">=", columns, ir.Constant(I64, width)),
        )
        with builder.if_else(full) as (whole, part):
            with whole:
                lines = [load_vector(builder, vector, _step(builder, p, stride, i)) for i in range(width)]
                for j, line in enumerate(transposed(builder, lines)):
                    store_vector(builder, vector, line, _step(builder, q, target_stride, j))
            with part:
                with cgutils.for_range(builder, columns) as loop:
                    # one row of the target at a time; a short edge costs what its elements cost
                    line = builder.gep(q, [builder.mul(loop.index, target_stride)])
                    start = builder.gep(p, [loop.index])
                    with cgutils.for_range(builder, rows) as inner:
                        value = builder.load(builder.gep(start, [builder.mul(inner.index, stride)]))
                        builder.store(value, builder.gep(line, [inner.index]))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, types.intp, target, types.intp), codegen


def transposed(builder, lines):
    """Transpose w registers of w lanes in log2(w) rounds of pairwise interleaving."""
    width = len(lines)
    low = [lane for pair in zip(range(width // 2), range(width, width + width // 2), strict=True) for lane in pair]
    low_mask = ir.Constant(ir.VectorType(I32, width), low)
    high_mask = ir.Constant(ir.VectorType(I32, width), [lane + width // 2 for lane in low])
    rounds = width.bit_length() - 1
    for _ in range(rounds):
        half = width // 2
        mixed = []
        for a, b in zip(lines[:half], lines[half:], strict=True):
            mixed += [builder.shuffle_vector(a, b, low_mask), builder.shuffle_vector(a, b, high_mask)]
        lines = mixed
    return lines


if not COMPILED:
    replace_primitives(globals())

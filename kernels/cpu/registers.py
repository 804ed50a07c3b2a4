"""The register and the mask as Numba types, and the LLVM instructions that `simd.py` and `tile.py` are made of."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from ..options import has_fma, lanes
from .memory import I64, element

I1, I32 = ir.IntType(1), ir.IntType(32)


class Vector(types.Type):
    """One SIMD register of `dtype` elements."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.width = lanes(dtype.bitwidth)
        super().__init__(name=f"Vector({dtype}x{self.width})")


class Mask(types.Type):
    """One truth value a lane."""

    def __init__(self, width):
        self.width = width
        super().__init__(name=f"Mask({width})")


def register(vector):
    """LLVM type of a Vector."""
    return ir.VectorType(element(vector.dtype), vector.width)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, register(kind))


@register_model(Mask)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.VectorType(I1, kind.width))


def spread(builder, scalar, width):
    """A register with `scalar` in every lane."""
    undefined = ir.Constant(ir.VectorType(scalar.type, width), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(I32, width), [0] * width))


def load_vector(builder, kind, pointer):
    """Unaligned load of a whole register."""
    return builder.load(builder.bitcast(pointer, register(kind).as_pointer()), align=kind.dtype.bitwidth // 8)


def store_vector(builder, kind, value, pointer):
    """Unaligned store of a whole register."""
    builder.store(value, builder.bitcast(pointer, register(kind).as_pointer()), align=kind.dtype.bitwidth // 8)


def call_llvm(builder, name, result, *values):
    """Call of the LLVM intrinsic `name`."""
    kind = ir.FunctionType(result, [v.type for v in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


def suffix(kind):
    """The overload suffix of LLVM intrinsics, such as v16f32."""
    letter = "i" if isinstance(kind.dtype, types.Integer) else "f"
    return f"v{kind.width}{letter}{kind.dtype.bitwidth}"


def fused(builder, kind, a, b, c):
    """A * b + c, in one rounding where the machine can."""
    name = "fma" if has_fma() else "fmuladd"
    return call_llvm(builder, f"llvm.{name}.{suffix(kind)}", register(kind), a, b, c)


def at_most(builder, count, width):
    """The smaller of an i64 and a constant."""
    limit = ir.Constant(I64, width)
    return builder.select(builder.icmp_signed("<", count, limit), count, limit)


def first_lanes(builder, count, width):
    """Mask of the lanes below `count` (an i64)."""
    numbers = ir.Constant(ir.VectorType(I32, width), list(range(width)))
    return builder.icmp_signed("<", numbers, spread(builder, builder.trunc(at_most(builder, count, width), I32), width))


# Most vectors are whole, and an unmasked access is much the faster where masks are slow (AVX2) or emulated lane by lane
# (SSE2, NEON): a third of the time of an update, and no difference on AVX-512.


def load_first(builder, kind, pointer, count):
    """The first `count` elements, zero in the other lanes; never touches memory beyond them."""
    vector = register(kind)
    with builder.if_else(_whole(builder, kind, count), likely=True) as (whole, part):
        with whole:
            every = load_vector(builder, kind, pointer)
            whole_end = builder.block
        with part:
            address = builder.bitcast(pointer, vector.as_pointer())
            name = f"llvm.masked.load.{suffix(kind)}.p0"
            mask = first_lanes(builder, count, kind.width)
            some = call_llvm(builder, name, vector, address, ir.Constant(I32, 1), mask, ir.Constant(vector, None))
            part_end = builder.block
    result = builder.phi(vector)
    result.add_incoming(every, whole_end)
    result.add_incoming(some, part_end)
    return result


def store_first(builder, kind, value, pointer, count):
    """Store the first `count` lanes only."""
    with builder.if_else(_whole(builder, kind, count), likely=True) as (whole, part):
        with whole:
            store_vector(builder, kind, value, pointer)
        with part:
            address = builder.bitcast(pointer, register(kind).as_pointer())
            mask = first_lanes(builder, count, kind.width)
            name = f"llvm.masked.store.{suffix(kind)}.p0"
            call_llvm(builder, name, ir.VoidType(), value, address, ir.Constant(I32, 1), mask)


def _whole(builder, kind, count):
    return builder.icmp_signed(">=", count, ir.Constant(I64, kind.width))

"""What a kernel can do with SIMD vectors.

A kernel works on a `Pointer`, whose element type decides everything: `load(p)` gives a `Vector` that fills one
register, `lanes(p)` says how many elements that is. Vectors have the operators of numbers, comparisons give a `Mask`,
and `select` chooses; Python numbers and scalars spread over the lanes. So a formula reads the same for a float and
for a vector, and Numba compiles it to the instructions that it names.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, overload

from ..options import COMPILED, EXACT
from ..options import lanes as lanes_of
from .memory import I64, element
from .plain import replace_primitives
from .registers import (
    I32,
    Mask,
    Vector,
    at_most,
    call_llvm,
    fused,
    load_first,
    load_vector,
    register,
    spread,
    store_first,
    store_vector,
    suffix,
)


@intrinsic
def lanes(typingctx, pointer):
    """Elements in one register: a constant of the pointer's (or vector's) type."""

    def codegen(context, builder, sig, args):
        return ir.Constant(I64, lanes_of(sig.args[0].dtype.bitwidth))

    return types.intp(pointer), codegen


@intrinsic
def splat(typingctx, scalar, pointer):
    """A vector, of the type that `pointer` points to, with `scalar` in every lane."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        return spread(builder, args[0], vector.width)

    return vector(pointer.dtype, pointer), codegen


@intrinsic
def lane_numbers(typingctx, pointer):
    """The vector 0, 1, 2, ... of the type that `pointer` points to."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        return ir.Constant(register(vector), list(range(vector.width)))

    return vector(pointer), codegen


@intrinsic
def load(typingctx, pointer):
    """One register from consecutive elements, aligned or not."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        return load_vector(builder, vector, args[0])

    return vector(pointer), codegen


@intrinsic
def store(typingctx, pointer, value):
    """Write one register to consecutive elements, aligned or not."""

    def codegen(context, builder, sig, args):
        store_vector(builder, sig.args[1], args[1], args[0])
        return context.get_dummy_value()

    return types.void(pointer, value), codegen


@intrinsic
def load_part(typingctx, pointer, count):
    """The first `count` of consecutive elements, zero in the other lanes; nothing beyond them is read."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        return load_first(builder, vector, *args)

    return vector(pointer, types.intp), codegen


@intrinsic
def store_part(typingctx, pointer, value, count):
    """The first `count` lanes to consecutive elements."""

    def codegen(context, builder, sig, args):
        p, value, count = args
        store_first(builder, sig.args[1], value, p, count)
        return context.get_dummy_value()

    return types.void(pointer, value, types.intp), codegen


def _copier(builder, scalar, gathers):
    """A function (pointer, stride, count, slots) between scattered elements and a register's slots on the stack.

    A function of its own, never inlined: it is the rare path of every load and store, and would be most of the code.
    """
    module, pointer = builder.module, scalar.as_pointer()
    name = f"fastnn_{'gather' if gathers else 'scatter'}_{scalar}"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, I64, I64, pointer]), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    p, stride, count, slots = function.args
    body = ir.IRBuilder(function.append_basic_block())
    with cgutils.for_range(body, count) as loop:
        scattered, slot = body.gep(p, [body.mul(loop.index, stride)]), body.gep(slots, [loop.index])
        source, target = (scattered, slot) if gathers else (slot, scattered)
        body.store(body.load(source), target)
    body.ret_void()
    return function


@intrinsic
def load_strided(typingctx, pointer, stride, count):
    """Element i * stride in lane i for i < count, zero in the other lanes; a masked load where stride is 1."""
    vector = Vector(pointer.dtype)

    def codegen(context, builder, sig, args):
        p, stride, count = args
        kind, scalar = register(vector), element(vector.dtype)
        held = cgutils.alloca_once(builder, kind)
        unit_stride = builder.icmp_signed("==", stride, ir.Constant(I64, 1))
        with builder.if_else(unit_stride, likely=True) as (unit, strided):
            with unit:
                whole = load_first(builder, vector, p, count)
                unit_end = builder.block
            with strided:
                builder.store(ir.Constant(kind, None), held)
                slots = builder.bitcast(held, scalar.as_pointer())
                builder.call(_copier(builder, scalar, True), [p, stride, at_most(builder, count, vector.width), slots])
                collected = builder.load(held)
                strided_end = builder.block
        result = builder.phi(kind)  # not through memory: the unit path must stay in registers
        result.add_incoming(whole, unit_end)
        result.add_incoming(collected, strided_end)
        return result

    return vector(pointer, types.intp, types.intp), codegen


@intrinsic
def store_strided(typingctx, pointer, stride, value, count):
    """Lane i to element i * stride for i < count."""

    def codegen(context, builder, sig, args):
        p, stride, value, count = args
        vector = sig.args[2]
        scalar = element(vector.dtype)
        held = cgutils.alloca_once(builder, value.type)
        unit_stride = builder.icmp_signed("==", stride, ir.Constant(I64, 1))
        with builder.if_else(unit_stride, likely=True) as (unit, strided):
            with unit:
                store_first(builder, vector, value, p, count)
            with strided:
                builder.store(value, held)
                slots = builder.bitcast(held, scalar.as_pointer())
                builder.call(_copier(builder, scalar, False), [p, stride, at_most(builder, count, vector.width), slots])
        return context.get_dummy_value()

    return types.void(pointer, types.intp, value, types.intp), codegen


def _vector_among(args):
    return next((a for a in args if isinstance(a, Vector)), None)


def _accepts(args, vector):
    return all(a == vector or isinstance(a, types.Number) for a in args)


@lower_cast(types.Number, Vector)
def _spread_number(context, builder, fromty, toty, value):
    return spread(builder, context.cast(builder, value, fromty, toty.dtype), toty.width)


def _define_operator(function, floats, integers=None, compares=False):
    """Typing and code of a binary operator; `floats` and `integers` emit one instruction."""

    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            vector = _vector_among(args)
            if vector is not None and len(args) == 2 and _accepts(args, vector):
                return signature(Mask(vector.width) if compares else vector, vector, vector)

    def lowered(context, builder, sig, args):
        emit = integers if isinstance(sig.args[0].dtype, types.Integer) else floats
        return emit(builder, *args)

    for left, right in ((Vector, Vector), (Vector, types.Any), (types.Any, Vector)):
        lower_builtin(function, left, right)(lowered)


_define_operator(operator.add, ir.IRBuilder.fadd, ir.IRBuilder.add)
_define_operator(operator.sub, ir.IRBuilder.fsub, ir.IRBuilder.sub)
_define_operator(operator.mul, ir.IRBuilder.fmul, ir.IRBuilder.mul)
_define_operator(operator.truediv, ir.IRBuilder.fdiv)
_define_operator(operator.lshift, None, ir.IRBuilder.shl)
_define_operator(operator.rshift, None, ir.IRBuilder.ashr)
_define_operator(operator.and_, None, ir.IRBuilder.and_)
_define_operator(operator.or_, None, ir.IRBuilder.or_)
_define_operator(operator.xor, None, ir.IRBuilder.xor)


def _define_comparison(function, symbol):
    # every comparison with NaN is false but !=, as for numbers
    def floats(builder, a, b):
        compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
        return compare(symbol, a, b)

    def integers(builder, a, b):
        return builder.icmp_signed(symbol, a, b)

    _define_operator(function, floats, integers, compares=True)


for _function, _symbol in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _define_comparison(_function, _symbol)


def _define_mask_operator(function, emit):
    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            if len(args) == 2 and isinstance(args[0], Mask) and args[0] == args[1]:
                return signature(args[0], *args)

    lower_builtin(function, Mask, Mask)(lambda context, builder, sig, args: emit(builder, *args))


_define_mask_operator(operator.and_, ir.IRBuilder.and_)
_define_mask_operator(operator.or_, ir.IRBuilder.or_)


@infer_global(operator.neg)
class _Negate(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 1 and isinstance(args[0], Vector):
            return signature(args[0], args[0])


@lower_builtin(operator.neg, Vector)
def _negate(context, builder, sig, args):
    integer = isinstance(sig.args[0].dtype, types.Integer)
    return builder.neg(args[0]) if integer else builder.fneg(args[0])


@intrinsic
def like(typingctx, number, v):
    """`number` in every lane of a vector of v's type."""

    def codegen(context, builder, sig, args):
        return args[0]

    return v(v, v), codegen


@intrinsic
def select(typingctx, mask, a, b):
    """`a` where `mask` holds, else `b`, lane by lane; either may be a number."""
    vector = _vector_among((a, b))

    def codegen(context, builder, sig, args):
        return builder.select(*args)

    return vector(mask, vector, vector), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """A * b + c, rounded once on machines with a fused multiply-add; any operand but one may be a number."""
    vector = _vector_among((a, b, c))

    def codegen(context, builder, sig, args):
        return fused(builder, vector, *args)

    return vector(vector, vector, vector), codegen


def _unary(name, emit, result=lambda vector: vector):
    def typing(typingctx, v):
        def codegen(context, builder, sig, args):
            return emit(builder, sig.args[0], args[0])

        return result(v)(v), codegen

    typing.__name__ = name
    return intrinsic(typing)


def _named(name):
    return lambda builder, kind, v: call_llvm(builder, f"llvm.{name}.{suffix(kind)}", v.type, v)


def _to_bits(vector):
    return Vector(types.int32 if vector.dtype.bitwidth == 32 else types.int64)


def _to_float(vector):
    return Vector(types.float32 if vector.dtype.bitwidth == 32 else types.float64)


absolute = _unary("absolute", _named("fabs"))
sqrt = _unary("sqrt", _named("sqrt"))
rint = _unary("rint", _named("rint"))
bits = _unary("bits", lambda b, k, v: b.bitcast(v, register(_to_bits(k))), _to_bits)
from_bits = _unary("from_bits", lambda b, k, v: b.bitcast(v, register(_to_float(k))), _to_float)
to_int = _unary("to_int", lambda b, k, v: b.fptosi(v, register(_to_bits(k))), _to_bits)
to_float = _unary("to_float", lambda b, k, v: b.sitofp(v, register(_to_float(k))), _to_float)


@intrinsic
def copysign(typingctx, magnitude, sign):
    """`magnitude` with the sign of `sign`, lane by lane."""
    vector = _vector_among((magnitude, sign))

    def codegen(context, builder, sig, args):
        return call_llvm(builder, f"llvm.copysign.{suffix(vector)}", register(vector), *args)

    return vector(vector, vector), codegen


@intrinsic
def horner(typingctx, v, coefficients):
    """The polynomial in v with these coefficients (a tuple of numbers, lowest power first), one fma a power."""

    def codegen(context, builder, sig, args):
        kind, numbers = sig.args
        terms = [
            context.cast(builder, builder.extract_value(args[1], i), number, kind) for i, number in enumerate(numbers)
        ]
        result = terms.pop()
        while terms:
            result = fused(builder, kind, result, args[0], terms.pop())
        return result

    return v(v, coefficients), codegen


@intrinsic
def total(typingctx, v):
    """Sum of the lanes, by halves: the same bits always."""

    def codegen(context, builder, sig, args):
        value, width = args[0], sig.args[0].width
        while width > 1:
            width //= 2
            halves = []
            for start in (0, width):
                chosen = ir.Constant(ir.VectorType(I32, width), list(range(start, start + width)))
                halves.append(builder.shuffle_vector(value, value, chosen))
            value = builder.fadd(*halves)
        return builder.extract_element(value, ir.Constant(I32, 0))

    return v.dtype(v), codegen


def by_dtype(single, double):
    """A function of a float vector that is `single` for float32 and `double` for float64, chosen at compilation."""

    def chosen(v):
        raise NotImplementedError("callable from compiled code only")

    def choose(v):
        if isinstance(v, Vector):
            return (lambda v: single(v)) if v.dtype is types.float32 else (lambda v: double(v))

    overload(chosen, jit_options={"fastmath": set(EXACT)})(choose)
    chosen.__name__ = chosen.__qualname__ = single.py_func.__name__.strip("_").removesuffix("_single")
    return chosen


if not COMPILED:
    replace_primitives(globals())

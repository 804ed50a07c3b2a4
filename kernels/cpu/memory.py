"""Typed pointers, and the few atomic operations that the threads of a run meet by.

`p + i` steps by elements, `p[i]` reads and writes: kernels take pointers instead of arrays, so that one compilation
serves every layout and nothing is counted, checked or copied on the way.
"""

import operator
import sys
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_NONE
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from ..options import COMPILED, is_x86
from .plain import replace_primitives

I64 = ir.IntType(64)


class Pointer(types.Type):
    """Address of an element; `p + i` steps by elements, `p[i]` reads and writes."""

    def __init__(self, dtype):
        self.dtype = dtype
        super().__init__(name=f"Pointer({dtype})")


def element(dtype):
    """LLVM type of one element."""
    if isinstance(dtype, types.Integer):
        return ir.IntType(dtype.bitwidth)
    return ir.FloatType() if dtype is types.float32 else ir.DoubleType()


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, element(kind.dtype).as_pointer())


@intrinsic
def address_of(typingctx, array):
    """Pointer to the first element of an array."""

    def codegen(context, builder, sig, args):
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return Pointer(array.dtype)(array), codegen


@intrinsic
def pointer_at(typingctx, address, like):
    """Pointer to the elements at an integer address, of the type that `like` points to."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return like(types.intp, like), codegen


@intrinsic
def retyped(typingctx, pointer, like):
    """The place of a pointer, as one to elements of the type that `like` points to."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(sig.return_type))

    return like(pointer, like), codegen


@intrinsic
def integers_at(typingctx, address):
    """Pointer to the 64-bit integers at an integer address."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return Pointer(types.int64)(types.intp), codegen


@intrinsic
def int32_at(typingctx, address):
    """Pointer to the 32-bit integers at an integer address."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return Pointer(types.int32)(types.intp), codegen


def fetch(builder, pointer, level):
    """Fetch the cache line at a pointer, which may be any address, to be read: 3 into the first cache, 2 the second."""
    byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    reads, data = ir.Constant(flag, 0), ir.Constant(flag, 1)
    builder.call(function, [builder.bitcast(pointer, byte), reads, ir.Constant(flag, level), data])


@intrinsic
def prefetch(typingctx, pointer):
    """Fetch the cache line at a pointer, which may be any address, to be written soon."""

    def codegen(context, builder, sig, args):
        fetch(builder, args[0], 3)
        return context.get_dummy_value()

    return types.void(pointer), codegen


@infer_global(operator.add)
class _Step(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 2 and isinstance(args[0], Pointer) and isinstance(args[1], types.Integer):
            return signature(args[0], args[0], types.intp)


@lower_builtin(operator.add, Pointer, types.Integer)
def _step(context, builder, sig, args):
    return builder.gep(args[0], [args[1]])


@infer_global(operator.getitem)
class _Get(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer):
            return signature(args[0].dtype, args[0], types.intp)


@lower_builtin(operator.getitem, Pointer, types.Integer)
def _get(context, builder, sig, args):
    return builder.load(builder.gep(args[0], [args[1]]))


@infer_global(operator.setitem)
class _Set(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Pointer):
            return signature(types.none, args[0], types.intp, args[0].dtype)


@lower_builtin(operator.setitem, Pointer, types.Integer, types.Any)
def _set(context, builder, sig, args):
    builder.store(args[2], builder.gep(args[0], [args[1]]))
    return context.get_dummy_value()


@intrinsic
def plain(typingctx, constant):
    """An integer constant that Numba does not compile the called kernel anew for."""

    def codegen(context, builder, sig, args):
        return args[0]

    return types.intp(types.intp), codegen


@intrinsic
def hidden(typingctx, integer):
    """An integer of which LLVM knows nothing.

    Where it knew A's strides, products in a caller's own @njit code made 112 GFLOP/s instead of 166 (256 x 256 x 256 in
    float32, Emerald Rapids).
    """

    def codegen(context, builder, sig, args):
        kind = ir.FunctionType(I64, [I64])
        return builder.asm(kind, "", "=r,0", [args[0]], side_effect=False)

    return types.intp(types.intp), codegen


@intrinsic
def atomic_load(typingctx, pointer):
    """The 64-bit integer at `pointer`; what its writer wrote before is visible after."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(args[0], ordering="acquire", align=8)

    return types.int64(pointer), codegen


@intrinsic
def atomic_store(typingctx, pointer, value):
    """Write a 64-bit integer; everything written before is visible to who reads it."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[1], args[0], ordering="release", align=8)
        return context.get_dummy_value()

    return types.void(pointer, types.int64), codegen


@intrinsic
def atomic_add(typingctx, pointer, value):
    """Add to a 64-bit integer; gives the old one."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", args[0], args[1], ordering="acq_rel")

    return types.int64(pointer, types.int64), codegen


@intrinsic
def atomic_swap_if(typingctx, pointer, expected, value):
    """Write `value` where `expected` still stands; gives whether it did."""

    def codegen(context, builder, sig, args):
        outcome = builder.cmpxchg(args[0], args[1], args[2], ordering="acq_rel", failordering="acquire")
        return builder.extract_value(outcome, 1)

    return types.boolean(pointer, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this thread spins."""

    def codegen(context, builder, sig, args):
        name, values = (
            ("llvm.x86.sse2.pause", []) if is_x86() else ("llvm.aarch64.hint", [ir.Constant(ir.IntType(32), 1)])
        )
        kind = ir.FunctionType(ir.VoidType(), [v.type for v in values])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx):
    """Let the system run another thread on this core (sched_yield)."""

    def codegen(context, builder, sig, args):
        if sys.platform != "win32":  # its name for this is not in every process
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen


_FLUSH_X86 = 0x8040  # of MXCSR: results and operands
_FLUSH_ARM = 1 << 24  # of FPCR


def _float_control(builder):
    """(read, write) of the register that controls the float arithmetic of this thread."""

    def x86(name):
        pointer = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.x86.sse.{name}mxcsr")
        return lambda place: builder.call(function, [builder.bitcast(place, pointer)])

    def arm(name, result, *kinds):
        kind = ir.FunctionType(result, kinds)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.aarch64.{name}.fpcr")
        return lambda *values: builder.call(function, values)

    if not is_x86():
        return arm("get", I64), arm("set", ir.VoidType(), I64)
    place = cgutils.alloca_once(builder, ir.IntType(32))

    def read():
        x86("st")(place)
        return builder.zext(builder.load(place), I64)

    def write(value):
        builder.store(builder.trunc(value, ir.IntType(32)), place)
        x86("ld")(place)

    return read, write


@intrinsic
def flush_denormals(typingctx):
    """Let this thread take denormal numbers for zeros; gives what `restore_float_control` takes.

    Adam's moments of units that died decay into them: on a Xeon a step of 8-64-64-1 then took 93 us instead of 51.
    """

    def codegen(context, builder, sig, args):
        read, write = _float_control(builder)
        before = read()
        write(builder.or_(before, ir.Constant(I64, _FLUSH_X86 if is_x86() else _FLUSH_ARM)))
        return before

    return types.int64(), codegen


@intrinsic
def restore_float_control(typingctx, control):
    """Let this thread compute as it did before `flush_denormals`."""

    def codegen(context, builder, sig, args):
        _float_control(builder)[1](args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _c_type(kind):
    """What a value of a type goes as to a kernel that is called by address."""
    if isinstance(kind, types.Integer | types.Boolean):
        return types.intp
    return types.float64 if isinstance(kind, types.Float) else kind


def _call(context, builder, result, address, args, kinds):
    """Call by Numba's calling convention; gives (result, status, pointer to the record of an exception)."""
    pointer = ir.IntType(8).as_pointer()
    place = cgutils.alloca_once(builder, ir.DoubleType() if result is types.float64 else pointer)
    exception = cgutils.alloca_once_value(builder, ir.Constant(pointer, None))
    values = [place, exception]
    for i, (kind, wanted) in enumerate(zip(args.type_tuple, kinds, strict=True)):
        values.append(context.cast(builder, builder.extract_value(args.value, i), kind, wanted))
    kernel = ir.FunctionType(ir.IntType(32), [value.type for value in values])
    status = builder.call(builder.inttoptr(address, kernel.as_pointer()), values)
    returned = builder.load(place) if result is types.float64 else context.get_dummy_value()
    return returned, status, builder.load(exception)


class _Arguments(NamedTuple):
    type_tuple: Any
    value: Any


def _call_of(result, name):
    def typing(typingctx, address, args):
        kinds = [_c_type(types.unliteral(kind)) for kind in args]

        def codegen(context, builder, sig, given):
            return _call(context, builder, result, given[0], _Arguments(args, given[1]), kinds)[0]

        return result(types.intp, args), codegen

    typing.__name__ = name
    return intrinsic(typing)


def _checked_call_of(result, name):
    def typing(typingctx, address, args, failure):
        kinds = [_c_type(types.unliteral(kind)) for kind in args]

        def codegen(context, builder, sig, given):
            arguments = _Arguments(args, given[1])
            returned, status, exception = _call(context, builder, result, given[0], arguments, kinds)
            zero, none = ir.Constant(status.type, 0), ir.Constant(status.type, RETCODE_NONE.constant)
            fails = builder.and_(builder.icmp_signed("!=", status, zero), builder.icmp_signed("!=", status, none))
            with builder.if_then(fails, likely=False):
                earlier = builder.load(given[2])
                first = builder.icmp_signed("==", earlier, ir.Constant(I64, 0))
                builder.store(builder.select(first, builder.ptrtoint(exception, I64), earlier), given[2])
            return returned

        return result(types.intp, args, failure), codegen

    typing.__name__ = name
    return intrinsic(typing)


# Call the kernel at an address of `units.py` with a tuple of arguments: integers and truth values go as int64, numbers
# as float64, pointers as they are. The checked forms are for what may be the user's own: of the first exception that is
# raised, what `own.failure_at` reads goes to the integer at `failure`.
call, call_real = _call_of(types.void, "call"), _call_of(types.float64, "call_real")
call_checked = _checked_call_of(types.void, "call_checked")
call_real_checked = _checked_call_of(types.float64, "call_real_checked")


@intrinsic
def stack_integer(typingctx):
    """Pointer to a 64-bit integer on the stack, zero at the start."""

    def codegen(context, builder, sig, args):
        return cgutils.alloca_once_value(builder, ir.Constant(I64, 0))

    return Pointer(types.int64)(), codegen


@intrinsic
def hold(typingctx, array):
    """Keep an array alive until here: Numba frees it after its last use, and a pointer into it is none."""

    def codegen(context, builder, sig, args):
        return context.get_dummy_value()

    return types.void(array), codegen


if not COMPILED:
    replace_primitives(globals())

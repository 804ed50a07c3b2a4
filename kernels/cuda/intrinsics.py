"""What Numba does not write itself: typed pointers, accesses of 128 bits, shared memory, copies into it, tensor cores.

Barriers, copies in bulk and products of a warpgroup are Hopper's, of compute capability 9.0.

`p + i` steps by elements, `p[i]` reads and writes. A pointer knows its memory, so that no instruction has to find out.
`plain.py` has the same for the simulator.
"""

import operator

from llvmlite import ir
from numba.cuda import types
from numba.cuda.core.errors import RequireLiteralValue
from numba.cuda.extending import intrinsic, lower_builtin, models, register_model
from numba.cuda.typing.templates import AbstractTemplate, infer_global, signature

GLOBAL, SHARED = 1, 3  # LLVM's numbers of the memories
ALIGNED = 16  # bytes of the widest access
SINGLE, I32, I64, VOID = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.VoidType()


class Pointer(types.Type):
    """Address of an element in one of the memories."""

    def __init__(self, dtype, space):
        self.dtype, self.space = dtype, space
        super().__init__(name=f"Pointer({dtype}, {space})")


def _element(dtype):
    """LLVM type of one element."""
    if isinstance(dtype, types.Integer):
        return ir.IntType(dtype.bitwidth)
    return SINGLE if dtype is types.float32 else ir.DoubleType()


@register_model(Pointer)
class _PointerModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _element(kind.dtype).as_pointer(kind.space))


@intrinsic
def global_at(typingctx, address, dtype):
    """Pointer to the elements at an integer address of device memory."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return Pointer(dtype.dtype, GLOBAL)(types.int64, dtype), codegen


@intrinsic
def shared_memory(typingctx, dtype, size):
    """Pointer to `size` elements in the block's shared memory, new for each call in the source.

    Size 0 stands for what the launch adds: there is only one such piece in a block.
    """
    if not isinstance(size, types.IntegerLiteral):
        raise RequireLiteralValue("the size of shared memory is a constant")  # then Numba asks again, with the value
    length = size.literal_value

    def codegen(context, builder, sig, args):
        kind = ir.ArrayType(_element(sig.return_type.dtype), length)
        # NVVM takes no dot, as of a second one, in the name of what is external
        name = builder.module.get_unique_name("shared_memory" if length else "added_memory")
        memory = ir.GlobalVariable(builder.module, kind, name, addrspace=SHARED)
        memory.align = ALIGNED
        if length == 0:
            memory.linkage = "external"
        else:
            memory.linkage, memory.initializer = "internal", ir.Constant(kind, ir.Undefined)
        return builder.gep(memory, [I64(0), I64(0)])

    return Pointer(dtype.dtype, SHARED)(dtype, size), codegen


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


def _four(builder, kind, pointer):
    return builder.bitcast(pointer, ir.VectorType(_element(kind.dtype), 4).as_pointer(kind.space))


@intrinsic
def load4(typingctx, pointer):
    """Four consecutive elements from a multiple of 16 bytes on: for float32, one access of 128 bits."""

    def codegen(context, builder, sig, args):
        vector = builder.load(_four(builder, sig.args[0], args[0]), align=ALIGNED)
        values = [builder.extract_element(vector, I32(i)) for i in range(4)]
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(pointer.dtype, 4)(pointer), codegen


@intrinsic
def store4(typingctx, pointer, a, b, c, d):
    """Write four consecutive elements from a multiple of 16 bytes on."""

    def codegen(context, builder, sig, args):
        vector = ir.Constant(ir.VectorType(_element(sig.args[0].dtype), 4), ir.Undefined)
        for i in range(4):
            vector = builder.insert_element(vector, args[1 + i], I32(i))
        builder.store(vector, _four(builder, sig.args[0], args[0]), align=ALIGNED)
        return context.get_dummy_value()

    return types.void(pointer, *[pointer.dtype] * 4), codegen


def _copy(size, cache):
    """A copy from global to shared memory that goes on by itself, past the registers; compute capability 8.0."""
    text = f"cp.async.{cache}.shared.global [$0], [$1], {size}, $2;"

    @intrinsic
    def copy(typingctx, to, source, present):
        def codegen(context, builder, sig, args):
            read = builder.select(args[2], I32(size), I32(0))  # bytes: the others become zero
            values = builder.ptrtoint(args[0], I32), builder.ptrtoint(args[1], I64), read
            kind = ir.FunctionType(VOID, [I32, I64, I32])
            builder.call(ir.InlineAsm(kind, text, "r,l,r,~{memory}", side_effect=True), values)
            return context.get_dummy_value()

        return types.void(to, source, types.boolean), codegen

    return copy


# Queue the copy of one float32 number, or of four from a multiple of 16 bytes on; zeros where it is not `present`
copy1_async, copy4_async = _copy(4, "ca"), _copy(16, "cg")


def _bare(text, attrs=(), memory=True):
    """An instruction without operands that also orders other accesses, if it touches `memory`."""

    @intrinsic
    def operation(typingctx):
        def codegen(context, builder, sig, args):
            kind = ir.FunctionType(VOID, [])
            builder.call(ir.InlineAsm(kind, text, "~{memory}" if memory else "", side_effect=True), [], attrs=attrs)
            return context.get_dummy_value()

        return types.void(), codegen

    return operation


# At the start of a loop's body: the assembler makes no copies of it for some turns at once
turn_by_turn = _bare(r".pragma \22nounroll\22;", memory=False)  # LLVM's way to write quotation marks
# Until all that this thread has queued is there: for this thread, and behind a barrier for all
await_copies = _bare("cp.async.wait_all;")
close_copies = _bare("cp.async.commit_group;")  # what was queued since the last such call is a group
await_copies_but_two = _bare("cp.async.wait_group 2;")  # likewise, without the last two groups


@intrinsic
def outer4(typingctx, sums, x, y):
    """The 4 x 4 sums, row by row, with x y^T, in float32.

    For LLVM it is one instruction: quick to compile, and a row of them stays a row. The assembler sees them all.
    """
    lines = (f"fma.rn.f32 ${4 * i + j}, ${32 + i}, ${36 + j}, ${4 * i + j};" for i in range(4) for j in range(4))
    text, constraints = " ".join(lines), ",".join(["=&f"] * 16 + [str(i) for i in range(16)] + ["f"] * 8)
    four, sixteen = (types.UniTuple(types.float32, n) for n in (4, 16))

    def codegen(context, builder, sig, args):
        values = [builder.extract_value(each, i) for each, n in zip(args, (16, 4, 4), strict=True) for i in range(n)]
        kind = ir.FunctionType(ir.LiteralStructType([SINGLE] * 16), [SINGLE] * 24)
        result = builder.call(ir.InlineAsm(kind, text, constraints), values)
        return context.make_tuple(builder, sig.return_type, [builder.extract_value(result, i) for i in range(16)])

    return sixteen(sixteen, four, four), codegen


@intrinsic
def viewed(typingctx, pointer, dtype):
    """The same place, holding elements of another dtype."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], context.get_value_type(sig.return_type))

    return Pointer(dtype.dtype, pointer.space)(pointer, dtype), codegen


@intrinsic
def opaque(typingctx, value):
    """The same integer or pointer, of which the compiler knows nothing.

    So it makes no copies of a loop, for each case of a choice or for some turns at once, and keeps a pointer instead of
    finding it anew.
    """
    pointer = isinstance(value, Pointer)
    value = value if pointer or value == types.int32 else types.int64
    kind, letter = (I32, "r") if value == types.int32 or pointer and value.space == SHARED else (I64, "l")
    assembly = ir.InlineAsm(ir.FunctionType(kind, [kind]), f"mov.b{kind.width} $0, $1;", f"={letter},{letter}", True)

    def codegen(context, builder, sig, args):
        if not pointer:
            return builder.call(assembly, args)
        return builder.inttoptr(builder.call(assembly, [builder.ptrtoint(args[0], kind)]), args[0].type)

    return value(value), codegen


@intrinsic
def quotient(typingctx, a, b):
    """a // b for numbers from 0 to 2^32: a fifth of the instructions that 64 bits take."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.udiv(*(builder.trunc(x, I32) for x in args)), I64)

    return types.int64(types.int64, types.int64), codegen


def _on_a_word(text, operands):
    """An instruction on a 32-bit integer in global memory that also orders other accesses."""

    @intrinsic
    def operation(typingctx, pointer, value):
        def codegen(context, builder, sig, args):
            values = [builder.ptrtoint(args[0], I64), args[1]][:operands]
            kind = ir.FunctionType(I32, [v.type for v in values])
            constraints = ",".join(["=r", "l", "r"][: 1 + operands]) + ",~{memory}"
            return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=True), values)

        return types.uint32(pointer, types.uint32), codegen

    return operation


atomic_add_release = _on_a_word("atom.add.release.gpu.u32 $0, [$1], $2;", 2)
load_acquire = _on_a_word("ld.acquire.gpu.u32 $0, [$1];", 1)


def _nearly(text):
    """A function of a float32 number to within 1 or 2 ulp, in one instruction; what is subnormal counts as zero."""

    @intrinsic
    def operation(typingctx, x):
        def codegen(context, builder, sig, args):
            return builder.call(ir.InlineAsm(ir.FunctionType(SINGLE, [SINGLE]), f"{text} $0, $1;", "=f,f"), args)

        return types.float32(types.float32), codegen

    return operation


near_reciprocal, near_reciprocal_root = _nearly("rcp.approx.ftz.f32"), _nearly("rsqrt.approx.ftz.f32")


def _rounding(text, operands):
    """An instruction that rounds float32 numbers, and leaves 32 bits for the tensor cores."""
    constraints = ",".join(["=r", *["f"] * operands])

    def codegen(context, builder, sig, args):
        return builder.call(ir.InlineAsm(ir.FunctionType(I32, [SINGLE] * operands), text, constraints), args[::-1])

    return types.uint32(*[types.float32] * operands), codegen


@intrinsic
def tf32_of(typingctx, x):
    """The tf32 number nearest to a float32, ties away from zero."""
    return _rounding("cvt.rna.tf32.f32 $0, $1;", 1)


@intrinsic
def bf16_pair(typingctx, low, high):
    """The bfloat16 numbers nearest to two of float32, ties to even, in the lower and the upper half of a word."""
    return _rounding("cvt.rn.bf16x2.f32 $0, $1, $2;", 2)  # which takes the upper half first


def _multiply_add(shape_and_types):
    """D = A B + C by the 32 lanes of a warp, each with its share of the matrices, as the PTX manual lays them out.

    A has 16 rows, B 8 columns; both hold eight words along the sum, of one tf32 or two bfloat16 numbers each.
    """
    places = [f"${i}" for i in range(14)]
    groups = (places[:4], places[4:8], places[8:10], places[10:])
    text = f"mma.sync.aligned.{shape_and_types} " + ", ".join("{" + ", ".join(g) + "}" for g in groups) + ";"
    constraints = ",".join(["=f"] * 4 + ["r"] * 6 + ["f"] * 4)
    words, singles = [types.uint32] * 6, [types.float32] * 4

    @intrinsic
    def multiply_add(typingctx, a0, a1, a2, a3, b0, b1, c0, c1, c2, c3):
        def codegen(context, builder, sig, args):
            kind = ir.FunctionType(ir.LiteralStructType([SINGLE] * 4), [I32] * 6 + [SINGLE] * 4)
            # convergent: no lane may be led around it
            result = builder.call(ir.InlineAsm(kind, text, constraints), args, attrs=("convergent",))
            return context.make_tuple(builder, sig.return_type, [builder.extract_value(result, i) for i in range(4)])

        return types.UniTuple(types.float32, 4)(*words, *singles), codegen

    return multiply_add


mma_tf32 = _multiply_add("m16n8k8.row.col.f32.tf32.tf32.f32")
mma_bf16 = _multiply_add("m16n8k16.row.col.f32.bf16.bf16.f32")


@intrinsic
def shared_address(typingctx, pointer):
    """Where a pointer to shared memory points, in bytes from its start."""

    def codegen(context, builder, sig, args):
        return builder.zext(builder.ptrtoint(args[0], I32), I64)

    return types.int64(pointer), codegen


def _on_a_barrier(text):
    """An instruction on a barrier in shared memory, which a pointer to eight bytes names, and on a number."""

    @intrinsic
    def operation(typingctx, barrier, number):
        def codegen(context, builder, sig, args):
            values = builder.ptrtoint(args[0], I32), builder.trunc(args[1], I32)
            kind = ir.FunctionType(VOID, [I32, I32])
            builder.call(ir.InlineAsm(kind, text, "r,r,~{memory}", side_effect=True), values)
            return context.get_dummy_value()

        return types.void(barrier, types.int64), codegen

    return operation


# A barrier goes from phase to phase: each is over when `number` threads have arrived and all bytes that were announced
# have come. Its first phase is number 0.
init_barrier = _on_a_barrier("mbarrier.init.shared.b64 [$0], $1;")
publish_barriers = _bare("fence.mbarrier_init.release.cluster;")  # before the first copy in bulk, and a barrier of all
arrive = _on_a_barrier("mbarrier.arrive.shared.b64 _, [$0], $1;")  # as so many
arrive_and_expect = _on_a_barrier("mbarrier.arrive.expect_tx.shared.b64 _, [$0], $1;")  # so many bytes
# Until the current phase is over, if its number has this parity: so nobody waits for 1 at a new barrier
await_phase = _on_a_barrier(
    "{ .reg .pred done; again: mbarrier.try_wait.parity.shared.b64 done, [$0], $1; @!done bra again; }"
)


@intrinsic
def copy_in_bulk(typingctx, to, source, size, barrier):
    """Queue the copy of bytes, a multiple of 16 like both places, from global to shared memory; a barrier awaits it."""
    text = "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], $2, [$3];"

    def codegen(context, builder, sig, args):
        to, barrier = (builder.ptrtoint(args[i], I32) for i in (0, 3))
        values = to, builder.ptrtoint(args[1], I64), builder.trunc(args[2], I32), barrier
        kind = ir.FunctionType(VOID, [I32, I64, I32, I32])
        builder.call(ir.InlineAsm(kind, text, "r,l,r,r,~{memory}", side_effect=True), values)
        return context.get_dummy_value()

    return types.void(to, source, types.int64, barrier), codegen


SUMS = 128  # of a lane, of 64 x 256 in a warpgroup
STEPS = 4  # along the sum in a panel of 128 bytes


def _group_multiply_add(kinds, majors):
    """Sums of 64 x 256 += A B, by the 128 lanes of a warpgroup: A has 64 lines, B 256, of a panel in shared memory.

    The panels are given by descriptors, as the PTX manual has them for operands whose numbers follow one another along
    the sum. The product goes on by itself: its sums are there, and the panels free, after `await_products`.
    """
    places = "{" + ",".join(f"${i}" for i in range(SUMS)) + "}"
    each = f"wgmma.mma_async.sync.aligned.{kinds} {places}, a, b, 1, 1, 1{majors};"
    next_step = "add.s64 a, a, 2; add.s64 b, b, 2;"  # 32 bytes, in units of 16
    # one piece of assembly: products between which the assembler finds anything else wait for one another
    text = f"{{ .reg .b64 a, b; mov.b64 a, ${2 * SUMS}; mov.b64 b, ${2 * SUMS + 1}; wgmma.fence.sync.aligned; "
    text += f" {next_step} ".join([each] * STEPS) + " wgmma.commit_group.sync.aligned; }"
    constraints = ",".join(["=f"] * SUMS + [str(i) for i in range(SUMS)] + ["l", "l", "~{memory}"])
    singles = types.UniTuple(types.float32, SUMS)

    @intrinsic
    def multiply_add(typingctx, sums, a, b):
        def codegen(context, builder, sig, args):
            values = [builder.extract_value(args[0], i) for i in range(SUMS)]
            kind = ir.FunctionType(ir.LiteralStructType([SINGLE] * SUMS), [SINGLE] * SUMS + [I64, I64])
            assembly = ir.InlineAsm(kind, text, constraints, side_effect=True)
            result = builder.call(assembly, [*values, *args[1:]], attrs=("convergent",))
            return context.make_tuple(builder, sig.return_type, [builder.extract_value(result, i) for i in range(SUMS)])

        return singles(singles, types.int64, types.int64), codegen

    return multiply_add


wgmma_tf32 = _group_multiply_add("m64n256k8.f32.tf32.tf32", "")
wgmma_bf16 = _group_multiply_add("m64n256k16.f32.bf16.bf16", ", 0, 0")
# Until all products of this warpgroup are done, or all but the last panel's
await_products = _bare("wgmma.wait_group.sync.aligned 0;", ("convergent",))
await_products_but_one = _bare("wgmma.wait_group.sync.aligned 1;", ("convergent",))


@intrinsic
def store_sums(typingctx, pointer, sums, by_row, by_part):
    """Write the sums that a lane holds of 64 x 256; `pointer`: where the first one goes.

    They are pairs of columns, in two rows that are eight apart, every eight columns; `by_part`: elements from 64
    columns to the next 64.
    """

    def codegen(context, builder, sig, args):
        pair = ir.VectorType(SINGLE, 2)
        for half in range(2):
            for eight in range(SUMS // 4):
                value = ir.Constant(pair, ir.Undefined)
                for i in range(2):
                    number = builder.extract_value(args[1], 4 * eight + 2 * half + i)
                    value = builder.insert_element(value, number, I32(i))
                row, part = builder.mul(args[2], I64(8 * half)), builder.mul(args[3], I64(eight // 8))
                place = builder.gep(args[0], [builder.add(builder.add(row, part), I64(eight % 8 * 8))])
                builder.store(value, builder.bitcast(place, pair.as_pointer(SHARED)), align=8)
        return context.get_dummy_value()

    return types.void(pointer, sums, types.int64, types.int64), codegen

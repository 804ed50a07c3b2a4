"""The tile unit of a CPU: products of bfloat16 numbers, summed in float32.

Eight tile registers hold 16 rows of 64 bytes each. A tile of A holds 16 rows of 32 terms; one of B 16 pairs of terms,
each of 16 columns, the two terms of a pair side by side.
"""

import ctypes
import functools
import sys

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..compiler import KNOWS_BFLOAT
from ..options import COMPILED, has_bfloat16_tiles
from .memory import I64, fetch
from .plain import replace_primitives
from .registers import I32, Vector, call_llvm, load_vector, store_vector
from .tile import transposed

LINES = 16  # of a tile
# Cache lines of what comes next that are fetched in a step. The product of 1024 x 1024 by 1024 x 128, the weights from
# the third-level cache, then made 1,880 GFLOP/s on a Xeon (Emerald Rapids) instead of 1,230; 16 or 32 are no better.
AHEAD = 8
_LINE, _TILE = 64, 1024  # bytes
_I8, _I16 = ir.IntType(8), ir.IntType(16)

# Linux lets a process use the tile registers when it has asked once (arch_prctl(2): ARCH_REQ_XCOMP_PERM, TILEDATA)
_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


@functools.cache
def works():
    """Whether this machine has the unit, and the system lets this process use it."""
    if not (has_bfloat16_tiles() and sys.platform == "linux"):
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST, _TILE_DATA) == 0


class _BFloat(ir.Type):
    """LLVM's type of a bfloat16 number, which llvmlite lacks."""

    def _to_string(self):
        return "bfloat"


def _byte(builder, pointer, offset=0):
    """Pointer to a byte, `offset` bytes after a pointer."""
    start = builder.bitcast(pointer, _I8.as_pointer())
    return builder.gep(start, [ir.Constant(I64, offset) if isinstance(offset, int) else offset])


def _unit(builder, name, *values):
    call_llvm(builder, f"llvm.x86.{name}", ir.VoidType(), *values)


def _number(register):
    return ir.Constant(_I8, register)


@intrinsic
def configure_tiles(typingctx):
    """Let this thread use all tile registers, at full size, until `release_tiles`."""

    def codegen(context, builder, sig, args):
        layout = bytearray(64)
        layout[0] = 1
        for register in range(8):
            layout[16 + 2 * register] = _LINE
            layout[48 + register] = LINES
        place = cgutils.global_constant(builder, "fastnn_tiles", cgutils.make_bytearray(layout))
        _unit(builder, "ldtilecfg", _byte(builder, place))
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def release_tiles(typingctx):
    """Give the tile registers up: they are as in a thread that has used none, and cost nothing when it is switched."""

    def codegen(context, builder, sig, args):
        _unit(builder, "tilerelease")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def multiply_tiles(typingctx, steps, a, b, c, stride, adds, ahead):
    """C (32, 32) = A (32, 32 steps) B (32 steps, 32), plus C where `adds` is not 0.

    `a` and `b` hold two tiles for each step, one after another; rows of C are `stride` elements apart. AHEAD lines a
    step from `ahead` on are fetched into the second-level cache, wherever they are.
    """

    def codegen(context, builder, sig, args):
        steps, a, b, c, stride, adds, ahead = args
        line, span = ir.Constant(I64, _LINE), builder.mul(stride, ir.Constant(I64, 4))
        low = _byte(builder, c, builder.mul(span, ir.Constant(I64, LINES)))
        sums = [_byte(builder, c), _byte(builder, c, _LINE), low, _byte(builder, low, _LINE)]
        with builder.if_else(builder.icmp_signed("!=", adds, ir.Constant(I64, 0))) as (more, none):
            with more:
                for i, place in enumerate(sums):
                    _unit(builder, "tileloadd64", _number(i), place, span)
            with none:
                for i in range(4):
                    _unit(builder, "tilezero", _number(i))
        with cgutils.for_range(builder, steps) as loop:
            at, next_at = (builder.mul(loop.index, ir.Constant(I64, n)) for n in (2 * _TILE, AHEAD * _LINE))
            p, q = _byte(builder, a, at), _byte(builder, b, at)
            for i in range(AHEAD):
                fetch(builder, _byte(builder, _byte(builder, ahead, next_at), i * _LINE), 2)
            # each tile is loaded as late as the product that needs it first
            _unit(builder, "tileloadd64", _number(4), p, line)
            _unit(builder, "tileloadd64", _number(6), q, line)
            _unit(builder, "tdpbf16ps", _number(0), _number(4), _number(6))
            _unit(builder, "tileloadd64", _number(7), _byte(builder, q, _TILE), line)
            _unit(builder, "tdpbf16ps", _number(1), _number(4), _number(7))
            _unit(builder, "tileloadd64", _number(5), _byte(builder, p, _TILE), line)
            _unit(builder, "tdpbf16ps", _number(2), _number(5), _number(6))
            _unit(builder, "tdpbf16ps", _number(3), _number(5), _number(7))
        for i, place in enumerate(sums):
            _unit(builder, "tilestored64", _number(i), place, span)
        return context.get_dummy_value()

    return types.void(types.intp, a, b, c, types.intp, types.intp, ahead), codegen


def _rounded(builder, low, high):
    """32 bfloat16 numbers, as 16 pairs, from two registers of float32; rounded to nearest, ties to even."""
    kind = ir.VectorType(_BFloat() if KNOWS_BFLOAT else _I16, 32)
    value = call_llvm(builder, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", kind, high, low)
    return builder.bitcast(value, ir.VectorType(I32, 16))


def _interleaved(builder, pairs):
    """Pairs of one lane of either half, from pairs of neighbours within a half."""
    kind = ir.VectorType(_I16, 32)
    halves = builder.bitcast(pairs, kind)
    order = [lane + half for lane in range(16) for half in (0, 16)]
    mixed = builder.shuffle_vector(halves, halves, ir.Constant(ir.VectorType(I32, 32), order))
    return builder.bitcast(mixed, ir.VectorType(I32, 16))


@intrinsic(prefer_literal=True)
def round_tile(typingctx, source, stride, target, along, turned):
    """Write a tile of 16 lanes and 32 terms, rounded, from lines that are `stride` elements apart.

    `along` 1: a line holds the terms of a lane; 0: the lanes of a term. It becomes one of A with (1, 0) and (0, 1), one
    of B with (0, 0) and (1, 1): `turned` 1 swaps lanes and pairs of terms.
    """
    vector, pairs = Vector(source.dtype), Vector(types.int32)
    in_lines, turns = along.literal_value, turned.literal_value

    def codegen(context, builder, sig, args):
        source, stride, target = args[:3]
        target = builder.bitcast(target, I32.as_pointer())
        lines = []
        for i in range(LINES):
            first = builder.gep(source, [builder.mul(stride, ir.Constant(I64, i if in_lines else 2 * i))])
            second = builder.gep(first, [ir.Constant(I64, vector.width) if in_lines else stride])
            line = _rounded(builder, load_vector(builder, vector, first), load_vector(builder, vector, second))
            lines.append(line if in_lines else _interleaved(builder, line))
        for i, line in enumerate(transposed(builder, lines) if turns else lines):
            store_vector(builder, pairs, line, builder.gep(target, [ir.Constant(I64, LINES * i)]))
        return context.get_dummy_value()

    return types.void(source, types.intp, target, along, turned), codegen


if not COMPILED:
    replace_primitives(globals())

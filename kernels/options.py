"""The choices about compilation: fastmath sets, vector width, tile shape, threads.

Nothing here touches the CPU or compiles at import: the target is read when the first kernel is typed.
"""

import functools

import numba

from .threads import uninterrupted

# Products and reductions may be reordered; elementary functions, losses and finite checks may only be contracted:
# reassoc turns the error of a range reduction from 1.5e-8 into 2.4e-7. Never nnan or ninf: divergence must be seen.
FAST = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
EXACT = frozenset({"contract"})

# For GPUs there is one set: multiplications and additions are contracted, as in EXACT, by default, and
# numba-cuda's `fastmath` holds nnan and ninf. Device functions become part of their kernel.
GPU_KERNEL = {"fastmath": False}
GPU_DEVICE = {"device": True, "forceinline": True}

# False with NUMBA_DISABLE_JIT=1: kernels are plain Python then, over the primitives of cpu/plain.py.
COMPILED = not numba.config.DISABLE_JIT


@functools.cache
def target():
    """(triple, cpu name, feature string) that Numba compiles for."""
    from numba.core.registry import cpu_target

    return uninterrupted(lambda: cpu_target.target_context.codegen().magic_tuple())


@functools.cache
def _features():
    return frozenset(target()[2].split(","))


@functools.cache
def vector_bytes():
    """Bytes in one SIMD register of the machine that Numba compiles for."""
    features = _features()
    if "+avx512f" in features:
        return 64
    return 32 if "+avx" in features else 16


def lanes(bits):
    """Number of elements of `bits` bits in one SIMD register."""
    return 8 * vector_bytes() // bits


@functools.cache
def has_fma():
    """Whether a fused multiply-add is one instruction."""
    return not is_x86() or bool(_features() & {"+fma", "+avx512f"})


@functools.cache
def has_bfloat16_tiles():
    """Whether products of bfloat16 numbers have a unit of their own (Intel's AMX)."""
    return is_x86() and vector_bytes() == 64 and {"+amx-tile", "+amx-bf16", "+avx512bf16"} <= _features()


def is_x86():
    """Whether Numba compiles for x86-64."""
    return target()[0].startswith("x86_64")


# A register tile is rows x VECTORS registers of sums; VECTORS more hold a row of B, one the scalar of A.
VECTORS = 2


@functools.cache
def tile_rows():
    """Heights of the register tiles, tallest first: 8 x 2 needs 32 registers (AVX-512, NEON), 6 x 2 fits in 16."""
    return (8, 4, 2, 1) if vector_bytes() == 64 or not is_x86() else (6, 4, 2, 1)


@functools.cache
def packs_panels():
    """Whether products bring operands whose rows lie far apart together, in panels as wide as the register tile.

    Not on Zen, where what stands was measured: a product of 192 and more reached MKL's speed without.
    """
    return not target()[1].startswith("znver")


def default_threads():
    """Threads used where the caller names none: NUMBA_NUM_THREADS, else the cores that this process may use."""
    return numba.config.NUMBA_NUM_THREADS


# Bytes of shared memory that a block of a GPU gets without a further request, on any card (CUDA C Programming Guide)
SHARED_BYTES = 48 << 10

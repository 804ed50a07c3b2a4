"""Other processors than this one: narrower vectors by running them, NEON by reading the code made for it."""

import json
import re
import subprocess
import sys

import pytest
from llvmlite.binding import llvm_version_info
from subprocesses import TESTS, environment, python

from fastnn.kernels import options

X86 = pytest.mark.skipif(not options.is_x86(), reason="these are x86-64 processors")
# name: (what Numba is told, bytes in a register, fused multiply-add)
MACHINES = {
    "AVX2": (dict(NUMBA_CPU_NAME="haswell", NUMBA_CPU_FEATURES="+sse2,+avx,+avx2,+fma,-avx512f"), 32, True),
    "SSE2": (dict(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="+sse2"), 16, False),
}
# with the features of this one, for a processor on which products choose otherwise
MACHINES["AMD" if options.packs_panels() else "Intel"] = (
    dict(NUMBA_CPU_NAME="znver4" if options.packs_panels() else "skylake-avx512"),
    options.vector_bytes(),
    options.has_fma(),
)
NUMBERS = [
    f"test_{name}.py"
    for name in ("matmul", "dense", "activations", "losses", "updates", "training", "vmath", "rng", "determinism")
]


def machines(*slow):
    """Parameters of `machine`, of which some are slow."""
    return pytest.mark.parametrize(
        "machine",
        [pytest.param(name, marks=pytest.mark.slow if name in slow else ()) for name in MACHINES],
        indirect=True,
    )


@pytest.fixture(scope="session")
def machine(request, tmp_path_factory):
    """(environment of that machine, bytes in a register, fused multiply-add)."""
    variables, width, fused = MACHINES[request.param]
    return variables | {"FASTNN_CACHE_DIR": tmp_path_factory.mktemp(request.param)}, width, fused


SAMPLE = """
import numpy as np
import jobs
from fastnn.kernels import options
assert (options.vector_bytes(), options.has_fma()) == {expected}
{jobs}
print("right")
"""


@X86
@machines("AVX2")
def test_a_kernel_on_other_machines(machine):
    variables, *expected = machine
    jobs = "jobs.update('float32'); jobs.product('float32')"
    assert python(SAMPLE.format(expected=tuple(expected), jobs=jobs), **variables) == "right\n"


@X86
@pytest.mark.slow
@machines()
def test_nets_on_other_machines(machine):
    variables, *expected = machine
    jobs = "\n".join(f"jobs.{job}('{dtype}')" for dtype in ("float32", "float64") for job in ("train", "bits"))
    assert python(SAMPLE.format(expected=tuple(expected), jobs=jobs), **variables) == "right\n"


@X86
@pytest.mark.slow
@machines()
@pytest.mark.parametrize("file", NUMBERS)
def test_the_numbers_on_other_machines(machine, file):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow", str(TESTS / file)]
    done = subprocess.run(
        command, cwd=TESTS.parent, env=environment(**machine[0]), capture_output=True, text=True, timeout=1200
    )
    assert done.returncode == 0, done.stdout


ARM = '''
import json
from llvmlite import binding as llvm
from numba import typeof
from numba.core import codegen
import numpy as np

TARGET, CPU, FEATURES = "aarch64-unknown-linux-gnu", "generic", "+neon"
codegen.CPUCodegen.magic_tuple = lambda self: (TARGET, CPU, FEATURES)  # what fastnn asks Numba for

from fastnn.kernels import compiler, cpu, options
from fastnn.kernels.cpu import vmath

assert (options.vector_bytes(), options.has_fma(), options.is_x86()) == (16, True, False)
llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()
machine = llvm.Target.from_triple(TARGET).create_target_machine(cpu=CPU, features=FEATURES, opt=3)


def assembly(kernel, *arguments):
    """What LLVM makes of a kernel for that machine."""
    inner = compiler.jit(options.FAST)(kernel.py_func)
    inner.compile(tuple(typeof(argument) for argument in arguments))
    (result,) = inner.overloads.values()
    module = llvm.parse_assembly(str(result.library._final_module))
    for library in result.library._linking_libraries:
        if library.name != "nrt":  # Numba's memory management: machine code of this machine
            module.link_in(library._get_module_for_linking(), preserve=True)
    module.triple, module.data_layout = TARGET, str(machine.target_data)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    passes.getModulePassManager().run(module, passes)
    return machine.emit_assembly(module)


v, m = np.ones(5, dtype), np.ones((2, 2), dtype)
codes = {
    "product": assembly(cpu.matmul, m, m, v, m),
    "elementary": assembly(vmath.evaluate, vmath.TANH, v, v),
    "adam": assembly(cpu.adam_update, v, v, v, v, 0.1, 0.9, 0.99, 1e-8, 0.0, 0.0, 1),
}
print(json.dumps(codes))
'''


SHAPE = {"float32": "4s", "float64": "2d"}
KERNELS = ("product", "elementary", "adam")
# besides fastnn's own functions: reference counts of the arguments, an edge set to zero, beta ** step
HARMLESS = {"NRT_incref", "NRT_decref", "memset", "pow"}


@pytest.fixture(scope="module", params=["float32", pytest.param("float64", marks=pytest.mark.slow)])
def dtype(request):
    return request.param


@pytest.fixture(scope="module")
def arm(dtype, tmp_path_factory):
    """{kernel: assembly for 64-bit ARM}."""
    return json.loads(python(f"dtype = {dtype!r}\n{ARM}", FASTNN_CACHE_DIR=tmp_path_factory.mktemp("arm")))


def innermost(code, instruction):
    """The basic block with most of an instruction, as (number of it, lines)."""
    blocks = re.split(r"^[.\w]+:.*$", code, flags=re.MULTILINE)
    return max((len(re.findall(rf"^\s+{instruction}\b", block, re.MULTILINE)), block) for block in blocks)


def operands(instruction, dtype):
    """Pattern of an instruction on whole vectors."""
    return rf"{instruction}\s+v\d+\.{SHAPE[dtype]}"


@pytest.mark.skipif(llvm_version_info < (20,), reason="LLVM 15, of Numba 0.61, keeps some of the sums on the stack")
def test_the_product_for_neon_keeps_its_sums_in_registers(arm, dtype):
    code = arm["product"]
    # 8 x 2 sums, four times unrolled: as many instructions as products, none of them on the stack
    count, block = innermost(code, operands("fmla", dtype))
    assert count == 64
    assert "[sp" not in block
    assert len(re.findall(r"\bld1r\b|\bld1\b", block)) == 32
    assert len(re.findall(r"\bldp\s+q", block)) + len(re.findall(r"\bldr\s+q", block)) / 2 == 4


def test_elementary_functions_for_neon_are_vectors_all_through(arm, dtype):
    code = arm["elementary"]
    assert len(re.findall(operands("fmla", dtype), code)) > 50
    assert not re.search(r"^\s+bl\s", code, re.MULTILINE)
    assert not re.search(r"^\s+(fmadd|fmul|fdiv)\s+[sd]\d", code, re.MULTILINE)


def test_the_update_for_neon_goes_by_whole_vectors(arm, dtype):
    code = arm["adam"]
    for instruction in ("fmla", "fsqrt", "fdiv"):
        assert re.search(rf"^\s+{operands(instruction, dtype)}", code, re.MULTILINE), instruction
    # theta, the gradient and two moments
    assert len(re.findall(r"^\s+ldr\s+q\d+, \[x\d+\]", code, re.MULTILINE)) >= 4
    assert len(re.findall(r"^\s+str\s+q\d+, \[x\d+\]", code, re.MULTILINE)) >= 3


@pytest.mark.parametrize("kernel", KERNELS)
def test_code_for_neon_calls_no_elementary_function_of_the_system(arm, kernel):
    called = set(re.findall(r"^\s+bl\s+(\S+)", arm[kernel], re.MULTILINE))
    assert {name for name in called if not name.startswith(("_ZN6fastnn", "fastnn_"))} <= HARMLESS

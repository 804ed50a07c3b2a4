"""Instructions of an NVIDIA GPU of compute capability 9.0, read from a listing and run on 32 lanes of NumPy.

`listing(cubin)` gives the instructions of a kernel. Each has what it does to a warp, and what the assembler wrote for
the scheduler: cycles until the next one may begin, the counters (scoreboards) that it raises until its numbers are
there or its operands are read, and those that it waits for. `multiprocessor.py` runs them in time.

What an instruction computes is that of NVIDIA's lists of instruction sets ("CUDA Binary Utilities"), found out where
these say only its name: nets trained by it have the parameters that the CPU gives them. Approximations (MUFU) are
rounded to nearest, and an FFMA is rounded from 64 bits. Only instructions that the loops use are known; any other is a
NotImplementedError that names it. A register is a row of 32 lanes of 32 bits, a uniform one, too.
"""

import functools
import re
import subprocess
import sysconfig
from pathlib import Path

import numpy as np

LANES, NONE, TRUE = 32, 255, 7  # RZ, and PT
WORD, SINGLE, LONG, WIDE = np.uint32, np.float32, np.int64, np.uint64
MEMORY_FROM = 4096  # the first address that `memory` holds
PARAMETERS_AT = 0x210  # in the bank of constants, which the shape of the launch begins
HEAD = re.compile(r"^\s+/\*([0-9a-f]{4,6})\*/\s+(.*?)\s*;?\s*/\* 0x[0-9a-f]{16} \*/")
TAIL = re.compile(r"^\s+/\* (0x[0-9a-f]{16}) \*/")
COMPARED = dict(LT=np.less, EQ=np.equal, LE=np.less_equal, GT=np.greater, NE=np.not_equal, GE=np.greater_equal)
JOINED = dict(AND=np.logical_and, OR=np.logical_or, XOR=np.logical_xor)
TYPES = ("U32", "S32", "U64", "S64")


class Instruction:
    """One instruction: `act(warp, lanes)` writes what it computes for a mask of lanes.

    `name`, `modifiers`: "ISETP" and ["GE", "AND"]. `guard(warp)`: the lanes that take part, None for all. `stall`,
    `raises`, `reads` and `awaits` are the scheduler's. `kind`: "" for arithmetic, "memory" where `act` gives (cycles,
    wavefronts), else what it does to control. `unit`: which part of a multiprocessor it takes. `target`: of a jump.
    """

    def __init__(self, at, text):
        self.at, self.text, self.kind, self.unit, self.target, self.act = at, text, "", "alu", None, None
        guard, _, rest = text.partition(" ") if text.startswith("@") else ("", "", text)
        self.guard = predicate(guard[1:]) if guard else None
        name, _, operands = rest.partition(" ")
        self.name, *self.modifiers = name.split(".")
        self.operands = [part.strip() for part in re.split(r",(?![^[]*\])", operands) if part.strip()]

    def schedule(self, high):
        """Read what the upper word of the encoding says to the scheduler."""
        self.stall, self.raises, self.reads = high >> 41 & 15, high >> 46 & 7, high >> 49 & 7
        self.awaits = [k for k in range(6) if high >> 52 + k & 1]

    def has(self, *modifiers):
        return any(each in self.modifiers for each in modifiers)


def disassembler():
    """Path of nvdisasm, or None."""
    inside = Path(sysconfig.get_path("purelib"), "nvidia").glob("*/bin/nvdisasm")
    return next((str(path) for path in inside), None)


def listing(cubin):
    """The instructions of the one kernel in a cubin, a path, in their order; jumps name places in that list."""
    text = subprocess.run([disassembler(), "-hex", "-c", cubin], capture_output=True, text=True, check=True).stdout
    found, labels, pending, inside = [], {}, [], False
    for line in text.splitlines():
        if line.lstrip().startswith(".section"):
            inside = ".text." in line
        if not inside:
            continue
        if label := re.match(r"^([.$\w]+):", line):
            pending.append(label[1])
        elif head := HEAD.match(line):
            labels |= dict.fromkeys(pending, len(found))
            pending = []
            found.append(Instruction(int(head[1], 16), re.sub(r"\s+", " ", head[2]).strip()))
        elif tail := TAIL.match(line):
            found[-1].schedule(int(tail[1], 16))
    for instruction in found:
        if label := re.search(r"`\((.*)\)", instruction.text):
            instruction.target = labels.get(label[1])
        MEANINGS.get(instruction.name.removeprefix("U"), MEANINGS.get(instruction.name, unknown))(instruction)
        if instruction.name[0] == "U" and instruction.name[1:] in MEANINGS:
            instruction.unit = "uniform"
    return found


def unknown(instruction):
    raise NotImplementedError(f"instruction must be one that the loops use; got {instruction.text!r}")


MEANINGS = {}


def meaning(*names):
    """Decorator of a function that completes an instruction of these names."""

    def decorate(function):
        MEANINGS.update(dict.fromkeys(names, function))
        return function

    return decorate


def computes(*names, unit="alu"):
    """Decorator of a function from an instruction to ([places to write], f(warp)), which gives what goes there."""

    def decorate(function):
        def complete(i):
            places, compute = function(i)
            i.unit = unit

            def act(warp, lanes):
                with np.errstate(all="ignore"):
                    values = compute(warp)
                for place, value in zip(places, values if isinstance(values, tuple) else (values,), strict=True):
                    place(warp, lanes, value)

            i.act = act

        return meaning(*names)(complete)

    return decorate


# Operands

REGISTER, PREDICATE = re.compile(r"^(U?)R(\d+|Z)"), re.compile(r"^!?U?P(\d|T)$")


def numbered(text):
    """(whether it is uniform, number) of a register."""
    found = REGISTER.match(text)
    return bool(found[1]), NONE if found[2] == "Z" else int(found[2])


def file_of(warp, uniform):
    return warp.uniform if uniform else warp.registers


@functools.cache
def bits(text):
    """f(warp) for an operand as 32 bits: a register, a number or a constant; - and ~ are those of integers."""
    text = text.replace(".reuse", "")
    if text[0] == "~":
        inner = bits(text[1:])
        return lambda warp: ~inner(warp)
    if text[0] == "-" and not text[1].isdigit():
        inner = bits(text[1:])
        return lambda warp: WORD(0) - inner(warp)
    if REGISTER.match(text):
        uniform, n = numbered(text)
        return (lambda warp: warp.uniform[n]) if uniform else (lambda warp: warp.registers[n])
    if text.startswith("c["):
        at = 0 if text.endswith("[RZ]") else int(re.search(r"\[(0x\w+)\]$", text)[1], 16)
        return lambda warp: np.full(LANES, warp.constants[at >> 2], WORD)
    value = np.full(LANES, int(text, 0) & 0xFFFFFFFF, WORD)
    return lambda warp: value


@functools.cache
def single(text):
    """f(warp) for an operand as float32."""
    text = text.replace(".reuse", "").strip()
    if text[0] == "-" and text[1] in "|RUc":
        inner = single(text[1:])
        return lambda warp: -inner(warp)
    if text[0] == "|":
        inner = single(text.strip("|"))
        return lambda warp: np.abs(inner(warp))
    if text[0] in "RUc":
        inner = bits(text)
        return lambda warp: inner(warp).view(SINGLE)
    special = {"+INF": np.inf, "-INF": -np.inf, "+QNAN": np.nan, "-QNAN": np.nan}
    value = np.full(LANES, special[text] if text in special else float(text), SINGLE)
    return lambda warp: value


@functools.cache
def pair(text):
    """f(warp) for two registers as one number of 64 bits."""
    uniform, n = numbered(text)
    if n == NONE:
        return lambda warp: np.zeros(LANES, WIDE)
    return lambda warp: joined(file_of(warp, uniform)[n + 1], file_of(warp, uniform)[n])


@functools.cache
def predicate(text):
    """f(warp) for a predicate."""
    negated, uniform, text = text[0] == "!", "U" in text, text.lstrip("!U")
    n = TRUE if text == "PT" else int(text[1:])

    def read(warp):
        value = (warp.uniform_predicates if uniform else warp.predicates)[n]
        return ~value if negated else value

    return read


def joined(high, low):
    return low.astype(WIDE) | high.astype(WIDE) << WIDE(32)


def signed(value):
    return value.view(np.int32).astype(LONG)


def writes(text):
    """A place to write: a register, of which a uniform one takes the first lane's value."""
    uniform, n = numbered(text)

    def place(warp, lanes, value):
        if n != NONE and lanes.any():
            value = np.broadcast_to(np.asarray(value), LANES)
            value = value.view(WORD) if value.dtype == SINGLE else value.astype(WORD)
            np.copyto(file_of(warp, uniform)[n], value, where=True if uniform else lanes)

    return place


def writes_pair(text):
    uniform, n = numbered(text)
    letters = "UR" if uniform else "R"
    low, high = writes(f"{letters}{n}" if n != NONE else "RZ"), writes(f"{letters}{n + 1}" if n != NONE else "RZ")

    def place(warp, lanes, value):
        low(warp, lanes, value & WIDE(0xFFFFFFFF))
        high(warp, lanes, value >> WIDE(32))

    return place


def writes_predicate(text):
    uniform, n = "U" in text, TRUE if text.endswith("PT") else int(text.lstrip("U")[1:])

    def place(warp, lanes, value):
        if n != TRUE and lanes.any():
            np.copyto((warp.uniform_predicates if uniform else warp.predicates)[n], value, where=uniform or lanes)

    return place


def leading_predicates(operands, start=1):
    """(those from `start` on that are predicates to write, the place behind them)."""
    end = start
    while PREDICATE.match(operands[end]):
        end += 1
    return [writes_predicate(text) for text in operands[start:end]], end


def address(text):
    """f(warp) for the addresses of [R2.64+UR4+0x10]."""
    parts, offset, terms = text[text.rindex("[") + 1 : -1].replace("+-", "+ -").split("+"), 0, []
    for part in map(str.strip, parts):
        if re.match(r"^-?0x", part):
            offset += int(part, 16)
        elif not part.startswith(("RZ", "URZ")):
            wide, scale = ".64" in part, re.search(r"\.X(\d+)", part)
            terms.append(
                (pair(part.split(".")[0]) if wide else bits(part.split(".")[0]), int(scale[1]) if scale else 1)
            )
    return lambda warp: sum((read(warp).astype(LONG) * scale for read, scale in terms), np.full(LANES, offset, LONG))


# Integers


@computes("IADD3")
def _(i):
    carries, at = leading_predicates(i.operands)
    terms, extra = i.operands[at : at + 3], [predicate(text) for text in i.operands[at + 3 :]]
    negated = sum(text[0] == "-" and not text[1].isdigit() for text in terms)  # -x is ~x + 1, which carries
    reads = [bits("~" + text[1:] if text[0] == "-" and not text[1].isdigit() else text) for text in terms]

    def add(warp):
        total = sum((read(warp).astype(LONG) for read in reads), LONG(negated))
        total = sum((read(warp).astype(LONG) for read in extra), total)
        return (total & 0xFFFFFFFF, *(total >> 32 > n for n in range(len(carries))))

    return [writes(i.operands[0]), *carries], add


@computes("VIADD")
def _(i):
    a, b = map(bits, i.operands[1:])
    return [writes(i.operands[0])], lambda warp: a(warp) + b(warp)


def _multiplied(i):
    """(f(warp), places of the carry, number of the third operand): the products, of 64 bits."""
    carries, at = leading_predicates(i.operands)
    a, b = bits(i.operands[at]), bits(i.operands[at + 1])
    whole = (lambda x: x.astype(WIDE)) if i.has("U32") else (lambda x: signed(x).view(WIDE))
    return lambda warp: whole(a(warp)) * whole(b(warp)), carries, at + 2


@computes("IMAD", unit="heavy")
def _(i):
    if i.has("WIDE", "HI"):
        product, carries, at = _multiplied(i)
        c, more = pair(i.operands[at]), [predicate(text) for text in i.operands[at + 1 :]]

        def add(warp):
            first = product(warp)
            total = sum((read(warp).astype(WIDE) for read in more), first + c(warp))
            return (total >> WIDE(32) if i.has("HI") else total, *[total < first] * len(carries))

        return [(writes if i.has("HI") else writes_pair)(i.operands[0]), *carries], add
    a, b, c = map(bits, i.operands[1:4])
    more = [predicate(text) for text in i.operands[4:]]
    return [writes(i.operands[0])], lambda warp: sum(
        (read(warp).astype(WORD) for read in more), a(warp) * b(warp) + c(warp)
    )


@computes("LEA")
def _(i):
    carries, at = leading_predicates(i.operands)
    a, b, high, wide = bits(i.operands[at]), bits(i.operands[at + 1]), i.has("HI"), i.has("SX32")
    at += 2
    above = bits(i.operands[at]) if high and not wide else None
    at += above is not None
    shift, more = int(i.operands[at], 0), [predicate(text) for text in i.operands[at + 1 :]]

    def add(warp):
        low = a(warp)
        if wide:
            moved = signed(low) << shift >> 32 & 0xFFFFFFFF
        elif high:
            moved = (joined(above(warp), low) << WIDE(shift) >> WIDE(32)).astype(LONG)
        else:
            moved = low.astype(LONG) << shift & 0xFFFFFFFF
        total = sum((read(warp).astype(LONG) for read in more), moved + b(warp).astype(LONG))
        return (total & 0xFFFFFFFF, *[total >> 32 > 0] * len(carries))

    return [writes(i.operands[0]), *carries], add


@computes("SHF")
def _(i):
    low, by, high = map(bits, i.operands[1:4])
    kind = next(each for each in i.modifiers if each in TYPES)
    most = 31 if "32" in kind else 63

    def one(a, shift, c):
        shift = shift & most if i.has("W") else min(shift, most + 1)
        value = c << 32 | a
        if i.has("L"):
            return (value << shift >> 32 if i.has("HI") else a << shift) & 0xFFFFFFFF
        value = value - (1 << 64) if kind[0] == "S" and c >> 31 else value
        return (value >> shift >> (32 if i.has("HI") else 0)) & 0xFFFFFFFF

    def shifted(warp):
        lanes = zip(low(warp).tolist(), by(warp).tolist(), high(warp).tolist(), strict=True)
        return np.array([one(*each) for each in lanes], LONG)

    return [writes(i.operands[0])], shifted


def _by_table(inputs, rows):
    """A function of three bits: bit 4 a + 2 b + c of `rows`."""
    a, b, c = inputs
    value = a & ~a
    for k in range(8):
        if rows >> k & 1:
            value = value | (a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c)
    return value


@computes("LOP3")
def _(i):
    found, at = leading_predicates(i.operands, 0)
    inputs, rows = [bits(text) for text in i.operands[at + 1 : at + 4]], int(i.operands[at + 4], 0)

    def combine(warp):
        value = _by_table([read(warp) for read in inputs], rows)
        return (value, *[value != 0] * len(found))

    return [writes(i.operands[at]), *found], combine


@computes("PRMT")
def _(i):
    """Bytes of two numbers, the second one above the first, chosen by four bits each; the fourth spreads its sign."""
    low, chosen, high = map(bits, i.operands[1:4])

    def one(a, ways, c):
        found, value = c << 32 | a, 0
        for k in range(4):
            way = ways >> 4 * k & 15
            byte = found >> 8 * (way & 7) & 255
            value |= (byte if way < 8 else 255 * (byte >> 7)) << 8 * k
        return value

    def permuted(warp):
        lanes = zip(low(warp).tolist(), chosen(warp).tolist(), high(warp).tolist(), strict=True)
        return np.array([one(*each) for each in lanes], LONG)

    return [writes(i.operands[0])], permuted


@computes("PLOP3")
def _(i):
    inputs, rows = [predicate(text) for text in i.operands[2:5]], [int(text, 0) for text in i.operands[5:7]]
    return [writes_predicate(text) for text in i.operands[:2]], lambda warp: tuple(
        _by_table([read(warp) for read in inputs], each) for each in rows
    )


@computes("SEL")
def _(i):
    a, b, chosen = bits(i.operands[1]), bits(i.operands[2]), predicate(i.operands[3])
    return [writes(i.operands[0])], lambda warp: np.where(chosen(warp), a(warp), b(warp))


@computes("VIMNMX", "VIMNMX3", "VIADDMNMX", "IMNMX")
def _(i):
    reads, least = [bits(text) for text in i.operands[1:-1]], predicate(i.operands[-1])
    whole = (lambda x: x.astype(LONG)) if i.has("U32") else signed

    def extreme(warp):
        values = [read(warp) for read in reads]
        if i.name == "VIADDMNMX":
            values = [values[0] + values[1], values[2]]
        values = [whole(value) for value in values]
        return np.where(least(warp), np.minimum.reduce(values), np.maximum.reduce(values)) & 0xFFFFFFFF

    return [writes(i.operands[0])], extreme


@computes("ISETP")
def _(i):
    a, b, before = bits(i.operands[2]), bits(i.operands[3]), predicate(i.operands[4])
    low = predicate(i.operands[5]) if i.has("EX") else None  # what the lower halves of longer numbers gave
    whole = (lambda x: x.astype(LONG)) if i.has("U32") else signed
    how, join = i.modifiers[0], JOINED[next(each for each in i.modifiers if each in JOINED)]

    def compared(warp):
        x, y = whole(a(warp)), whole(b(warp))
        if low is None:
            found = COMPARED[how](x, y)
        elif how in ("NE", "EQ"):
            found = (x != y) | low(warp) if how == "NE" else (x == y) & low(warp)
        else:
            found = COMPARED[how[0] + "T"](x, y) | (x == y) & low(warp)
        return join(found, before(warp)), join(~found, before(warp))

    return [writes_predicate(text) for text in i.operands[:2]], compared


@computes("FLO", "POPC", unit="special")
def _(i):
    a = bits(i.operands[1])
    of_one = (lambda x: x.bit_count()) if "POPC" in i.name else (lambda x: x.bit_length() - 1 & 0xFFFFFFFF)
    return [writes(i.operands[0])], lambda warp: np.array([of_one(x) for x in a(warp).tolist()], LONG)


@computes("MOV")
def _(i):
    a = bits(i.operands[1])
    return [writes(i.operands[0])], lambda warp: a(warp)


# Floating point


def _rounded(value, modifiers):
    """A float32 from a longer number, by a way of rounding."""
    near = value.astype(SINGLE)
    if "RM" in modifiers:
        return np.where(near > value, np.nextafter(near, SINGLE(-np.inf)), near)
    if "RP" in modifiers:
        return np.where(near < value, np.nextafter(near, SINGLE(np.inf)), near)
    if "RZ" in modifiers:
        return np.where(np.abs(near) > np.abs(value), np.nextafter(near, SINGLE(0)), near)
    return near


@computes("FADD", "FMUL", "FFMA", unit="light")
def _(i):
    reads = [single(text) for text in i.operands[1:]]

    def calculated(warp):
        values = [read(warp).astype(np.longdouble if i.has("RM", "RP", "RZ") else np.float64) for read in reads]
        if i.name == "FADD":
            exact = values[0] + values[1]
        else:
            exact = values[0] * values[1] + (values[2] if i.name == "FFMA" else 0)
        value = _rounded(exact, i.modifiers)
        return np.where(np.isnan(value), SINGLE(0), np.clip(value, SINGLE(0), SINGLE(1))) if i.has("SAT") else value

    return [writes(i.operands[0])], calculated


@computes("FSEL")
def _(i):
    a, b, chosen = single(i.operands[1]), single(i.operands[2]), predicate(i.operands[3])
    return [writes(i.operands[0])], lambda warp: np.where(chosen(warp), a(warp), b(warp))


@computes("FMNMX")
def _(i):
    a, b, least = single(i.operands[1]), single(i.operands[2]), predicate(i.operands[3])
    low, high = (np.minimum, np.maximum) if i.has("NAN") else (np.fmin, np.fmax)
    return [writes(i.operands[0])], lambda warp: np.where(least(warp), low(a(warp), b(warp)), high(a(warp), b(warp)))


def _compared(how, a, b):
    unordered = np.isnan(a) | np.isnan(b)
    if how in ("NAN", "NUM"):
        return unordered if how == "NAN" else ~unordered
    found = COMPARED[how[:2]](a, b) & ~unordered
    return found | unordered if how[2:] == "U" else found


@computes("FSETP", "FSET")
def _(i):
    ways = [each for each in i.modifiers if each not in ("FTZ", "BF")]
    at = 1 if i.name == "FSET" else 2
    a, b, before = single(i.operands[at]), single(i.operands[at + 1]), predicate(i.operands[at + 2])

    def compared(warp):
        found = _compared(ways[0], a(warp), b(warp))
        first = JOINED[ways[1]](found, before(warp))
        if i.name == "FSET":
            return np.where(first, SINGLE(1), SINGLE(0))
        return first, JOINED[ways[1]](~found, before(warp))

    return [writes(i.operands[0])] if at == 1 else [writes_predicate(text) for text in i.operands[:2]], compared


@computes("FCHK", unit="special")
def _(i):
    """Whether a quotient wants the slow way: an exponent is extreme, or the difference of both."""
    a, b = single(i.operands[1]), single(i.operands[2])

    def extreme(warp):
        x, y = (read(warp).view(WORD) >> WORD(23) & WORD(255) for read in (a, b))
        apart, other = x.astype(int) - y.astype(int), a(warp) != 0
        return (y == 0) | (y >= 253) | (x == 255) | (apart > 126) | (apart < -125) & other | (x < 24) & other

    return [writes_predicate(i.operands[0])], extreme


@computes("MUFU", unit="special")
def _(i):
    a = single(i.operands[1])
    of = dict(EX2=np.exp2, RCP=np.reciprocal, RSQ=lambda x: 1 / np.sqrt(x), LG2=np.log2, SQRT=np.sqrt, TANH=np.tanh)
    return [writes(i.operands[0])], lambda warp: of[i.modifiers[0]](a(warp).astype(np.float64)).astype(SINGLE)


@computes("I2F", "I2FP", unit="special")
def _(i):
    kind = next((each for each in i.modifiers if each in TYPES), "S32")
    read = (pair if "64" in kind else bits)(i.operands[1])
    whole = {"U32": lambda x: x, "S32": signed, "U64": lambda x: x, "S64": lambda x: x.view(LONG)}[kind]
    return [writes(i.operands[0])], lambda warp: _rounded(whole(read(warp)).astype(np.longdouble), i.modifiers)


@computes("F2I", unit="special")
def _(i):
    kind, a = next((each for each in i.modifiers if each in TYPES), "S32"), single(i.operands[1])
    size, rounds = int(kind[1:]), np.trunc if i.has("TRUNC") else np.floor if i.has("FLOOR") else np.rint
    low, high = (0, (1 << size) - 1) if kind[0] == "U" else (-(1 << size - 1), (1 << size - 1) - 1)

    def one(x):
        return 0 if np.isnan(x) else low if x <= low else high if x >= high else int(rounds(x))

    def integers(warp):
        return np.array([one(x) & 0xFFFFFFFFFFFFFFFF for x in a(warp).astype(np.float64)], WIDE)

    return [(writes_pair if size == 64 else writes)(i.operands[0])], integers


@computes("HFMA2", unit="light")
def _(i):
    """By which the assembler writes two constants of 16 bits."""
    if i.operands[1:3] != ["-RZ", "RZ"]:
        unknown(i)
    high, low = (int(np.float16(text).view(np.uint16)) for text in i.operands[3:5])
    return [writes(i.operands[0])], lambda warp: np.full(LANES, high << 16 | low, WORD)


# Moves of other kinds


@computes("R2UR")
def _(i):
    _, n = numbered(i.operands[1])
    return [writes(i.operands[0])], lambda warp: np.full(LANES, warp.registers[n][np.argmax(warp.active)], WORD)


@computes("P2R")
def _(i):
    a, mask = bits(i.operands[2]), int(i.operands[3], 0)

    def packed(warp):
        found = sum((warp.predicates[k].astype(WORD) << WORD(k) for k in range(TRUE)), WORD(0))
        return a(warp) & WORD(~mask & 0xFFFFFFFF) | found & WORD(mask)

    return [writes(i.operands[0])], packed


@computes("R2P")
def _(i):
    a, chosen = bits(i.operands[1]), [k for k in range(TRUE) if int(i.operands[2], 0) >> k & 1]
    return [writes_predicate(f"P{k}") for k in chosen], lambda warp: tuple(
        (a(warp) >> WORD(k) & WORD(1)) != 0 for k in chosen
    )


@computes("VOTE", "VOTEU")
def _(i):
    """The lanes where a predicate holds, as bits, and whether it does in any, or in all."""
    voted, (*registers, found) = predicate(i.operands[-1]), i.operands[:-1]
    powers = 1 << np.arange(LANES, dtype=LONG)

    def vote(warp):
        holds = voted(warp) & warp.active
        agreed = holds.any() if i.has("ANY") else not (warp.active & ~holds).any()
        return (*[np.full(LANES, powers[holds].sum())] * len(registers), np.full(LANES, agreed))

    return [*map(writes, registers), writes_predicate(found)], vote


@computes("CS2R")
def _(i):
    if i.operands[1] != "SRZ":
        unknown(i)
    return [writes_pair(i.operands[0])], lambda warp: np.zeros(LANES, WIDE)


@computes("S2R", "S2UR", unit="memory")
def _(i):
    name = i.operands[1]
    return [writes(i.operands[0])], lambda warp: warp.special(name)


@computes("LDC", unit="memory")
def _(i):
    first = bits(i.operands[1])
    if not i.has("64"):
        return [writes(i.operands[0])], first
    at = int(re.search(r"\[(0x\w+)\]$", i.operands[1])[1], 16)
    second = bits(f"c[0x0][{at + 4:#x}]")
    return [writes_pair(i.operands[0])], lambda warp: joined(second(warp), first(warp))


# Memory


def _words(i):
    return 4 if i.has("128") else 2 if i.has("64") else 1


def _registers(text, words):
    """(read, written) places of consecutive registers."""
    _, n = numbered(text)
    names = ["RZ" if n == NONE else f"R{n + k}" for k in range(words)]
    return [bits(name) for name in names], [writes(name) for name in names]


def shared_wavefronts(at, words):
    """How many rows of 32 banks an access takes; neighbouring lanes, 128 bytes in all, go together."""
    total = 0
    for first in range(0, len(at), LANES // words):
        touched = np.unique((at[first : first + LANES // words, None] >> 2) + np.arange(words))
        total += int(np.bincount(touched & 31).max())
    touched = np.unique((at[:, None] >> 2) + np.arange(words))
    return 1 if len(touched) <= LANES and np.bincount(touched & 31).max() == 1 else total


@meaning("LDS", "STS")
def _(i):
    i.kind, i.unit, words = "memory", "memory", _words(i)
    at, (reads, places) = address(i.operands[i.name == "LDS"]), _registers(i.operands[i.name == "STS"], words)

    def act(warp, lanes):
        where, shared = at(warp), warp.block.shared
        if i.has("U8"):
            places[0](warp, lanes, shared.view(np.uint8)[np.where(lanes, where, 0)])
            return "shared", 1
        index = np.where(lanes, where, 0) >> 2
        for k in range(words):
            if i.name == "LDS":
                places[k](warp, lanes, shared[index + k])
            else:
                shared[index[lanes] + k] = reads[k](warp)[lanes]
        return ("shared" if i.name == "LDS" else "store"), shared_wavefronts(where[lanes], words)

    i.act = act


@meaning("LDG", "LD", "STG", "ST", "LDGSTS")
def _(i):
    i.kind, i.unit, words, loads = "memory", "memory", _words(i), i.name in ("LDG", "LD")
    if i.has("U8", "S8", "U16", "S16"):
        unknown(i)
    at = address(i.operands[0 if i.name in ("STG", "ST") else 1])
    inside = address(i.operands[0]) if i.name == "LDGSTS" else None
    reads, places = _registers(i.operands[1 - loads], words) if inside is None else (None, None)

    def act(warp, lanes):
        where, memory = at(warp), warp.memory
        index = np.where(lanes, where, where[np.argmax(lanes)]) - MEMORY_FROM >> 2
        for k in range(words):
            if loads:
                places[k](warp, lanes, memory[index + k])
            elif inside is None:
                memory[index[lanes] + k] = reads[k](warp)[lanes]
            else:
                warp.block.shared[(inside(warp)[lanes] >> 2) + k] = memory[index[lanes] + k]
        if not loads and inside is None:
            return "store", max(1, words * int(lanes.sum()) // LANES)
        return warp.block.cached(where[lanes], i.has("STRONG") or inside is not None), max(
            len(np.unique(where[lanes] >> 7)), words * int(lanes.sum()) // LANES
        )

    i.act = act


@meaning("ATOMG", "ATOM", "RED")
def _(i):
    i.kind, i.unit = "memory", "memory"
    if not i.has("ADD"):
        unknown(i)
    own = 0 if i.name == "RED" else 1 + bool(PREDICATE.match(i.operands[0]))
    at, more = address(i.operands[own]), bits(i.operands[own + 1])
    place = writes(i.operands[own - 1]) if own else None

    def act(warp, lanes):
        where, added, before = at(warp) - MEMORY_FROM >> 2, more(warp), np.zeros(LANES, WORD)
        for lane in np.flatnonzero(lanes):
            before[lane] = warp.memory[where[lane]]
            warp.memory[where[lane]] = (int(before[lane]) + int(added[lane])) & 0xFFFFFFFF
        if place:
            place(warp, lanes, before)
        return "atomic", 1

    i.act = act


@meaning("SHFL")
def _(i):
    i.kind, i.unit = "memory", "memory"
    place, a, by, own = writes(i.operands[1]), bits(i.operands[2]), bits(i.operands[3]), np.arange(LANES)

    def act(warp, lanes):
        distance = by(warp).astype(int)
        ways = dict(BFLY=own ^ distance, IDX=distance & 31, UP=own - distance, DOWN=own + distance)
        source = ways[i.modifiers[0]]
        source = np.where((source >= 0) & (source < LANES), source, own)
        place(warp, lanes, a(warp)[source])
        return "shuffle", 1

    i.act = act


# Control: what a warp does next is the multiprocessor's business

CONTROL = {
    "BRA": "jump",
    "CALL": "call",
    "RET": "return",
    "EXIT": "exit",
    "BSSY": "set",
    "BSYNC": "sync",
    "BREAK": "break",
    "BAR": "barrier",
    "WARPSYNC": "warp",
    "DEPBAR": "copies",
    "MEMBAR": "fence",
    "CCTL": "forget",
}
CONTROL |= dict.fromkeys(("NOP", "LDGDEPBAR", "ERRBAR", "CGAERRBAR", "YIELD", "ENDCOLLECTIVE"), "nothing")


@meaning(*CONTROL)
def _(i):
    i.kind, i.unit = CONTROL[i.name], "branch"
    if i.has("DIV", "COLLECTIVE") or i.name == "ENDCOLLECTIVE":
        i.kind = "apart"  # only where the lanes of a warp are not together
    elif i.kind == "jump":
        i.act = predicate(i.operands[0]) if len(i.operands) == 2 else None
    elif i.kind == "return":
        i.act = bits(i.operands[0].split()[0])
    elif i.kind in ("set", "sync", "break"):
        i.act = int(i.operands[0][1:])

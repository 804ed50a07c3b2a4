"""What a race found, as Markdown tables and as a chart."""

import os
from statistics import median

RAW = "https://raw.githubusercontent.com/fastnn-numba/fastnn/main/"  # README is read off the repository, too

TITLES = {
    "fastnn": "fastnn",
    "fastnn loop": "a loop of fit",
    "fastnn float32": "fastnn, float32",
    "fastnn halving": "fastnn, halving",
    "torch": "PyTorch",
    "torch sparse": "PyTorch, sparse",
    "torch.compile": "torch.compile",
    "jax": "JAX",
    "sklearn": "scikit-learn",
    "onnxruntime": "ONNX Runtime",
}
TRAINING = ("fastnn", "torch", "torch.compile", "jax", "sklearn")
SWEEPS = ("fastnn", "fastnn loop", "torch", "jax")
SEARCH = ("fastnn", "fastnn halving", "sklearn")
EMBEDDING = ("fastnn", "torch", "torch sparse")
BFLOAT16 = ("fastnn", "fastnn float32", "torch")
PREDICTION = ("fastnn", "onnxruntime", "torch", "sklearn")
SOLVERS = ("fastnn", "sklearn")
TABLES = ("training", "sweeps", "search", "embedding", "bfloat16", "predict", "solvers", "matmul")
SWEPT = (
    "PyTorch trains all nets in one product a layer, JAX under vmap; both start from weights that are stacked and code "
    "that is compiled, and judge nothing. fastnn's time is that of the whole call, which makes the nets and judges "
    "each on 64 rows."
)
# Okabe and Ito's colours, told apart with every kind of colour vision
COLOURS = {
    "torch": "#E69F00",
    "torch.compile": "#D55E00",
    "jax": "#0072B2",
    "sklearn": "#009E73",
    "onnxruntime": "#CC79A7",
}


class NoMarkers(Exception):
    """A file without the place for the tables."""


def number(value, digits=3):
    """So many significant digits, whole numbers in full."""
    if value is None:
        return "–"
    size = len(str(int(abs(value)))) if abs(value) >= 1 else 0
    return f"{value:,.{max(0, digits - size)}f}"


def _of(row, library, what="us"):
    return row["libraries"].get(library, {}).get(what)


def _best(row):
    """(library, time) of the fastest peer, (None, None) without one."""
    times = {library: _of(row, library) for library in row["libraries"] if not library.startswith("fastnn")}
    times = {library: us for library, us in times.items() if us is not None}
    return min(times.items(), key=lambda item: item[1], default=(None, None))


def _ratio(row):
    """The best peer's time over fastnn's."""
    best, own = _best(row)[1], _of(row, "fastnn")
    return None if best is None or own is None else best / own


def _share(row):
    own = _of(row, "fastnn")
    return f"{100 * row['roofline']['us'] / own:.0f}%" if own and "roofline" in row else "–"


def table(head, rows):
    """A Markdown table; all columns but the first are numbers."""
    lines = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(row, libraries, what="us"):
    times = {library: _of(row, library, what) for library in libraries}
    best = min((us for us in times.values() if us is not None), default=None)
    return [f"**{number(us)}**" if us is not None and us == best else number(us) for us in times.values()]


def _present(rows, libraries, what="us"):
    """The libraries that have a time in any row."""
    return [library for library in libraries if any(_of(row, library, what) is not None for row in rows)]


def _absences(rows):
    """One line on the libraries that were left out."""
    found = {}
    for row in rows:
        for library, entry in row["libraries"].items():
            if "left_out" in entry:
                found.setdefault((TITLES[library], entry["left_out"]), []).append(row["name"])
    lines = [
        f"{title} is left out{'' if len(names) == len(rows) else ' of ' + '; '.join(names)}: {why}."
        for (title, why), names in found.items()
    ]
    return " ".join(lines)


def _training(rows, full):
    libraries = _present(rows, TRAINING)
    head = ["µs a step", "cores", *(TITLES[library] for library in libraries), "best peer / fastnn", "of roofline"]
    head += ["roofline", "set by"] if full else []
    lines = []
    for row in rows:
        line = [row["name"], str(row["cores"]), *_times(row, libraries), number(_ratio(row)), _share(row)]
        if full:
            limit = row.get("roofline")
            line += [number(limit["us"]), limit["bound"]] if limit else ["–", "–"]
        lines.append(line)
    return table(head, lines)


def _sweeps(rows):
    libraries = _present(rows, SWEEPS)
    head = ["µs a step of a net", "cores", *(TITLES[library] for library in libraries), "best peer / fastnn"]
    lines = [
        [
            *(row["name"], str(row["cores"]), *_times(row, libraries), number(_ratio(row))),
            number(row.get("two_threads", {}).get("ratio")),
        ]
        for row in rows
    ]
    return table([*head, "fastnn, one thread / two"], lines)


def _searches(rows, full):
    """Seconds, and where `full` the accuracy that was found and the share of the epochs that it took."""
    libraries, lines = _present(rows, SEARCH, "seconds"), []
    for row in rows:
        found = {what: [_of(row, library, what) for library in libraries] for what in ("seconds", "score", "share")}
        own, peer = _of(row, "fastnn", "seconds"), _of(row, "sklearn", "seconds")
        ratio = peer / own if own and peer else None
        lines.append([f"{row['name']}, seconds", *map(number, found["seconds"]), number(ratio)])
        if full:
            lines.append(["... best mean accuracy", *(number(score, 4) for score in found["score"]), ""])
            lines.append(["... of all epochs", *(f"{share:.0%}" for share in found["share"]), ""])
    return table(["", *(TITLES[library] for library in libraries), "scikit-learn / fastnn"], lines)


def _calls(rows, what, libraries):
    """Times of one call, or of one step."""
    libraries = _present(rows, libraries)
    head = [what, "cores", *(TITLES[library] for library in libraries), "best peer / fastnn"]
    return table(head, [[row["name"], str(row["cores"]), *_times(row, libraries), number(_ratio(row))] for row in rows])


def _solvers(rows):
    """Times of fits, and the iterations that they took."""
    libraries = _present(rows, SOLVERS, "ms")
    head = ["ms to within 1e-4 of the least loss", "cores", *(TITLES[library] for library in libraries)]
    lines = []
    for row in rows:
        took = [_of(row, library, "iterations") for library in libraries]
        ratio = None if len(libraries) < 2 else _of(row, "sklearn", "ms") / _of(row, "fastnn", "ms")
        times = _times(row, libraries, "ms")
        lines.append([row["name"], str(row["cores"]), *times, number(ratio), " and ".join(map(str, took))])
    return table([*head, "scikit-learn / fastnn", "iterations"], lines)


def _products(rows):
    """Square sizes, then each odd size beside the next even one."""
    rows = {(row["order"], row["n"]): row for row in rows}
    ways = ("fastnn", "fastnn in @njit", "torch")
    lines = []
    for (order, n), row in rows.items():
        if n % 2 or (order, n - 1) in rows:
            continue
        speeds = [_of(row, way, "gflops") for way in ways]
        ratio = speeds[0] / speeds[2] if speeds[0] and speeds[2] else None
        share = f"{100 * speeds[0] / row['peak_gflops']:.0f}%" if speeds[0] and row["peak_gflops"] else "–"
        lines.append([f"{order} {n}", *(number(speed) for speed in speeds), number(ratio), share])
    parts = []
    if lines:
        parts = [table(["GFLOP/s", *ways[:2], "torch.mm", "fastnn / torch.mm", "fastnn of the peak"], lines)]
    lines = []
    for (order, n), row in rows.items():
        even = rows.get((order, n + 1))
        if n % 2 and even:
            pair = [_of(row, "fastnn", "gflops"), _of(even, "fastnn", "gflops")]
            ratio = pair[0] / pair[1] if None not in pair else None
            lines.append([f"{order} {n} and {n + 1}", *map(number, pair), number(ratio)])
    if lines:
        parts.append(table(["GFLOP/s of fastnn", "odd size", "even size", "odd / even"], lines))
    return parts


def _peaks(rows):
    """The measured roofline of each number of cores, the medians of all rounds."""
    by_cores = {}
    for row in rows:
        if "roofline" in row:
            by_cores.setdefault(row["cores"], []).extend(row["roofline"]["rounds"])
    levels = list(dict.fromkeys(level for rounds in by_cores.values() for level in rounds[0] if level != "flops"))
    lines = [
        [str(cores), *(number(median(each[key] for each in rounds) / 1e9) for key in ("flops", *levels))]
        for cores, rounds in sorted(by_cores.items())
    ]
    head = ["cores", "GFLOP/s", *(f"GB/s from {level}" for level in levels)]
    return table(head, lines) if lines else ""


def _conditions(result):
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    rounds = f"median of {result['rounds']} rounds"
    if result.get("sweeps") or result.get("search"):
        rounds += f" (sweeps and searches: {result['long_rounds']})"
    date = result["date"][:10]
    return f"{result['processor']}, vectors of {result['vector width']}; {versions}; {rounds}, {date}."


def markdown(result, chart=None):
    """All tables; `chart` is the path of the picture, relative to the reader."""
    parts = [_conditions(result)]
    rows = result["training"]
    if rows:
        parts += ["### Training", _training(rows, full=True), _absences(rows)]
    if chart:
        parts.append(f"![How many times longer each library takes than fastnn]({chart})")
    if rows:
        parts.append(_peaks(rows))
    if result["two_threads"]:
        lines = [
            [row["name"], *(number(median(times)) for times in zip(*row["pairs"], strict=True)), number(row["ratio"])]
            for row in result["two_threads"]
        ]
        parts += ["### Two threads", table(["µs a step of fastnn", "one", "two", "one / two"], lines)]
    if result.get("sweeps"):
        parts += ["### Sweeps", _sweeps(result["sweeps"]), SWEPT, _absences(result["sweeps"])]
    if result.get("search"):
        parts += ["### Searches", _searches(result["search"], full=True), _absences(result["search"])]
    if result.get("embedding"):
        codes = result["embedding"]
        parts += ["### Training on codes", _calls(codes, "µs a step", EMBEDDING), _absences(codes)]
    if result.get("bfloat16"):
        rounded = result["bfloat16"]
        parts += ["### Training with bfloat16", _calls(rounded, "µs a step", BFLOAT16), _absences(rounded)]
    if result["predict"]:
        parts += ["### Prediction", _calls(result["predict"], "µs a call", PREDICTION), _absences(result["predict"])]
    if result.get("solvers"):
        parts += ["### Solvers", _solvers(result["solvers"]), _absences(result["solvers"])]
    if result["matmul"]:
        parts += ["### Products", *_products(result["matmul"]), _absences(result["matmul"])]
    return "\n\n".join(part for part in parts if part)


def short(result, chart=None):
    """For README: the judged rows of training and of sweeps; searches, training on codes, prediction.

    `chart` is relative to the repository.
    """
    rows, sweeps = ([row for row in result.get(table, []) if row["judged"]] for table in ("training", "sweeps"))
    searches, codes, predictions = result.get("search", []), result.get("embedding", []), result["predict"]
    parts = [
        _training(rows, full=False) if rows else "",
        _sweeps(sweeps) if sweeps else "",
        _searches(searches, full=False) if searches else "",
        _calls(codes, "µs a step", EMBEDDING) if codes else "",
        _calls(predictions, "µs a call", PREDICTION) if predictions else "",
        _absences(rows + sweeps + searches + codes + predictions),
    ]
    if chart:
        parts.append(f"![How many times longer each library takes than fastnn]({RAW}{chart})")
    parts.append(_conditions(result))
    return "\n\n".join(part for part in parts if part)


def around(file, mark="race"):
    """(before, begin, end, after): the markers of a file, and what stands around them."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    try:
        before, found, rest = file.read_text(encoding="utf-8").partition(begin)
    except FileNotFoundError:
        raise NoMarkers(f"{file} does not exist; it must hold the lines {begin} and {end}") from None
    _, found_end, after = rest.partition(end)
    if not found or not found_end or begin in rest or end in after:
        raise NoMarkers(f"{file} must hold the lines {begin} and {end}, once and in this order")
    return before, begin, end, after


def between(file, text, mark="race"):
    """Replace what stands between the markers of a file."""
    before, begin, end, after = around(file, mark)
    file.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def renew(file, result, chart, text, mark="race"):
    """Replace what stands between the markers of a file by `text(result, chart)`."""
    between(file, text(result, chart and os.path.relpath(chart.resolve(), file.resolve().parent)), mark)


def draw(result, file):
    """A bar for each peer in each judged row: its time over fastnn's, on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in result["training"] if row["judged"]] + result["predict"]
    groups = []
    for row in rows:
        ratios = {library: _of(row, library) for library in COLOURS}
        ratios = {library: us / _of(row, "fastnn") for library, us in ratios.items() if us and _of(row, "fastnn")}
        if ratios:
            groups.append((row, ratios))
    bars = sum(len(ratios) + 1 for _, ratios in groups)
    figure, axes = pyplot.subplots(figsize=(8.6, 0.9 + 0.155 * bars), dpi=150, layout="constrained")
    at, ticks, labels, seen = 0, [], [], {}
    for row, ratios in groups:
        for i, (library, ratio) in enumerate(ratios.items()):
            bar = axes.barh(-at - i, ratio - 1, left=1, height=0.86, color=COLOURS[library])
            seen.setdefault(library, bar)
            axes.annotate(
                number(ratio, 2),
                (max(ratio, 1), -at - i),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color="#333333",
            )
        ticks.append(-at - (len(ratios) - 1) / 2)
        net, _, way = row["name"].partition(", ")
        labels.append(f"{net}\n{way}, {row['cores']} core{'s' * (row['cores'] > 1)}")
        at += len(ratios) + 1
    axes.set_xscale("log")
    low = min([ratio for _, ratios in groups for ratio in ratios.values()], default=1)
    high = max([ratio for _, ratios in groups for ratio in ratios.values()], default=10)
    axes.set_xlim(min(0.8, 0.8 * low), max(10, 1.5 * high))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}×")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.axvline(1, color="black", linewidth=1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_yticks(ticks, labels, fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_ylim(-at + 0.2, 1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_title("Time of a training step or a prediction over fastnn's (1×); longer is slower", fontsize=9)
    order = [library for library in COLOURS if library in seen]
    figure.legend(
        [seen[library] for library in order],
        [TITLES[library] for library in order],
        loc="outside lower center",
        ncols=max(1, len(order)),
        frameon=False,
        fontsize=8,
    )
    figure.savefig(file, facecolor="white")
    pyplot.close(figure)

"""What a race on a GPU found, as Markdown tables."""

from report import number, table

TITLES = {
    "fastnn": "fastnn",
    "fastnn on the CPU": "fastnn, CPU",
    "jax": "JAX, scan",
    "torch": "torch eager",
    "torch.compile": "torch.compile",
    "torch graph": "torch, graph by hand",
    "fastnn, block": "one block",
    "fastnn, shards": "shards",
    "fastnn, grid": "a grid",
    "fastnn, graph": "a graph",
    "fastnn, a group": "fastnn",
    "jax, vmap": "JAX, vmap in a scan",
    "torch, batched": "torch, batched products in a graph",
}
# TFLOP/s and GB/s of the SXM parts by NVIDIA's datasheets, which count tensor cores with sparsity, here halved:
# https://www.nvidia.com/en-us/data-center/h200/, .../h100/ and .../a100/
DATASHEETS = {
    "NVIDIA H200": {"float32": 67, "tf32": 495, "bf16": 989, "GB/s": 4800},
    "NVIDIA H100 80GB HBM3": {"float32": 67, "tf32": 495, "bf16": 989, "GB/s": 3350},
    "NVIDIA A100-SXM4-80GB": {"float32": 19.5, "tf32": 156, "bf16": 312, "GB/s": 2039},
    "NVIDIA A100-SXM4-40GB": {"float32": 19.5, "tf32": 156, "bf16": 312, "GB/s": 1555},
}


def _share(part, whole):
    return f"{100 * part / whole:.0f}%" if part and whole else "–"


def _products(result):
    sheet, lines = DATASHEETS.get(result["card"], {}), []
    for row in result["products"]:
        ours, theirs = (row["libraries"].get(way, {}).get("tflops") for way in ("fastnn", "cuBLAS"))
        most = sheet.get(row["precision"])
        line = [f"{row['precision']} {row['n']}", number(ours), number(theirs), _share(ours, theirs)]
        lines.append([*line, _share(ours, most), _share(theirs, most)])
    head = ["TFLOP/s", "fastnn", "cuBLAS", "fastnn of cuBLAS", "fastnn of the datasheet", "cuBLAS of the datasheet"]
    return table(head, lines)


def _training(rows, unit="µs a step"):
    present = [library for library in TITLES if any("us" in row["libraries"].get(library, {}) for row in rows)]
    peers = [library for library in ("jax", "torch graph", "torch") if library in present]
    head = [unit, *(TITLES[library] for library in present)]
    head += [f"{TITLES[library]} / fastnn" for library in peers]
    lines = []
    for row in rows:
        times = {library: row["libraries"].get(library, {}).get("us") for library in TITLES}
        best = min((us for us in times.values() if us is not None), default=None)
        cells = [f"**{number(us)}**" if us == best and us else number(us) for us in map(times.get, present)]
        ratios = [times[peer] / times["fastnn"] if times[peer] and times["fastnn"] else None for peer in peers]
        name = row["name"] if row["precision"] == "float32" else f"{row['name']}, {row['precision']}"
        lines.append([name, *cells, *map(number, ratios)])
    return table(head, lines)


def _faults(rows):
    """What did not run, each reason once, with the rows that it is about."""
    found = {}
    for row in rows:
        for library, entry in row["libraries"].items():
            for kind in ("left_out", "failed"):
                if kind in entry:
                    found.setdefault((TITLES.get(library, library), kind, entry[kind]), []).append(_full_name(row))
    words = {"left_out": "is left out of", "failed": "failed in"}
    return "\n".join(
        f"- {title} {words[kind]} {'all rows' if len(names) == len(rows) else '; '.join(names)}: {why}"
        for (title, kind, why), names in found.items()
    )


def _full_name(row):
    return row.get("name", f"{row['precision']} {row.get('n')}") + (f" ({row['precision']})" if "name" in row else "")


def _conditions(result):
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
    card = ", ".join(f"{name} {value}" for name, value in result["state"].items() if value)
    text = (
        f"{result['card']}{f' ({card})' if card else ''}; {result['processor']}, {result['cores']} cores; {versions}; "
    )
    text += f"median of {result['rounds']} rounds, {result['date'][:10]}."
    return f"Toy sizes: these times mean nothing. {text}" if result["toy"] else text


def _when(result, part):
    """When a part was measured, if that was not with the rest."""
    date = result.get("earlier", {}).get(part)
    return date and f"Of an earlier race on such a card, {date[:16].replace('T', ' ')} UTC."


def markdown(result):
    """All tables."""
    parts = [_conditions(result)]
    for part, title, make in (
        ("training", "Training on the GPU", _training),
        ("tables", "Nets for tables, whose inputs are codes", _training),
        ("loops", "The loops of fastnn, by which the plan's thresholds are set", _training),
        ("sweeps", "Many nets in one launch", lambda rows: _training(rows, "µs a step of one net")),
        ("products", "Products on the GPU", lambda rows: _products(result)),
    ):
        rows = result.get(part)
        if rows:
            parts += [f"### {title}", _when(result, part), make(rows), _faults(rows)]
    if result["launches"]:
        lines = [[name, number(us)] for name, us in result["launches"].items()]
        parts += ["### Launches", _when(result, "launches"), table(["µs a launch", "median"], lines)]
    if result["bandwidth"]:
        most = DATASHEETS.get(result["card"], {}).get("GB/s")
        share = f", {_share(result['bandwidth'], most)} of the datasheet" if most else ""
        parts.append(f"A copy within the device moves {number(result['bandwidth'])} GB/s{share}.")
    parts += [f"Failed: {why}" for why in result["failed"]]
    if result["missing"]:
        parts.append(f"Not measured, for want of time: {'; '.join(result['missing'])}.")
    return "\n\n".join(part for part in parts if part)

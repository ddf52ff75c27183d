"""Turn the times of a verdict into a Markdown page."""

LIMITS = {"stream": 5e-3, "onnx": 1e-3}  # seconds that a line may take at p99
HEADER = ("side", "wall median ms", "wall p99 ms", "CPU median ms", "CPU p99 ms")
HEADER += ("over the floor", "allowed p99 ms")
WORDS = {
    "stream": "`LineStream`, Keras on {}",
    "onnx": "`OnnxStream`, onnxruntime",
    "prefix": "all lines so far anew, Keras on {}",
}
MEANING = (
    "`latency.py` times a verdict on one core: `LineStream` with Keras on each backend, "
    "`OnnxStream` with the exported step, and the whole network over all lines so far anew. "
    "**CPU** is processor time; **wall** is what the microscope waits. **over the floor** "
    "compares with the time in which the core copies as many bytes as the network has weights: "
    "less memory traffic no verdict can need that reads every weight. **allowed** is what a "
    "microscopist should never notice.\n"
)


def table(report):
    """Format the sides of a report as a Markdown table, the fastest first."""
    rows = [HEADER, ["---"] * len(HEADER)]
    floor = report["floor"]
    ordered = sorted(report["sides"].items(), key=lambda item: item[1]["cpu"]["median"])
    for name, side in ordered:
        kind, _, backend = name.partition(" ")
        times = [
            side[clock][which] for clock in ("wall", "cpu") for which in ("median", "p99")
        ]
        limit = LIMITS.get(kind)
        rows.append(
            [WORDS[kind].format(backend)]
            + [f"{1e3 * each:.2f}" for each in times]
            + [f"{side['cpu']['median'] / floor:.0f} x"]
            + ["–" if limit is None else f"{1e3 * limit:.0f}"]
        )
    rows.append(
        ["floor: weights once through memory", f"{1e3 * floor:.3f}", *["–"] * 3, "1 x", "–"]
    )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def page(report):
    """Write a report as Markdown: the table, and under what conditions it came about."""
    before, after = report["load"]
    counts = {name: side["count"] for name, side in report["sides"].items()}
    lines = [
        MEANING,
        table(report),
        "",
        f"`{report['command']}`",
        "",
        f"{report['date']}, {report['processor']}, 1 of {report['cores']} cores; load "
        f"average {before:.1f} at the start and {after:.1f} at the end, so the wall times "
        "hold what else the core did. "
        f"{report['parameters']:,} weights of {report['config']}, {report['model']}; "
        f"{max(counts.values())} lines, {min(counts.values())} prefixes; the core copies "
        f"{report['bandwidth'] / 1e9:.1f} GB/s. "
        + ", ".join(
            f"{name} {number}" for name, number in sorted(report["versions"].items())
        )
        + ".",
    ]
    return "\n".join(lines + [f"\nDid not run: {each}" for each in report["failures"]])


def put_section(text, title, body):
    """Put a section into a Markdown page, in the place of one of the same title if any."""
    heading = f"## {title}\n"
    section = f"{heading}\n{body}\n"
    begin = f"\n{text}".find(f"\n{heading}")
    if begin < 0:
        return f"{text.rstrip()}\n\n{section}".lstrip()
    following = text.find("\n## ", begin + len(heading))
    rest = "" if following < 0 else text[following:]
    return text[:begin] + section + rest

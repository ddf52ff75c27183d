"""What the setups measured as rows: checked for sameness, compared, laid out as text."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.records import REFERENCES, SCORES
from stm_keras.reports.page import render

# columns that are left out where they are empty
OPTIONAL = ("of peak", "device GB", "waits", "AUROC", "balanced accuracy")
EMPTY = "–"
UNMASKED = ("timm", "native-unmasked")
CLOCKS = ("wall", "cpu")
WEIGHTS_HINT = " Start one with --weights FOLDER/weights.npz of the other."


def summarise(parts, missing=()):
    """Turn what setups measured into rows that can be compared.

    The first setup of each precision is what others of that precision must agree with. Speed
    is relative to the first reference of the same precision where there is one, else to the
    first setup. `missing` are pairs of a setup's name and why it has no part.

    Raises:
        MismatchError: Setups that ran had other data, another split, weights or dtypes.
    """
    done = [part for part in parts if part["status"] == "done"]
    check_same(done)
    first = {}  # part of each precision
    for part in done:
        first.setdefault(part["side"]["precision"], part)
    rows = []
    for part in parts:
        row = {"side": part["name"], **part["side"], "machine": part["machine"]["name"]}
        row["status"] = part["status"]
        if part["status"] == "done":
            agreed, timed = first[part["side"]["precision"]], _baseline(part, done)
            row |= {**_measured(part), **_compared(part, agreed, timed)}
            row["peak_share"] = _peak_share(part, done)
        else:
            row["reason"] = part["reason"]
        rows.append(row)
    return rows + [
        {"side": name, "machine": None, "status": "missing", "reason": reason}
        for name, reason in missing
    ]


def check_same(parts):
    """See that setups had the same data, split, initial weights, dtypes and steps."""
    same_precision = {}
    for part in parts:
        first = parts[0]
        like = same_precision.setdefault(part["side"]["precision"], part)
        for other, difference, value, hint in (
            (first, "other data", lambda p: _sha256(p["identity"]["data"]), ""),
            (first, "another split", lambda p: _sha256(p["identity"]["split"]), ""),
            (first, "other initial weights", lambda p: _sha256(p["weights"]), WEIGHTS_HINT),
            (like, "other dtypes", _dtypes, ""),
            (first, "another network", lambda p: f"{p['parameters']:,} weights", ""),
            (first, "another number of --steps", _steps, ""),
        ):
            if value(part) != value(other):
                raise MismatchError(
                    f"{part['label']}: {difference} than {other['label']} ({value(part)} "
                    f"and {value(other)}): cannot be compared.{hint}"
                )


def _sha256(digest):
    return f"sha256 {digest[:12]}"


def _steps(part):
    return f"{len(part['agreement']['losses'])} steps"


def _dtypes(part):
    return ", ".join(
        f"{key} {value if isinstance(value, str) else '/'.join(value)}"
        for key, value in part["dtypes"].items()
    )


def _baseline(part, done):
    """Choose the part whose time another is compared with: of its precision and machine."""
    same = [
        other
        for other in done
        if other["side"]["precision"] == part["side"]["precision"]
        and other["machine"]["name"] == part["machine"]["name"]
        and other["devices"] == part["devices"]
    ]
    references = [other for other in same if other["side"]["library"] in REFERENCES]
    return (references or same)[0]


def _measured(part):
    """Return what a part says by itself."""
    rounds, loading = part["rounds"], part.get("loading")
    times = {clock: _times(part, clock) for clock in CLOCKS}
    predicted = np.median([entry["predict"]["wall"] for entry in rounds])
    return {
        **{key: part[key] for key in ("devices", "dtypes", "versions", "parameters")},
        "losses": part["agreement"]["losses"],
        "first_step": {clock: part["first_step"][clock] for clock in CLOCKS},
        "seconds": part["seconds"],
        "memory_gb": rounds[-1]["memory"],
        "step_wall": spread(times["wall"]),
        "step_cpu": spread(times["cpu"]),
        "scans_per_second": {
            "train": part["batch_size"] / float(np.median(times["wall"])),
            "predict": float(1 / predicted),
        },
        "waiting_share": loading and loading["waited"] / loading["seconds"],
        "scores": _mean_scores(part.get("scores")),
    }


def _peak_share(part, done):
    """Return the share of the fastest product of matrices on the device that a step reaches.

    All parts train the same network, so operations counted in one are those of all.
    """
    same = [
        other
        for other in done
        if other["machine"]["name"] == part["machine"]["name"]
        and other["devices"] == part["devices"]
    ]
    peak = max((other.get("peak") or 0.0 for other in same), default=0.0)
    count = max((other.get("operations") or 0.0 for other in done), default=0.0)
    if not peak or not count:
        return None
    return count / float(np.median(_times(part, "wall"))) / (1e9 * peak)


def _compared(part, agreed, timed):
    """Return the differences from a part, and the speed relative to another."""
    row = {"agrees_with": None if part is agreed else agreed["name"]}
    for key, name in (
        ("logits_difference", "logits"),
        ("loss_difference", "losses"),
        ("logits_difference_after", "logits_after"),
    ):
        row[key] = _difference(part["agreement"][name], agreed["agreement"][name])
    same_rounds = part["session"] == timed["session"]
    row |= {"compared_with": timed["name"], "same_rounds": same_rounds, "speed": {}}
    for clock in CLOCKS:
        own, other = _times(part, clock), _times(timed, clock)
        if same_rounds:  # round by round: what disturbed one disturbed both
            ratios = [a / b for a, b in zip(other, own, strict=True)]
            row["speed"][clock] = float(np.median(ratios))
        else:
            row["speed"][clock] = float(np.median(other) / np.median(own))
    return row


def _times(part, clock):
    return [entry["train"][clock] for entry in part["rounds"]]


def spread(values):
    """Sum up repeated measurements: dict of median, quartiles, least, most, and all."""
    values = np.asarray(values, float)
    quantiles = np.percentile(values, (50, 25, 75, 0, 100)).tolist()
    names = ("median", "q1", "q3", "min", "max")
    return {**dict(zip(names, quantiles, strict=True)), "values": values.tolist()}


def _difference(one, other):
    """Return the largest absolute difference of two lists, None where one is not finite."""
    largest = np.abs(np.subtract(one, other)).max(initial=0.0)
    return float(largest) if np.isfinite(largest) else None


def _mean_scores(scored):
    """Average the scores of several seeds, with a 95 % interval of Student's t."""
    if not scored:
        return None
    means = {"seeds": list(scored["runs"]), "failed": scored["failed"]}
    means["epochs"] = scored["epochs"]
    for name in SCORES if scored["runs"] else ():
        values = [run[name] for run in scored["runs"].values()]
        mean, interval = float(np.mean(values)), None
        if len(values) > 1:
            from scipy.stats import t

            error = np.std(values, ddof=1) / np.sqrt(len(values))
            reach = float(error * t.ppf(0.975, len(values) - 1))
            interval = [max(mean - reach, 0.0), min(mean + reach, 1.0)]
        means[name] = {"mean": mean, "interval": interval, "values": values}
    return means


COLUMNS = {  # title of a column to what its cell says of a row
    "setup": lambda row: row["side"],
    "machine": lambda row: row["machine"] or EMPTY,
    "device": lambda row: ", ".join(row["devices"]),
    "weights": lambda row: f"{row['parameters']:,}",
    "logits differ": lambda row: _difference_text(row, "logits_difference"),
    "loss differs": lambda row: _difference_text(row, "loss_difference"),
    "first step s": lambda row: f"{row['first_step']['wall']:.1f}",
    "step ms": lambda row: _ms(row["step_wall"]["median"]),
    "quartiles": lambda row: _range(row["step_wall"], "q1", "q3"),
    "range": lambda row: _range(row["step_wall"], "min", "max"),
    "CPU ms": lambda row: _ms(row["step_cpu"]["median"]),
    "speed": lambda row: f"{row['speed']['wall']:.2f}",
    "by CPU": lambda row: f"{row['speed']['cpu']:.2f}",
    "scans/s": lambda row: _rate(row["scans_per_second"]["train"]),
    "predicted/s": lambda row: _rate(row["scans_per_second"]["predict"]),
    "of peak": lambda row: _optional(row["peak_share"], ".1%"),
    "host GB": lambda row: f"{row['memory_gb']['host']:.2f}",
    "device GB": lambda row: _optional(row["memory_gb"]["device"], ".2f"),
    "waits": lambda row: _optional(row["waiting_share"], ".1%"),
    "AUROC": lambda row: _score(row, "auroc"),
    "balanced accuracy": lambda row: _score(row, "balanced_accuracy"),
}


def cells(rows):
    """Lay out rows as text: titles, and a list of cells for each row.

    A column that says nothing in any row is left out; a setup that did not run has only a name.
    """
    body = []
    for row in rows:
        if row["status"] == "done":
            body.append([str(write(row)) for write in COLUMNS.values()])
        else:
            name = [row["side"], row["machine"] or EMPTY]
            body.append([*name, *[EMPTY] * (len(COLUMNS) - 2)])
    table, machines = [], {row["machine"] for row in rows} - {None}
    for title, *column in zip(COLUMNS, *body, strict=True):
        empty = title in OPTIONAL and set(column) == {EMPTY}
        if not empty and (title != "machine" or len(machines) > 1):
            table.append((title, *column))
    titles, *lines = map(list, zip(*table, strict=True))
    return titles, lines


def failures(rows):
    """List what did not run, a str for each setup and seed."""
    failed = [f"{r['side']}: {r['reason']}" for r in rows if r["status"] != "done"]
    for row in rows:
        seeds = (row.get("scores") or {}).get("failed", {})
        failed += [f"{row['side']}, seed {seed}: {why}" for seed, why in seeds.items()]
    return failed


def conditions(comparison):
    """Say how a comparison was made: list of str, a paragraph each."""
    versions = {}
    for row in comparison["rows"]:
        for name, version in row.get("versions", {}).items():
            versions.setdefault(name, set()).add(version)
    done = [row for row in comparison["rows"] if row["status"] == "done"]
    text = render(
        "comparison.txt",
        comparison=comparison,
        packages=[f"{name} {'/'.join(sorted(v))}" for name, v in sorted(versions.items())],
        baselines=sorted({row["compared_with"] for row in done}),
        alone=[row["side"] for row in done if not row["same_rounds"]],
        unmasked=[row["side"] for row in done if row["library"] in UNMASKED],
    )
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _difference_text(row, key):
    if row["agrees_with"] is None:
        return "first"
    return "not finite" if row[key] is None else f"{row[key]:.1e}"


def _ms(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _range(times, low, high):
    return f"{_ms(times[low])}–{_ms(times[high])}"


def _rate(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _optional(value, form):
    return EMPTY if value is None else format(value, form)


def _score(row, name):
    score = (row["scores"] or {}).get(name)
    if score is None:
        return EMPTY
    if score["interval"] is None:
        return f"{score['mean']:.3f}"
    low, high = score["interval"]
    return f"{score['mean']:.3f} [{low:.3f}, {high:.3f}]"

"""What the sides measured, brought together: checked for sameness, compared, summed up."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.scores import SCORES
from stm_keras.experiments.compare.sides import REFERENCES

OPTIONAL = ("device GB", "waits", "AUROC", "balanced accuracy")
EMPTY = "–"
UNMASKED = ("timm", "native-unmasked")

SAME = {"data": "other data", "split": "another split", "weights": "other initial weights"}
CLOCKS = ("wall", "cpu")


def summarise(parts, missing=()):
    """Turn what sides measured into rows that can be compared.

    The first side of each precision is what others of that precision must agree with. Speed
    is told relative to the first reference of the same precision where there is one, else to
    the first side.

    Args:
        parts: list of dict, as written by `measure`, each with a `place` that messages name.
        missing: sequence of tuples of a side's name and why it has no part.

    Returns:
        list of dict, JSON-ready, a row for each side in the same order.

    Raises:
        MismatchError: Sides that ran had other data, another split, other weights or dtypes.
    """
    done = [part for part in parts if part["status"] == "done"]
    check_same(done)
    references = {}
    for part in done:
        references.setdefault(part["side"]["precision"], part)
    rows = [
        _row(part, references[part["side"]["precision"]], _base(part, done))
        if part["status"] == "done"
        else {**_named(part), "status": part["status"], "reason": part["reason"]}
        for part in parts
    ]
    return rows + [
        {"side": name, "machine": None, "status": "missing", "reason": why}
        for name, why in missing
    ]


def check_same(parts):
    """See that sides had the same data, split, initial weights and dtypes.

    Raises:
        MismatchError: They had not; one line that names both.
    """
    first = parts[0] if parts else None
    dtypes = {}
    for part in parts:
        for key, words in SAME.items():
            one, other = _hash(first, key), _hash(part, key)
            if one != other:
                hint = ""
                if key == "weights":
                    hint = " Begin one with --weights FOLDER/weights.npz of the other."
                raise MismatchError(
                    f"{part['place']}: {words} than {first['place']} (sha256 "
                    f"{other[:12]} and {one[:12]}): cannot be compared.{hint}"
                )
        precision = part["side"]["precision"]
        known = dtypes.setdefault(precision, part)
        if part["dtypes"] != known["dtypes"]:
            raise MismatchError(
                f"{part['place']}: other dtypes than {known['place']} ("
                f"{_dtypes(part)} and {_dtypes(known)}): cannot be compared."
            )
        if part["parameters"] != first["parameters"]:
            raise MismatchError(
                f"{part['place']}: {part['parameters']:,} weights, and {first['place']} has "
                f"{first['parameters']:,}: cannot be compared."
            )
        if len(part["agreement"]["losses"]) != len(first["agreement"]["losses"]):
            raise MismatchError(
                f"{part['place']}: another number of --steps than {first['place']}: cannot "
                "be compared."
            )


def _hash(part, key):
    return part["weights"] if key == "weights" else part["identity"][key]


def _dtypes(part):
    told = part["dtypes"]
    flat = {k: v if isinstance(v, str) else "/".join(v) for k, v in told.items()}
    return ", ".join(f"{key} {value}" for key, value in flat.items())


def _named(part):
    return {"side": part["name"], **part["side"], "machine": part["machine"]["name"]}


def _base(part, done):
    """Choose the side whose time another is compared with: of its precision and machine."""
    same = [
        other
        for other in done
        if other["side"]["precision"] == part["side"]["precision"]
        and other["machine"]["name"] == part["machine"]["name"]
        and other["devices"] == part["devices"]
    ]
    native = [other for other in same if other["side"]["library"] in REFERENCES]
    return (native or same)[0]


def _row(part, reference, base):
    rounds, mine, theirs = part["rounds"], part["agreement"], reference["agreement"]
    row = {
        **_named(part),
        "status": "done",
        "devices": part["devices"],
        "dtypes": part["dtypes"],
        "versions": part["versions"],
        "parameters": part["parameters"],
        "agrees_with": None if part is reference else reference["name"],
        "logits_difference": _difference(mine["logits"], theirs["logits"]),
        "loss_difference": _difference(mine["losses"], theirs["losses"]),
        "logits_difference_after": _difference(
            mine["logits_after"], theirs["logits_after"]
        ),
        "losses": mine["losses"],
        "first_step": {clock: part["first_step"][clock] for clock in CLOCKS},
        "seconds": part["seconds"],
        "memory_gb": rounds[-1]["memory"],
        "compared_with": base["name"],
        "same_rounds": part["session"] == base["session"],
        "scans_per_second": {},
        "speed": {},
    }
    for clock in CLOCKS:
        times = [entry["train"][clock] for entry in rounds]
        row[f"step_{clock}"] = spread(times)
        others = [entry["train"][clock] for entry in base["rounds"]]
        if row["same_rounds"]:  # round by round: what one met both met
            pairs = zip(others, times, strict=True)
            row["speed"][clock] = float(np.median([a / b for a, b in pairs]))
        else:
            row["speed"][clock] = float(np.median(others) / np.median(times))
    median = row["step_wall"]["median"]
    row["scans_per_second"]["train"] = part["batch_size"] / median
    predicted = np.median([entry["predict"]["wall"] for entry in rounds])
    row["scans_per_second"]["predict"] = float(1 / predicted)
    loading = part.get("loading")
    row["waiting_share"] = loading and loading["waited"] / loading["seconds"]
    row["scores"] = _scores(part.get("scores"))
    return row


def spread(values):
    """Sum up repeated measurements: dict of median, quartiles, least, most, and all."""
    values = np.asarray(values, float)
    low, middle, high = np.percentile(values, (25, 50, 75))
    return {
        "median": float(middle),
        "q1": float(low),
        "q3": float(high),
        "min": float(values.min()),
        "max": float(values.max()),
        "values": values.tolist(),
    }


def _difference(one, other):
    """Return the largest absolute difference of two lists, None where one is not finite."""
    found = np.abs(np.subtract(one, other)).max(initial=0.0)
    return float(found) if np.isfinite(found) else None


def _scores(found):
    """Average the scores of several seeds, with a 95 % interval of Student's t."""
    if not found:
        return None
    told = {"seeds": list(found["runs"]), "failed": found["failed"]}
    told["epochs"] = found["epochs"]
    for name in SCORES:
        values = [run[name] for run in found["runs"].values()]
        if not values:
            continue
        interval = None
        if len(values) > 1:
            from scipy.stats import t

            error = np.std(values, ddof=1) / np.sqrt(len(values))
            reach = float(error * t.ppf(0.975, len(values) - 1))
            middle = float(np.mean(values))
            interval = [max(middle - reach, 0.0), min(middle + reach, 1.0)]
        told[name] = {
            "mean": float(np.mean(values)),
            "interval": interval,
            "values": values,
        }
    return told


COLUMNS = {  # title of a column: what stands in it
    "side": lambda row: row["side"],
    "machine": lambda row: row["machine"] or "–",
    "device": lambda row: ", ".join(row["devices"]),
    "weights": lambda row: f"{row['parameters']:,}",
    "logits differ": lambda row: _shown_difference(row, "logits_difference"),
    "loss differs": lambda row: _shown_difference(row, "loss_difference"),
    "first step s": lambda row: f"{row['first_step']['wall']:.1f}",
    "step ms": lambda row: _ms(row["step_wall"]["median"]),
    "quartiles": lambda row: _range(row["step_wall"], "q1", "q3"),
    "range": lambda row: _range(row["step_wall"], "min", "max"),
    "CPU ms": lambda row: _ms(row["step_cpu"]["median"]),
    "speed": lambda row: f"{row['speed']['wall']:.2f}",
    "by CPU": lambda row: f"{row['speed']['cpu']:.2f}",
    "scans/s": lambda row: _rate(row["scans_per_second"]["train"]),
    "predicted/s": lambda row: _rate(row["scans_per_second"]["predict"]),
    "host GB": lambda row: f"{row['memory_gb']['host']:.2f}",
    "device GB": lambda row: _gb(row["memory_gb"]["device"]),
    "waits": lambda row: _share(row["waiting_share"]),
    "AUROC": lambda row: _score(row, "auroc"),
    "balanced accuracy": lambda row: _score(row, "balanced_accuracy"),
}


def cells(rows):
    """Lay out rows as text.

    Args:
        rows: list of dict, as of `summarise`.

    Returns:
        Tuple of a list of str, the titles, and a list of lists of str. A column that says
        nothing in any row is left out; a side that did not run has only a name.
    """
    body = []
    for row in rows:
        if row["status"] == "done":
            body.append([str(write(row)) for write in COLUMNS.values()])
        else:
            name = [row["side"], row["machine"] or EMPTY]
            body.append([*name, *[EMPTY] * (len(COLUMNS) - 2)])
    titles = list(COLUMNS)
    dropped = {
        n
        for n, title in enumerate(titles)
        if title in OPTIONAL and all(line[n] == EMPTY for line in body)
    }
    if len({line[1] for line in body} - {EMPTY}) < 2:
        dropped.add(1)
    keep = [n for n in range(len(titles)) if n not in dropped]
    return [titles[n] for n in keep], [[line[n] for n in keep] for line in body]


def failures(rows):
    """List what did not run, a str for each side."""
    told = [f"{r['side']}: {r['reason']}" for r in rows if r["status"] != "done"]
    for row in rows:
        scores = row.get("scores") or {}
        told += [
            f"{row['side']}, seed {seed}: {why}"
            for seed, why in scores.get("failed", {}).items()
        ]
    return told


def markdown(comparison):
    """Write a comparison as Markdown: the table, and under what conditions it came about."""
    titles, body = cells(comparison["rows"])
    lines = ["| " + " | ".join(line) + " |" for line in [titles, ["---"] * len(titles)]]
    lines += ["| " + " | ".join(line) + " |" for line in body]
    lines += ["", *(f"Did not run: {each}\n" for each in failures(comparison["rows"]))]
    lines += [f"`{comparison['command']}`", "", *conditions(comparison)]
    return "\n".join(lines) + "\n"


def conditions(comparison):
    """Say how a comparison was made: list of str, a paragraph each."""
    settings = comparison["settings"]
    machines = [
        f"{m['name']}: {m['processor']}, {settings['cores'] or m['cores_allowed']} of "
        f"{m['cores']} cores, load average {m['load'][0]:.1f} at the start and "
        f"{m['load'][-1]:.1f} at the end, {m['date'][:10]}"
        for m in comparison["machines"]
    ]
    versions = {}
    for row in comparison["rows"]:
        for name, number in row.get("versions", {}).items():
            versions.setdefault(name, set()).add(number)
    told = [
        f"{name} {'/'.join(sorted(numbers))}" for name, numbers in sorted(versions.items())
    ]
    done = [row for row in comparison["rows"] if row["status"] == "done"]
    based = sorted({row["compared_with"] for row in done})
    return [
        f"{'; '.join(machines)}. {settings['name']}, batch {settings['batch_size']}, "
        f"{settings['scans']} scans (sha256 {settings['data'][:12]}); {settings['repeats']} "
        f"rounds of {settings['steps_per_round']} steps. {', '.join(told)}.",
        f"Differences are the largest, from the first side of the same precision: of logits "
        f"before training, and of the loss over {settings['steps']} steps, with the same "
        "weights and batches and without dropout, which each backend draws otherwise. Speed "
        f"is the time of {' or '.join(based) or 'none'} over that of a side, round by round: "
        "above 1 is faster.",
        *_notes(done),
    ]


def _notes(rows):
    """Say what keeps rows from being compared as the others are."""
    alone = [row["side"] for row in rows if not row["same_rounds"]]
    if alone:
        yield f"Measured at another time than what speed compares with: {', '.join(alone)}."
    unmasked = [row["side"] for row in rows if row["library"] in UNMASKED]
    if unmasked:
        yield (
            f"{', '.join(unmasked)}: looks at lines of zeros too, which the others hide, so its "
            "loss differs where augmentation cuts or loses lines."
        )


def _shown_difference(row, key):
    if row["agrees_with"] is None:
        return "first"
    return "not finite" if row[key] is None else f"{row[key]:.1e}"


def _ms(seconds):
    return f"{1e3 * seconds:.3g}" if seconds < 1 else f"{1e3 * seconds:.0f}"


def _range(times, low, high):
    return f"{_ms(times[low])}–{_ms(times[high])}"


def _rate(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _gb(value):
    return EMPTY if value is None else f"{value:.2f}"


def _share(value):
    return EMPTY if value is None else f"{value:.1%}"


def _score(row, name):
    score = (row["scores"] or {}).get(name)
    if score is None:
        return EMPTY
    if score["interval"] is None:
        return f"{score['mean']:.3f}"
    low, high = score["interval"]
    return f"{score['mean']:.3f} [{low:.3f}, {high:.3f}]"

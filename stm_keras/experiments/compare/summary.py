"""What the sides measured, brought together: checked for sameness, compared, summed up."""

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.experiments.compare.scores import SCORES
from stm_keras.experiments.compare.sides import REFERENCES

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

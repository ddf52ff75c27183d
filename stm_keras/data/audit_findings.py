"""Say in words what an audit counted, and what to do about it."""

from dataclasses import dataclass

from stm_keras.data.orientation import MIN_SCANS

SEVERITIES = ("warning", "note", "ok")
_CHANCE = 1e-6  # a little over the share of pairs that are alike by chance
_FEW = 20  # scans of a class


@dataclass(frozen=True)
class Finding:
    """One thing an audit found.

    Args:
        severity: str. "ok", "note" (know it) or "warning" (mend it).
        subject: str.
        text: str. What was found and what to do.
    """

    severity: str
    subject: str
    text: str


def find_all(duplicates, orientation, damage, labels, sessions, votes):
    """Return the findings of an audit, worst first.

    Args:
        duplicates, damage, labels, sessions, votes: As in `Audit`.
        orientation: `Orientation`.

    Returns:
        tuple of `Finding`.
    """
    scans = labels["scans"]
    findings = [
        *_duplicates(duplicates, scans),
        *_leaks(duplicates, scans),
        _orientation(orientation),
        *_damage(damage, scans),
        *_labels(labels),
        *_sessions(sessions, labels),
        *_votes(votes, scans),
    ]
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def _duplicates(found, scans):
    subject = "duplicates"
    if not found["pairs"]:
        yield Finding(
            "ok", subject, "No scan is a copy of another or shows the same place."
        )
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in found["kinds"].items())
    text = (
        f"{_of(found['scans'], scans)} show the same place as another, in "
        f"{_count(found['groups'], 'group')} ({_count(found['pairs'], 'pair')}: {kinds})."
    )
    across = found["across_sessions"]
    if across is None:
        advice = " Sessions are unknown: split with the duplicate groups as groups."
        yield Finding("warning", subject, text + advice)
        return
    yield Finding("note", subject, text + " Keep them on one side of a split.")
    if across and not _by_chance(found, scans):
        yield Finding(
            "warning",
            subject,
            f"{_count(across, 'pair')} of duplicates lie in different sessions, so a split "
            "by session leaks: join these sessions or remove the copies.",
        )
    elif across:
        yield Finding(
            "note",
            subject,
            f"{_count(across, 'pair')} of duplicates lie in different sessions, no more "
            "than chance makes: nothing to do.",
        )


def _by_chance(found, scans):
    across = found["across_sessions"]
    if across is None or found["exact_across"]:
        return False
    return across <= _CHANCE * scans * (scans - 1) / 2


def _leaks(found, scans):
    advice = {
        "P1": "Its scores will be optimistic; quote P2 beside them.",
        "P2": "Join the sessions concerned, or remove the copies.",
        "The given split": "Split by session, or by the duplicate groups.",
    }
    for key, name in (("p1", "P1"), ("p2", "P2"), ("given", "The given split")):
        leak = found["leaks"][key]
        if leak is None or not found["pairs"]:
            continue
        if not leak["held_out"]:
            text = f"{name} keeps all duplicates on one side."
            yield Finding("ok", "leaks", text)
            continue
        chance = leak["protocol"] != "p1" and _by_chance(found, scans)
        text = (
            f"{name} puts {_count(leak['groups'], 'group')} of duplicates on both sides: "
            f"{_count(leak['held_out'], 'scan')} held out "
            f"{'has' if leak['held_out'] == 1 else 'have'} a copy in training. "
        )
        text += "So few are no more than chance: nothing to do." if chance else advice[name]
        yield Finding("note" if key == "p1" or chance else "warning", "leaks", text)


def _orientation(found):
    subject = "line axis"
    noise = f"by the noise of {found.noise:.0%} of {_count(found.scans, 'scan')}"
    if not found.scans:
        text = "No scan has lines enough to tell whether rows are scan lines."
        return Finding("note", subject, text)
    if found.axis == "unclear":
        text = (
            "Neither noise nor levelling tells whether rows are scan lines: look at the "
            "contact sheet, or at one raw file."
        )
        return Finding("note", subject, text)
    if found.axis == "pixels":
        noise = f"by the noise of {1 - found.noise:.0%} of {_count(found.scans, 'scan')}"
        text = (
            f"Columns look like the scan lines, {noise} and the levelling of "
            f"{found.levelled_pixels:.0%}: swap the last two axes of the images."
        )
        severity = "warning" if found.scans >= MIN_SCANS else "note"
        few = "" if found.scans >= MIN_SCANS else " So few scans may mislead: check one."
        return Finding(severity, subject, text + few)
    text = f"Rows are scan lines, {noise} and the levelling of {found.levelled_lines:.0%}."
    return Finding("ok", subject, text)


def _damage(found, scans):
    if found["not_finite"]:
        text = (
            f"{_of(found['not_finite'], scans)} hold NaN or inf in recorded lines: remove "
            "these scans, or lower `lines` to the lines before."
        )
        yield Finding("warning", "NaN", text)
    if found["constant_scans"]:
        text = (
            f"{_of(found['constant_scans'], scans)} are constant: they teach nothing; "
            "remove them."
        )
        yield Finding("warning", "constant scans", text)
    if found["constant_lines"]:
        text = (
            f"{_count(found['constant_lines'], 'line')} in "
            f"{_of(found['scans_with_constant_lines'], scans)} are constant or a mere slope: "
            "the model sees zeros there. A crash or a saturated amplifier does this; if no "
            "line was recorded, lower `lines`."
        )
        share = found["scans_with_constant_lines"] / scans
        yield Finding("warning" if share > 0.2 else "note", "constant lines", text)
    if found["aborted"]:
        text = (
            f"{_of(found['aborted'], scans)} were aborted: they are judged line by line, "
            "but take no part in splits."
        )
        yield Finding("note", "aborted scans", text)
    if not any(found.values()):
        yield Finding("ok", "damage", "No NaN, no constant and no missing lines.")


def _labels(found):
    scans, counts = found["scans"], found["counts"]
    if found["no_class"]:
        text = (
            f"{_of(found['no_class'], scans)} carry several classes or none above one half: "
            "they take no part in splits."
        )
        share = found["no_class"] / scans
        yield Finding("warning" if share > 0.5 else "note", "labels", text)
    missing = [name for name, count in counts.items() if not count]
    if missing:
        text = (
            f"No complete scan of class {', '.join(missing)}: a model cannot learn it; add "
            "scans or leave the class out."
        )
        yield Finding("warning", "classes", text)
    present = {name: count for name, count in counts.items() if count}
    if not present:
        return
    rare = min(present, key=present.get)
    text = "Scans of each class: "
    text += ", ".join(f"{name} {count}" for name, count in counts.items()) + "."
    ratio = max(present.values()) / present[rare]
    if present[rare] < _FEW:
        advice = f" With {present[rare]} of {rare} its scores say little: label more."
        yield Finding("warning", "classes", text + advice)
    elif ratio > 3:
        advice = " Train with class weights and read the balanced accuracy."
        yield Finding("note", "classes", text + advice)
    elif not missing:
        yield Finding("ok", "classes", text)


def _sessions(sessions, labels):
    if not sessions and labels["simulated"]:
        text = "Simulated scans have no sessions: every scan is one of its own."
        yield Finding("ok", "sessions", text)
        return
    if not sessions:
        text = (
            "Sessions are unknown, so P2, the score on a new day, cannot be measured by "
            "session: give each scan its day in `session`."
        )
        yield Finding("warning", "sessions", text)
        return
    if len(sessions) < 5:
        text = (
            f"Only {_count(len(sessions), 'session')}: a five-fold split by session needs "
            "five or more, so P2 will say little about a new day."
        )
        yield Finding("warning", "sessions", text)
    present = [sum(count > 0 for count in row["counts"].values()) for row in sessions]
    single = [
        row["session"] for row, number in zip(sessions, present, strict=True) if number == 1
    ]
    if single and sum(count > 0 for count in labels["counts"].values()) > 1:
        text = (
            f"{_count(len(single), 'session')} of {len(sessions)} hold one class only "
            f"({_shorten(single)}): a model may learn the day instead of the tip; read the "
            "table of classes per session."
        )
        severity = "warning" if len(single) > len(sessions) / 2 else "note"
        yield Finding(severity, "sessions", text)
    biggest = max(sessions, key=lambda row: row["scans"])
    share = biggest["scans"] / labels["scans"]
    if len(sessions) > 1 and share > 0.5:
        text = (
            f"Session {biggest['session']} holds {share:.0%} of all scans: scores by session "
            "rest on it."
        )
        yield Finding("note", "sessions", text)
    if len(sessions) >= 5 and not single:
        text = f"{len(sessions)} sessions, each with two classes or more."
        yield Finding("ok", "sessions", text)


def _votes(votes, scans):
    if votes["raters"] is not None:
        one = votes["raters"].get("1", 0)
        if one:
            text = (
                f"{_of(one, scans)} were rated by one person: quote the score on the "
                "consensus scans beside that on all."
            )
            yield Finding("note", "raters", text)
        else:
            yield Finding("ok", "raters", "Every scan was rated by two people or more.")
    if votes["unanimous"] is not None:
        text = f"All votes are 0 or 1 on {votes['unanimous']:.0%} of scans"
        several = votes["unanimous_of_several"]
        if several is not None:
            text += f", and on {several:.0%} of those with two raters or more"
            if several < 0.6:
                text += ": labels are noisy, and no score can be much better than they"
        noisy = several is not None and several < 0.6
        yield Finding("note" if noisy else "ok", "votes", text + ".")


def _of(count, total):
    return f"{count:,} of {_count(total, 'scan')} ({count / total:.1%})"


def _count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shorten(names, most=4):
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")

"""Say in words what an audit counted and what to do about it; tell lines from columns."""

from dataclasses import dataclass

import numpy as np

from stm_keras.data.preprocess import remove_line_trend

MIN_SCANS = 20  # from which on the verdict was never wrong on real scans
_MIN_LINES = 16
_LEVELLED = 0.02  # of the scan's standard deviation
_CLEAR = 0.6


SEVERITIES = ("warning", "note", "ok")  # mend it, know it, nothing to do
_CHANCE = 1e-6  # a little over the share of pairs that are alike by chance
_FEW = 20  # scans of a class
_ADVICE = {  # name of a split in which duplicates leak: what to do
    "P1": "Its scores will be optimistic; quote P2 beside them.",
    "P2": "Join the sessions concerned, or remove the copies.",
    "The given split": "Split by session, or by the duplicate groups.",
}


@dataclass(frozen=True)
class Orientation:
    """Along which axis the lines of a set of scans run."""

    axis: str  # "lines" where rows are scan lines, "pixels" where columns are, or "unclear"
    scans: int  # that could be judged
    noise: float  # share of them in which rows differ like scan lines do
    levelled_lines: float  # in which every row has the same mean, and columns have not
    levelled_pixels: float  # the other way round


@dataclass(frozen=True)
class Finding:
    """One thing an audit found: what it is, and what to do."""

    severity: str  # one of `SEVERITIES`
    subject: str
    text: str


def describe_findings(
    duplicates: dict,
    orientation: Orientation,
    damage: dict,
    labels: dict,
    sessions: tuple,
    votes: dict,
) -> tuple[Finding, ...]:
    """Return the findings of an audit, worst first; all but `orientation` as in `Audit`."""
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
    findings.sort(key=lambda finding: SEVERITIES.index(finding[0]))
    return tuple(Finding(*finding) for finding in findings)


def _duplicates(duplicates, scans):
    """Yield (severity, subject, text), as all that follow."""
    subject = "duplicates"
    if not duplicates["pairs"]:
        yield "ok", subject, "No scan is a copy of another or shows the same place."
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in duplicates["kinds"].items())
    pairs = _count(duplicates["pairs"], "pair")
    text = (
        f"{_of(duplicates['scans'], scans)} show the same place as another, in "
        f"{_count(duplicates['groups'], 'group')} ({pairs}: {kinds})."
    )
    across = duplicates["across_sessions"]
    if across is None:
        advice = "Sessions are unknown: split with the duplicate groups as groups."
        yield "warning", subject, f"{text} {advice}"
        return
    yield "note", subject, f"{text} Keep them on one side of a split."
    text = f"{_count(across, 'pair')} of duplicates lie in different sessions"
    if across and _by_chance(duplicates, scans):
        yield "note", subject, f"{text}, no more than chance makes: nothing to do."
    elif across:
        advice = "so a split by session leaks: join these sessions or remove the copies."
        yield "warning", subject, f"{text}, {advice}"


def _by_chance(duplicates, scans):
    across = duplicates["across_sessions"]
    if across is None or duplicates["exact_across"]:
        return False
    return across <= _CHANCE * scans * (scans - 1) / 2


def _leaks(duplicates, scans):
    for name, leak in zip(_ADVICE, duplicates["leaks"].values(), strict=True):
        if leak is None or not duplicates["pairs"]:
            continue
        if not leak["held_out"]:
            yield "ok", "leaks", f"{name} keeps all duplicates on one side."
            continue
        chance = leak["protocol"] != "p1" and _by_chance(duplicates, scans)
        advice = "So few are no more than chance: nothing to do."
        yield (
            "note" if name == "P1" or chance else "warning",
            "leaks",
            f"{name} puts {_count(leak['groups'], 'group')} of duplicates on both sides: "
            f"{_count(leak['held_out'], 'scan')} held out "
            f"{'has' if leak['held_out'] == 1 else 'have'} a copy in training. "
            f"{advice if chance else _ADVICE[name]}",
        )


def _orientation(orientation):
    subject, scans = "line axis", orientation.scans
    if not scans:
        text = "No scan has enough lines to tell whether rows are scan lines."
        return "note", subject, text
    if orientation.axis == "unclear":
        text = (
            "Neither noise nor levelling tells whether rows are scan lines: look at the "
            "contact sheet, or at one raw file."
        )
        return "note", subject, text
    if orientation.axis == "lines":
        text = (
            f"Rows are scan lines, by the noise of {orientation.noise:.0%} of "
            f"{_count(scans, 'scan')} and the levelling of {orientation.levelled_lines:.0%}."
        )
        return "ok", subject, text
    text = (
        f"Columns look like the scan lines, by the noise of {1 - orientation.noise:.0%} of "
        f"{_count(scans, 'scan')} and the levelling of {orientation.levelled_pixels:.0%}: "
        "swap the last two axes of the images."
    )
    if scans < MIN_SCANS:
        return "note", subject, f"{text} So few scans may mislead: check one."
    return "warning", subject, text


def _damage(damage, scans):
    if damage["not_finite"]:
        text = (
            f"{_of(damage['not_finite'], scans)} hold NaN or inf in recorded lines: remove "
            "these scans, or lower `lines` to the lines before."
        )
        yield "warning", "NaN", text
    if damage["constant_scans"]:
        text = (
            f"{_of(damage['constant_scans'], scans)} are constant: nothing can be learnt from "
            "them. Remove them."
        )
        yield "warning", "constant scans", text
    if damage["constant_lines"]:
        few = damage["scans_with_constant_lines"] <= 0.2 * scans
        text = (
            f"{_count(damage['constant_lines'], 'line')} in "
            f"{_of(damage['scans_with_constant_lines'], scans)} are constant or a mere "
            "slope: the model sees zeros there. A crash or a saturated amplifier does this; "
            "if no line was recorded, lower `lines`."
        )
        yield "note" if few else "warning", "constant lines", text
    if damage["aborted"]:
        text = (
            f"{_of(damage['aborted'], scans)} were aborted: they are judged line by line, "
            "but take no part in splits."
        )
        yield "note", "aborted scans", text
    if not any(damage.values()):
        yield "ok", "damage", "No NaN, no constant and no missing lines."


def _labels(labels):
    scans, counts = labels["scans"], labels["counts"]
    if labels["no_class"]:
        text = (
            f"{_of(labels['no_class'], scans)} carry several classes or none above one half: "
            "they take no part in splits."
        )
        yield "warning" if labels["no_class"] > scans / 2 else "note", "labels", text
    missing = [name for name, count in counts.items() if not count]
    if missing:
        text = (
            f"No complete scan of class {', '.join(missing)}: a model cannot learn it; add "
            "scans or leave the class out."
        )
        yield "warning", "classes", text
    present = {name: count for name, count in counts.items() if count}
    if not present:
        return
    rare = min(present, key=present.get)
    text = ", ".join(f"{name} {count}" for name, count in counts.items())
    text = f"Scans of each class: {text}."
    if present[rare] < _FEW:
        advice = f"With {present[rare]} of {rare} its scores say little: label more."
        yield "warning", "classes", f"{text} {advice}"
    elif max(present.values()) > 3 * present[rare]:
        advice = "Train with class weights and read the balanced accuracy."
        yield "note", "classes", f"{text} {advice}"
    elif not missing:
        yield "ok", "classes", text


def _sessions(sessions, labels):
    subject = "sessions"
    if not sessions and labels["simulated"]:
        text = "Simulated scans have no sessions: every scan is one of its own."
        yield "ok", subject, text
        return
    if not sessions:
        text = (
            "Sessions are unknown, so P2, the score on a new day, cannot be measured by "
            "session: give each scan its day in `session`."
        )
        yield "warning", subject, text
        return
    if len(sessions) < 5:
        text = (
            f"Only {_count(len(sessions), 'session')}: a five-fold split by session needs "
            "five or more, so P2 will say little about a new day."
        )
        yield "warning", subject, text
    single = [
        row["session"]
        for row in sessions
        if sum(count > 0 for count in row["counts"].values()) == 1
    ]
    if single and sum(count > 0 for count in labels["counts"].values()) > 1:
        text = (
            f"{_count(len(single), 'session')} of {len(sessions)} hold one class only "
            f"({_shorten(single)}): a model may learn the day instead of the tip; read the "
            "table of classes per session."
        )
        yield "warning" if len(single) > len(sessions) / 2 else "note", subject, text
    biggest = max(sessions, key=lambda row: row["scans"])
    share = biggest["scans"] / labels["scans"]
    if len(sessions) > 1 and share > 0.5:
        text = (
            f"Session {biggest['session']} holds {share:.0%} of all scans: scores by session "
            "rest on it."
        )
        yield "note", subject, text
    if len(sessions) >= 5 and not single:
        yield "ok", subject, f"{len(sessions)} sessions, each with two classes or more."


def _votes(votes, scans):
    if votes["raters"] is not None:
        one = votes["raters"].get("1", 0)
        if one:
            text = (
                f"{_of(one, scans)} were rated by one person: quote the score on the "
                "consensus scans beside that on all."
            )
            yield "note", "raters", text
        else:
            yield "ok", "raters", "Every scan was rated by two people or more."
    if votes["unanimous"] is not None:
        text = f"All votes are 0 or 1 on {votes['unanimous']:.0%} of scans"
        several = votes["unanimous_of_several"]
        noisy = several is not None and several < 0.6
        if several is not None:
            text += f", and on {several:.0%} of those with two raters or more"
        if noisy:
            text += ": labels are noisy, and no score can be much better than they"
        yield "note" if noisy else "ok", "votes", f"{text}."


def _of(count, total):
    return f"{count:,} of {_count(total, 'scan')} ({count / total:.1%})"


def _count(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _shorten(names, most=4):
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def judge_orientation(noise: np.ndarray, levelled: np.ndarray) -> Orientation:
    """Decide for a whole dataset from what `measure_orientation` gave per scan.

    The noise decides where most scans agree, because levelling may have been done
    along the wrong axis after a mix-up; levelling decides where the noise is silent, as
    on simulated or filtered scans.
    """
    known = np.isfinite(noise)
    noise, levelled = noise[known], levelled[known]
    if not len(noise):
        return Orientation("unclear", 0, 0.0, 0.0, 0.0)
    share = float(np.mean(noise > 0) + np.mean(noise == 0) / 2)
    lines, pixels = float(np.mean(levelled > 0)), float(np.mean(levelled < 0))
    if share >= _CLEAR or share <= 1 - _CLEAR:
        axis = "lines" if share > 0.5 else "pixels"
    elif max(lines, pixels) >= _CLEAR:
        axis = "lines" if lines > pixels else "pixels"
    else:
        axis = "unclear"
    return Orientation(axis, len(noise), share, lines, pixels)


def measure_orientation(images: np.ndarray, lines: np.ndarray) -> tuple:
    """Measure along which axis the lines of each scan run.

    Neighbouring pixels are milliseconds apart and low-passed by the feedback loop,
    neighbouring lines are seconds apart: the noise is rough from line to line. Both
    axes are levelled first, so it does not matter how the scan was levelled, and
    third differences take the lattice out. Real scans as recorded are told from
    transposed ones in 99.2 % of cases, be they pictures, standardised or tilted; by the
    majority of 20 scans of a session always.

    `images` are `(scans, lines, pixels)`; `lines`, `(scans,)`, were recorded.

    Returns:
        Tuple of float arrays `(scans,)`: the logarithm of the noise between rows
        over that between columns, and 1 where rows are levelled and columns are not, -1
        where it is the other way round, else 0. NaN where a scan has too few lines, or
        no structure.
    """
    noise = np.full(len(images), np.nan)
    levelled = np.full(len(images), np.nan)
    for count in np.unique(lines):
        scans = np.flatnonzero(lines == count)
        if count < _MIN_LINES or images.shape[2] < _MIN_LINES:
            continue
        block = np.asarray(images[scans, :count], np.float64)
        block -= block.mean((1, 2), keepdims=True)
        spread = block.std((1, 2))
        usable = np.isfinite(spread) & (spread > 0)
        block, scans = block[usable] / spread[usable, None, None], scans[usable]
        # (2, scans): how far the means of rows, and of columns, lie apart.
        means = np.stack([block.mean(2).std(1), block.mean(1).std(1)])
        flat = means < _LEVELLED
        levelled[scans] = np.where(flat[0] == flat[1], 0, np.where(flat[0], 1, -1))
        # Third differences along an axis: white noise has them, a lattice of several pixels
        # and a slope have next to none. Axis 1 is from line to line, 2 from pixel to pixel.
        for _ in range(2):  # take the straight line out of every row, then of every column
            block = remove_line_trend(block).swapaxes(1, 2)
        roughness = [(np.diff(block, 3, axis) ** 2).mean((1, 2)) for axis in (1, 2)]
        noise[scans] = np.log((roughness[0] + 1e-12) / (roughness[1] + 1e-12))
    return noise, levelled

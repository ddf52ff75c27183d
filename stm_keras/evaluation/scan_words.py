"""What is said of a scan beside its class, in pictures and in reports."""

from pathlib import Path

NANO = 1e9
LONGEST = 60  # letters of a file's name


def name_of(judged):
    """Return the name of the file, and which of its scans it is."""
    name = Path(judged.path).name
    name = name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]
    return f"{name} [{judged.index}]" if judged.index else name


def size_text(judged):
    """Say how large a scan is and how it was recorded, as far as that is known."""
    candidate, scan = judged.candidate, judged.candidate.scan
    parts = []
    if scan is not None and scan.size is not None:
        parts.append(" x ".join(short(length * NANO) for length in scan.size) + " nm")
    told = f"{judged.lines} of {candidate.planned} lines x {candidate.lines.shape[1]} px"
    parts.append(told)
    if scan is not None and scan.bias is not None:
        parts.append(f"{scan.bias:.3g} V")
    if scan is not None and scan.channel != "Z":
        parts.append(" ".join(filter(None, (scan.channel, scan.direction))))
    return ", ".join(parts)


def short(value: float, digits: int = 4) -> str:
    """Write a number with so many digits and without an exponent."""
    return f"{float(f'{value:.{digits}g}'):.10g}"


def is_class(verdict: object) -> bool:
    """Tell whether a `ScanVerdict` is one of its classes, so that a percentage may be shown."""
    return verdict.verdict == verdict.name


def shows_classes(verdict: object) -> bool:
    """Tell whether class probabilities may be drawn: the surface and its size are known."""
    return verdict.name is not None and verdict.verdict in (verdict.name, "unsure")


def verdict_words(judged):
    """Return what a person should know beside the verdict.

    Args:
        judged: `stm_keras.inference.scan_result.Judged` of a scan.

    Returns:
        list of tuples (str, bool): words, and whether they speak against trusting it.
    """
    verdict, words = judged.verdict, []
    if verdict.reason:
        words.append((verdict.reason, True))
    if verdict.verdict == "unsure":
        words.append((f"perhaps {verdict.name} ({100 * verdict.confidence:.0f} %)", True))
    words += [(remark, True) for remark in judged.candidate.remarks]
    if judged.change_lines:
        places = ", ".join(map(str, judged.change_lines))
        words.append((f"tip change at line {places}", False))
    return words

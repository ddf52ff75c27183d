"""What every model file says of itself, whatever its format, and how that is checked."""

from stm_keras.data.preprocess import INPUTS
from stm_keras.errors import InputError

FORMAT = 1
NEEDED = {"classes": list, "pixels": int, "max_lines": int}
PREPROCESSING = {  # by the name of a network's input
    "standardised": "per line: least-squares straight line removed, standard deviation 1",
    "scaled": "per line: least-squares straight line removed, divided by the running "
    "geometric mean of the standard deviations of the lines so far",
}


def complete_facts(facts):
    """Add to the facts of a network the format and how heights become its input.

    Args:
        facts: dict, JSON-ready, with at least `classes`, `pixels` and `max_lines`.

    Returns:
        dict.
    """
    facts = {"input": "standardised", **facts, "format": FORMAT}
    facts.setdefault("preprocessing", PREPROCESSING[facts["input"]])
    return facts


def check_facts(facts, path, place):
    """Return what was read from a model file if it can be worked with.

    Args:
        facts: what JSON gave.
        path: str or `Path` of the file.
        place: str. What is damaged if it cannot, as "stm_keras.json is damaged".

    Returns:
        dict.

    Raises:
        InputError: It is no object, of a newer stm-keras, or lacks something.
    """
    if not isinstance(facts, dict):
        raise InputError(f"{path}: {place} (no object).")
    known = facts.get("format") == FORMAT
    if not known or facts.get("input", "standardised") not in INPUTS:
        raise InputError(f"{path}: is of a newer stm-keras. Install the newest.")
    for key, kind in NEEDED.items():
        if not isinstance(facts.get(key), kind):
            raise InputError(f"{path}: {place} (no `{key}`).")
    fewest, most = facts.get("min_lines", 1), facts["max_lines"]
    if type(fewest) is not int or not 1 <= fewest <= max(most, 1):
        raise InputError(
            f"{path}: {place} (`min_lines` must be a number of lines from 1 to {most}. "
            f"Received: {fewest!r})."
        )
    return facts

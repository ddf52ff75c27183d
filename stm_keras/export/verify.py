"""Keep an exported file only if it says what the model says."""

from stm_keras.errors import OutputError
from stm_keras.files import atomic

TOLERANCE = 1e-4  # of a logit, between backends, runtimes and machines
NUM_SCANS = 100  # made up to compare on


def keep_if_same(path, kind, overwrite, write):
    """Write a file under a temporary name, compare, and give it its own.

    Args:
        path: str or `Path`, ending in "." and `kind`.
        kind: str. The format.
        overwrite: bool.
        write: callable of the temporary `Path` that writes the file, loads it again and
            returns the largest difference of a logit over `NUM_SCANS` scans.

    Returns:
        dict: `path`, `format`, `scans` compared, `largest_difference` of a logit.

    Raises:
        OutputError: The name is wrong, the file exists, or the copy differs.
    """
    if not str(path).endswith(f".{kind}"):
        name = {"keras": "a Keras file", "onnx": "an ONNX file"}[kind]
        raise OutputError(f"{path}: the name of {name} ends in .{kind}.")
    with atomic(path, overwrite) as temporary:
        difference = write(temporary)
        if not difference <= TOLERANCE:
            raise OutputError(
                f"{path}: the copy differs from the model by {difference:.1e} in a logit, "
                f"more than {TOLERANCE:.0e}. Nothing was written."
            )
    return {
        "path": str(path),
        "format": kind,
        "scans": NUM_SCANS,
        "largest_difference": difference,
    }

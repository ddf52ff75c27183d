"""Which simulated scans tell the whole truth about tip changes."""

import numpy as np

from stm_keras.errors import UsageError
from stm_keras.simulate.states import GENERIC_KINDS


def clear_changes(dataset):
    """Tell in which scans `change_line` is all there is to find.

    It names a change of class. Where another apex of the same class took over, or an
    apex switched back and forth, something did change but no line is named: a call in
    such a scan is neither right nor wrong, and they are left out when calls are counted.

    Args:
        dataset: `Dataset`, as of `simulate` or `simulate_others`.

    Returns:
        bool array of shape `(scans,)`.

    Raises:
        UsageError: The scans are not simulated, or lost their parameters.
    """
    if dataset.change_line is None:
        raise UsageError("`dataset` has no change lines: only simulated scans have them.")
    parameters = dataset.parameters
    if "apex_line" not in parameters and "kind" in parameters:  # other surfaces
        return np.ones(len(dataset), bool)
    missing = [n for n in ("apex_line", "generic_kind") if n not in parameters]
    if missing:
        raise UsageError(
            f"`dataset` has no parameter `{missing[0]}`. Simulate the scans, or keep "
            "their parameters when they are saved."
        )
    unstable = np.asarray(parameters["generic_kind"]) == GENERIC_KINDS.index("unstable")
    return (np.asarray(parameters["apex_line"]) == dataset.change_line) & ~unstable

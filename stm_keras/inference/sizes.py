"""Is a scan as large as those that the model was trained on?"""

from dataclasses import dataclass

from stm_keras.data.dataset import CLASSES
from stm_keras.scan import ROW_NM

NANO = 1e9
PAPER_NM = (3.0, 80.0)  # of the Nottingham scans, as their authors give it
PAPER = "as Gordon et al. 2020 give it for their scans; not measured scan by scan"


@dataclass(frozen=True)
class TaughtSizes:
    """Widths of the scans that a model was trained on.

    Args:
        low, high: float, nm.
        source: str. Who says so.
    """

    low: float
    high: float
    source: str

    def outside(self, size: tuple | None) -> bool | None:
        """Tell whether a scan is wider or narrower than these.

        Args:
            size: tuple (width, height) in m; None, which gives None, where not known.
        """
        if size is None:
            return None
        width = size[0] * NANO
        return not 0.98 * self.low <= width <= 1.02 * self.high  # 80.3 nm is meant as 80

    def remark(self, size: tuple | None) -> str | None:
        """Say that a scan lies outside, in few words; None where it does not."""
        if not self.outside(size):
            return None
        width = f"{float(f'{size[0] * NANO:.3g}'):.10g}"
        return f"{width} nm wide, trained on {self.low:g} to {self.high:g} nm"


def unknown_size(facts: dict, size: tuple | None, pixels: int | None = None) -> bool | None:
    """Tell whether a scan is of a width that a model was not trained on, or too coarse.

    Args:
        facts: dict of a model file.
        size: tuple (width, height) in m, or None.
        pixels: int. Of a line of the scan, None where not known.

    Returns:
        bool; None where the size of the scan or those of training are not known.
    """
    if size is None:
        return None
    if too_coarse(facts, size, pixels):
        return True
    sizes = taught_sizes(facts)
    return None if sizes is None else sizes.outside(size)


def too_coarse(facts: dict, size: tuple | None, pixels: int | None) -> bool:
    """Tell whether a scan has less than two pixels for a dimer row, so that none can show.

    Args:
        facts, size, pixels: As for `unknown_size`.
    """
    if size is None or pixels is None or tuple(facts["classes"]) != CLASSES:
        return False
    return size[0] * NANO / pixels > ROW_NM / 2


def taught_sizes(facts):
    """Return how wide the scans were that a model was trained on.

    Args:
        facts: dict of a model file. Where it holds `size_nm`, two numbers, these are
            taken; else what is known of its training data.

    Returns:
        `TaughtSizes`, or None where nobody knows.
    """
    told = facts.get("size_nm")
    if isinstance(told, list) and len(told) == 2:
        return TaughtSizes(float(told[0]), float(told[1]), "as the model file says")
    source = _source(facts)
    if "University of Nottingham" in source:
        return TaughtSizes(*PAPER_NM, PAPER)
    if source.startswith("simulated"):
        from stm_keras.simulate.config import SimulationConfig

        ranges = SimulationConfig()
        low, high = ranges.small_nm[0], ranges.large_nm[1]
        return TaughtSizes(low, high, "the widths that the simulator draws")
    return None


def widest_nm(facts):
    """Return how wide a scan may be for its rows to be told apart in the model's pixels.

    Two pixels a dimer row, or the widest that was trained on where that is less.

    Args:
        facts: dict of a model file.

    Returns:
        float, nm; None where neither is known.
    """
    taught = taught_sizes(facts)
    limits = [] if taught is None else [taught.high]
    if tuple(facts["classes"]) == CLASSES:
        limits.append(facts["pixels"] * ROW_NM / 2)
    return min(limits, default=None)


def _source(facts):
    """Return what the file says of the training data: str."""
    place = facts
    for key in ("training", "environment", "dataset", "source"):
        place = place.get(key) if isinstance(place, dict) else None
    return str(place or "")

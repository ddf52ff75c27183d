"""Is a scan as large as those that the model was taught on?"""

from dataclasses import dataclass

from stm_keras.data.dataset import CLASSES

NANO = 1e9
ROW_NM = 0.768  # from dimer row to dimer row of H:Si(100)
PAPER_NM = (3.0, 80.0)  # of the Nottingham scans, as their authors give it
PAPER = "as Gordon et al. 2020 give it for their scans; not measured scan by scan"


@dataclass(frozen=True)
class TaughtSizes:
    """Widths of the scans that a model was taught on.

    Args:
        low, high: float, nm.
        source: str. Who says so.
    """

    low: float
    high: float
    source: str

    def outside(self, scan):
        """Return the width of a scan in nm if it lies outside, else None.

        Args:
            scan: `stm_keras.scan.Scan`.
        """
        if scan.size is None:
            return None
        width = scan.size[0] * NANO
        near = 0.98 * self.low <= width <= 1.02 * self.high  # 80.3 nm is meant as 80
        return None if near else width

    def remark(self, scan):
        """Say that a scan lies outside, in few words; None where it does not."""
        width = self.outside(scan)
        if width is None:
            return None
        width = f"{float(f'{width:.3g}'):.10g}"
        return f"{width} nm wide, taught {self.low:g} to {self.high:g} nm"


def taught_sizes(facts):
    """Return how wide the scans were that a model was taught on.

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

    Two pixels a dimer row, or the widest that was taught where that is less.

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

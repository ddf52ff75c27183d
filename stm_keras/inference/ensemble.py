"""Several models as one predictor: the mean of their calibrated probabilities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from stm_keras.errors import MismatchError
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.sizes import trained_sizes
from stm_keras.inference.verdict import HEADS, calibrated, sigmoid, threshold

LEAST = 1e-12  # probability, so that its logarithm is finite
MUST_AGREE = ("classes", "pixels", "max_lines")


@dataclass(frozen=True)
class EnsemblePredictor(Predictor):
    """Models that judge the same classes on scans of the same size, averaged.

    After each number of lines the answer is the mean of the calibrated probabilities of all
    models. Thresholds are averaged likewise: a scan is "unsure" where the mean confidence lies
    below the mean of what the models ask for, a surface unknown and a tip changed where the
    mean of the heads lies above the mean threshold. Where one model lacks a head or a
    threshold, nobody tells. The first verdict is given when every model gives one.

    Args:
        members: Two `Predictor` or more.

    Raises:
        MismatchError: They have other classes, pixels or lines.
    """

    members: Sequence[Predictor]

    def __post_init__(self):
        first, *others = (each.metadata for each in self.members)
        for number, other in enumerate(others, 2):
            for key in MUST_AGREE:
                if other[key] != first[key]:
                    raise MismatchError(
                        f"Models that judge together must have the same `{key}`. Received: "
                        f"{first[key]} of the first and {other[key]} of model {number}. Give "
                        "models of one recipe, such as the folds of a run."
                    )

    @cached_property
    def metadata(self) -> dict:
        """What the models have in common, and the mean of their thresholds."""
        known = [each.metadata for each in self.members]
        common = {key: known[0][key] for key in MUST_AGREE}
        common["min_lines"] = max(each.get("min_lines", 1) for each in known)
        common["input"] = known[0].get("input", "standardised")
        sizes = list(filter(None, map(trained_sizes, known)))
        if sizes:  # which all were trained on
            low, high = max(each.low for each in sizes), min(each.high for each in sizes)
            common["size_nm"] = [low, high]
        for name in ("unsure", *HEADS):
            if name not in HEADS or self.every_line:
                common |= _mean_threshold(known, name)
        return common

    @property
    def parallel(self) -> bool:
        """Whether threads may share all models."""
        return all(each.parallel for each in self.members)

    @property
    def side_by_side(self) -> int:
        """Scans that are best judged at once."""
        return min(each.side_by_side for each in self.members)

    @property
    def every_line(self) -> bool:
        """Whether all models answer after every line."""
        return all(each.every_line for each in self.members)

    def outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute logarithms of mean probabilities, see `Predictor.outputs`."""
        if self.every_line:
            out = [
                each.outputs(images, batch_size, progress, lines) for each in self.members
            ]
            return self._joined(out, np.maximum(out[0]["seen"], 1))
        return self._of_whole_scans(images, batch_size, progress, lines)

    def last_outputs(
        self,
        images: Any,
        batch_size: int = 64,
        progress: Callable | None = None,
        lines: int | None = None,
    ) -> dict:
        """Compute the same where scans end, see `Predictor.last_outputs`."""
        if not self.every_line:
            return self._of_whole_scans(images, batch_size, progress, lines)
        about = images, batch_size, progress, lines
        out = [each.last_outputs(*about) for each in self.members]
        return self._joined(out, np.maximum(out[0]["seen"][:, -1], 1))

    def start_scan(self) -> tuple:
        """Return the cache before the first line: lines taken, and the cache of each model.

        Raises:
            MismatchError: One does not go from line to line, or their inputs differ.
        """
        caches = [each.start_scan() for each in self.members]
        if len({each.metadata.get("input", "standardised") for each in self.members}) > 1:
            raise MismatchError(
                "The models take lines prepared in different ways, so they judge whole scans "
                "together, not every line. Leave `--every-line` out."
            )
        return 0, caches

    def step(self, line: np.ndarray, cache: tuple) -> tuple[dict, tuple]:
        """Take the next line of a scan, see `Predictor.step`."""
        taken, caches = cache
        pairs = [
            each.step(line, own) for each, own in zip(self.members, caches, strict=True)
        ]
        out = self._joined([logits for logits, _ in pairs], np.array([taken + 1]))
        return out, (taken + 1, [own for _, own in pairs])

    def _of_whole_scans(self, images, batch_size, progress, lines):
        shares = [each.probabilities(images, lines, batch_size) for each in self.members]
        if progress:
            progress(len(images), len(images))
        return {"state": _logarithm(np.mean(shares, 0))}

    def _joined(self, out, lines):
        """Join the outputs of the models, of which `lines` were seen, as `state` has them."""
        shares = [
            calibrated(each["state"], model.metadata, lines)
            for each, model in zip(out, self.members, strict=True)
        ]
        joined = {"state": _logarithm(np.mean(shares, 0))}
        for name in HEADS:
            if all(name in each for each in out):
                share = np.mean([sigmoid(each[name]) for each in out], 0, np.float64)
                share = np.clip(share, LEAST, 1 - 1e-7)
                joined[name] = np.log(share / (1 - share)).astype(np.float32)
        return {**joined, **{k: out[0][k] for k in ("recorded", "seen") if k in out[0]}}


def _logarithm(shares):
    return np.log(np.maximum(shares, LEAST)).astype(np.float32)


def _mean_threshold(known, name):
    """Return the mean of a threshold of several models as a table of metadata, if all have it."""
    tables = [each.get(name) for each in known]
    if any(threshold(each, name, 1) is None for each in known):
        return {}
    lines = sorted({line for table in tables for line in table.get("lines", (1,))})
    values = np.mean([[threshold(each, name, n) for n in lines] for each in known], 0)
    if name == "change":  # one number for all lines
        return {name: {**tables[0], "threshold": float(values[0])}}
    return {name: {"lines": lines, "thresholds": values.tolist()}}

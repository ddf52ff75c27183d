"""Judge scans from Python: a folder becomes scans, and each scan a prediction to look at.

scans = stm_keras.load_scans("inbox")
for prediction in stm_keras.predict(scans):
    print(prediction)
"""

import base64
import html
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stm_keras.errors import StmKerasError, UsageError
from stm_keras.inference.find_files import find_files
from stm_keras.inference.find_model import DEFAULT, choose_model_file
from stm_keras.inference.judge import judge_scan
from stm_keras.inference.onnx_model import load_onnx
from stm_keras.inference.predictor import Predictor
from stm_keras.inference.verdict import ScanVerdict
from stm_keras.readers import each_scan
from stm_keras.scan import Scan


@dataclass(frozen=True)
class Prediction:
    """A scan and the verdict on it."""

    scan: Scan
    result: ScanVerdict

    @property
    def verdict(self) -> str:
        """What to act on: the likeliest class, or why it is not reliable."""
        return self.result.verdict

    @property
    def probabilities(self) -> dict[str, float]:
        """Probability of each class; empty where nothing could be judged."""
        shares = self.result.probabilities or ()
        return dict(zip(self.result.classes, shares, strict=bool(shares)))

    @property
    def change_lines(self) -> tuple | None:
        """First lines with another tip, in lines of the scan; None where nobody can tell."""
        return self.result.change_lines

    def record(self) -> dict:
        """Return all that is known, JSON-ready, as of `ScanVerdict.record`."""
        return {"path": self.scan.path, "index": self.scan.index, **self.result.record()}

    def __repr__(self) -> str:
        said = [repr(self.verdict)]
        if self.result.name is not None:
            said.append(f"{self.result.name} {self.result.confidence:.0%}")
        if self.change_lines:
            said.append(f"tip changed at line {', '.join(map(str, self.change_lines))}")
        if self.result.reason:
            said.append(self.result.reason)
        path = [repr(self.scan.path)] if self.scan.path else []
        return f"Prediction({', '.join([*path, *said])})"

    def _repr_html_(self) -> str:
        picture = base64.b64encode(self.scan._repr_png_()).decode()
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{share:.2f}</td><td><meter value='{share:.3f}'>"
            "</meter></td></tr>"
            for name, share in self.probabilities.items()
        )
        return (
            f"<figure style='display:inline-block;margin:0.5em'><img alt='the scan' src='data:"
            f"image/png;base64,{picture}'><figcaption>{html.escape(repr(self))}</figcaption>"
            f"<table>{rows}</table></figure>"
        )


def load_scans(path: str | Path, channel: str | None = None) -> list[Scan]:
    """Read all scans of a folder, to its bottom, or of a file or a glob.

    What lies there and is no scan is left out; what is one and cannot be read is a warning.

    Args:
        channel: As of `read_scan`.

    Raises:
        StmKerasError: Nothing there can be read.
    """
    scans: list[Scan] = []
    failed: list[StmKerasError] = []
    for file in filter(None, find_files([Path(path)])):
        try:
            if file.error is not None:
                raise file.error
            for scan in each_scan(file.path, channel)[1]:
                if isinstance(scan, Scan):
                    scans.append(scan)
                else:
                    failed.append(scan)
        except StmKerasError as error:
            if not file.leave_out(error):
                failed.append(error)
    if failed and not scans:
        raise failed[0]
    for reason in failed:
        warnings.warn(" ".join(str(reason).split()), stacklevel=2)
    return scans


def predict(
    scans: Scan | Iterable[Scan] | str | Path, model: Predictor | str | Path | None = None
) -> list[Prediction]:
    """Judge scans.

    Args:
        scans: One or several, or what `load_scans` takes.
        model: A `Predictor`, the name of a model that comes with stm-keras, or an `.onnx` file.

    Raises:
        UsageError: The model is a file that Keras must open, see `load_predictor`.
    """
    if isinstance(scans, str | Path):
        scans = load_scans(scans)
    if isinstance(scans, Scan):
        scans = [scans]
    if not isinstance(model, Predictor):
        path = choose_model_file(DEFAULT if model is None else model)
        if path.suffix != ".onnx":
            raise UsageError(
                f"{path}: give an .onnx file, or load_predictor({str(path)!r})."
            )
        model = load_onnx(path)
    return [Prediction(scan, judge_scan(model, scan)) for scan in scans]

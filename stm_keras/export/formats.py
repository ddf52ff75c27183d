"""Export a model: the formats, which backend writes which of them, and the export itself."""

from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from stm_keras import __version__
from stm_keras.data.model_metadata import complete_metadata
from stm_keras.errors import (
    MismatchError,
    MissingExtraError,
    OutputError,
    StmKerasError,
    UsageError,
    how_to_install,
)
from stm_keras.export import common
from stm_keras.export.common import quiet
from stm_keras.files import atomic, atomic_folder
from stm_keras.inference.find_model import METADATA

if TYPE_CHECKING:
    from stm_keras.data.dataset import Dataset
    from stm_keras.inference.predictor import Predictor

EVERY_BACKEND = {"tensorflow": (), "jax": (), "torch": ()}
ONNX = {
    "tensorflow": ("onnx", "onnxruntime", "tf2onnx"),
    "jax": ("onnx", "onnxruntime", "jax2onnx"),
    "torch": ("onnx", "onnxruntime", "onnxscript"),
}
VARIANTS = ("float16", "int8")
EXTRAS = {  # package to the extra that installs it
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "tf2onnx": "export",
    "jax2onnx": "export-jax",
    "ai_edge_litert": "litert",
    "openvino": "openvino",
}


@dataclass(frozen=True)
class Format:
    """A file format.

    Args:
        title: Its name for people.
        suffix: What the file's name ends in; "" for a folder.
        needs: Backend to the packages that it needs to write and compare.
        cannot: Backend to the reason why it cannot write the format.
        batch: How many scans the file takes at a time, as far as they are compared.
    """

    title: str
    suffix: str
    needs: Mapping[str, tuple[str, ...]]
    cannot: dict[str, str] = field(default_factory=dict)
    batch: int = common.BATCH


NOT_TENSORFLOW = "is made from TensorFlow's graph. Add --backend tensorflow"
NOT_TORCH = "is a program of torch. Add --backend torch"
FORMATS = {
    "keras": Format("Keras", ".keras", EVERY_BACKEND),
    "onnx-step": Format(
        "ONNX, line by line",
        ".onnx",
        dict.fromkeys(EVERY_BACKEND, ("onnx", "onnxruntime")),
        batch=1,
    ),
    "onnx-scan": Format("ONNX, whole scans", ".onnx", ONNX),
    "saved-model": Format(
        "TensorFlow SavedModel",
        "",
        {"tensorflow": (), "jax": ("tensorflow",)},
        {"torch": "needs torch_xla under torch. Add --backend tensorflow or jax"},
    ),
    "litert": Format(
        "LiteRT",
        ".tflite",
        {"tensorflow": ("ai_edge_litert",)},
        dict.fromkeys(("jax", "torch"), NOT_TENSORFLOW),
        batch=1,
    ),
    "openvino": Format(
        "OpenVINO",
        "",
        {backend: (*packages, "openvino") for backend, packages in ONNX.items()},
    ),
    "torch": Format(
        "torch.export",
        ".pt2",
        {"torch": ()},
        dict.fromkeys(("tensorflow", "jax"), NOT_TORCH),
    ),
}


def export_model(
    predictor: "Predictor",
    path: str | Path,
    kind: str | None = None,
    overwrite: bool = False,
    variant: str | None = None,
    scored: "Dataset | None" = None,
) -> dict:
    """Write a model as a file for others; compare it before it gets its name.

    Args:
        predictor: A predictor of a network, as of `load_predictor`.
        path: File or folder to write.
        kind: A name in `FORMATS`, or "onnx". Default: what the name of the file ends in,
            else "keras".
        overwrite: Whether an existing file is replaced.
        variant: "float16" or "int8" for smaller files.
        scored: Labelled scans on which the loss of a variant is measured; it needs them.

    Returns:
        `path`, `format`, `bytes`, `scans` compared, `largest_difference` of a probability;
        of a variant also `variant`, see `variants.write`.

    Raises:
        MismatchError, MissingExtraError, OutputError, UsageError: As of `check_pair`; or
            the copy differs from the model.
    """
    import keras

    from stm_keras.export.writers import WRITERS

    path, every_line = Path(path), predictor.every_line
    kind = choose_format(kind, path, every_line)
    check_pair(kind, path, keras.config.backend(), every_line, overwrite)
    check_variant(kind, variant, scored)
    form = FORMATS[kind]
    write, read = WRITERS[kind]
    facts = complete_metadata(predictor.metadata)
    facts["exported"] = {
        "stm_keras": __version__,
        "format": kind,
        "backend": keras.config.backend(),
    }
    written = (
        atomic(path, overwrite) if form.suffix else atomic_folder(path, METADATA, overwrite)
    )
    result: dict = {"path": str(path), "format": kind}
    with written as temporary, _as_our_errors(path, form, facts), quiet():
        write(predictor, temporary, facts)
        if variant is not None:
            from stm_keras.export import variants

            result["variant"] = variants.write(predictor, temporary, facts, variant, scored)
        difference = common.difference(predictor, read(temporary), form.batch)
        if variant is None and not difference <= common.TOLERANCE:  # NaN is not, either
            raise OutputError(
                f"{path}: the copy differs from the model by {difference:.1e} in a "
                f"probability, more than {common.TOLERANCE:.0e}. Nothing was written."
            )
    sizes = (each.stat().st_size for each in (path, *path.rglob("*")) if each.is_file())
    result |= {"bytes": sum(sizes), "scans": common.NUM_SCANS}
    return {**result, "largest_difference": difference}


def choose_format(kind: str | None, path: str | Path, every_line: bool) -> str:
    """Return the name in `FORMATS` of a format that is given or told by the file's suffix.

    "onnx", and a name that ends in `.onnx`, mean the format that suits the model: whether it
    answers after every line.
    """
    suffix = Path(path).suffix
    if kind is None and suffix != ".onnx":
        by_suffix = {form.suffix: name for name, form in FORMATS.items() if form.suffix}
        return by_suffix.get(suffix, "keras")
    if kind is None or kind == "onnx":
        return "onnx-step" if every_line else "onnx-scan"
    return kind


def check_pair(kind, path, backend, every_line, overwrite=False):
    """Refuse what cannot be written, before anything slow is done.

    Raises:
        UsageError: The backend cannot write the format.
        MismatchError: The model does not fit the format.
        MissingExtraError: A package is not installed.
        OutputError: The name is wrong, or the file exists.
    """
    form, path = FORMATS[kind], Path(path)
    if backend not in form.needs:
        raise UsageError(f"{form.title} {form.cannot[backend]}.")
    if kind == "onnx-step" and not every_line:
        raise MismatchError(
            f"{form.title}: the model judges whole scans. Use --format onnx-scan, or a "
            "model that answers after every line, such as `sequential`."
        )
    for package in form.needs[backend]:
        if find_spec(package) is None:
            extra = EXTRAS.get(package, package)
            raise MissingExtraError(
                f"{form.title} needs {package}, which is not installed. "
                f"{how_to_install(extra)}"
            )
    if form.suffix and path.suffix != form.suffix:
        raise OutputError(f"{path}: the name of a {form.title} file ends in {form.suffix}.")
    if not form.suffix and path.suffix in {each.suffix for each in FORMATS.values()} - {""}:
        raise OutputError(f"{path}: {form.title} is a folder. Leave out {path.suffix}.")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists already. Add --overwrite to replace it.")


def check_variant(kind, variant, scored):
    """Raise a `UsageError` for a variant that a format lacks, or one without scored scans."""
    if variant is None:
        return
    if not kind.startswith("onnx") and (kind, variant) != ("keras", "float16"):
        where = "ONNX and Keras" if variant == "float16" else "ONNX"
        raise UsageError(
            f"`--variant {variant}` is for {where}, not {FORMATS[kind].title}. Leave it out."
        )
    if scored is None:
        raise UsageError(
            f"`--variant {variant}` states what it costs in AUROC, so it needs labelled "
            "scans. Add --data scans.h5."
        )


@contextmanager
def _as_our_errors(path, form, facts):
    """Turn what a converter raises, which may be anything, into an `OutputError`."""
    try:
        yield
    except (StmKerasError, OSError):
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0][:200]
        raise OutputError(
            f"{path}: this model cannot be written as {form.title} under "
            f"{facts['exported']['backend']} ({reason}). Try another backend or format."
        ) from error

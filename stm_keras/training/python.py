"""Train from Python: one call that gives a `Run`, which shows what it holds.

run = stm_keras.train("sequential", data="scans.h5", epochs=5)
run.plot()
run.predictor.probabilities(images)
"""

import html
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stm_keras import runs
from stm_keras.config import KEYWORDS, Config, load_config
from stm_keras.data.dataset import Dataset
from stm_keras.progress import progress_on_stderr
from stm_keras.settings.section import GIVEN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from stm_keras.inference.predictor import Predictor


class Run(runs.Run):
    """The directory of one training run, with what is in it."""

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Scores of each epoch, by name: arrays `(epochs,)`, NaN where one is missing."""
        from stm_keras.evaluation.history import read_history

        return read_history(self.path)

    @property
    def predictor(self) -> "Predictor":
        """The best model. It is loaded anew each time."""
        from stm_keras.inference.find_model import find_model
        from stm_keras.inference.model_file import load_predictor

        return load_predictor(find_model(self.path)[0])

    @property
    def report(self) -> Path:
        """The page with scores and pictures, to open in a browser."""
        return self.file("report.html")

    def plot(self) -> "Figure":
        """Draw loss, AUROC and balanced accuracy of each epoch: a matplotlib `Figure`."""
        from stm_keras.evaluation.plots import plot_history

        return plot_history({self.path.name: self.history})

    def __repr__(self) -> str:
        scores = self.scores()
        if scores is None:
            return f"Run({str(self.path)!r}, not finished)"
        return (
            f"Run({str(self.path)!r}, AUROC {scores['auroc']:.3f}, "
            f"balanced accuracy {scores['balanced_accuracy']:.3f} on {scores['n']} "
            f"{scores['split']} scans)"
        )

    def _repr_html_(self) -> str:
        return f"<code>{html.escape(repr(self))}</code>"


def train(
    config: Config | str | Path | None = None,
    output: str | Path | runs.Run | None = None,
    *,
    data: str | Path | Dataset | None = None,
    model: Any = None,
    augment: Any = None,
    callbacks: Sequence[Any] = (),
    metrics: Sequence[Any] = (),
    settings: Iterable[str | tuple[str, object]] = (),
    trust_code: bool = False,
    tensorboard: bool = False,
    **keywords: Any,
) -> Run:
    """Train a model, judge its test part and write the report; go on where it stopped.

    Args:
        config: A config, its file, or the name of one that comes with stm-keras, such as
            `"sequential"`. None: a small model on simulated scans.
        output: Folder of the run. None: `runs/<date>-<name>`.
        data: Dataset, or its file. None: what the config names, or simulated scans.
        model: A `keras.Model` from `(batch, lines, pixels)` to logits `(batch, classes)`, of
            which each training gets a copy; or a function that builds one, called with
            `num_classes`, `pixels` and `max_lines`.
        augment: A function of the heights of a scan, float32 `(lines, pixels)`, and a
            `numpy.random.Generator`, that returns heights; it comes before our augmentation.
        callbacks: Of Keras. The logs of an epoch hold `val_auroc` and the like. The learning
            rate is not theirs: it follows `train.schedule`.
        metrics: Of Keras, by name or as objects; they are columns of `run.history`.
        settings: As of `load_config`: `["train.ema=0.99"]`, or pairs of key and value.
        trust_code: Whether to run the Python files that the config names.
        tensorboard: Whether to write logs for TensorBoard, into `tensorboard` of the run.
        keywords: `epochs`, `batch_size`, `learning_rate`, `seed`, `protocol`, `fold`, `precision`.

    Returns:
        The `Run`. Its `best.keras` is an ordinary Keras model, see `load_model`.

    Raises:
        StmKerasError: A setting is wrong, or the data does not allow it.
    """
    unknown = sorted(set(keywords) - set(KEYWORDS))
    if unknown:
        raise TypeError(
            f"train() takes no `{unknown[0]}`. It takes {', '.join(KEYWORDS)}, and all else by "
            "`settings`, such as settings=['augment.noise=0.1']."
        )
    given: list[Any] = []
    if model is not None:
        given.append(("train.init", "none"))  # those are weights of another
    given += [*settings, *((KEYWORDS[name], value) for name, value in keywords.items())]
    if isinstance(data, Dataset):
        given.append(("data.path", str(data.source)))
    elif data is not None:
        given.append(("data.path", str(data)))
    if model is not None:
        given.append(("model", {"name": f"{GIVEN}:{_name(model)}"}))
    if augment is not None:
        given.append(("augment.own", f"{GIVEN}:{_name(augment)}"))
    resolved = load_config(config, given)
    path = output.path if isinstance(output, runs.Run) else output
    run = Run(Path(path or runs.default_path(resolved)))
    parts: dict[str, Any] = {"callbacks": tuple(callbacks), "metrics": tuple(metrics)}
    parts["tensorboard"] = tensorboard
    parts |= {"build": model} if model is not None else {}
    parts |= {"augment": augment} if augment is not None else {}
    with ExitStack() as held:
        held.enter_context(progress_on_stderr())
        held.enter_context(run.claimed(resolved))
        dataset = data if isinstance(data, Dataset) else None
        fit_and_report(run, resolved, trust_code=trust_code, dataset=dataset, given=parts)
    return run


def fit_and_report(
    run: runs.Run,
    config: Config,
    *,
    trust_code: bool = False,
    dataset: Dataset | None = None,
    given: dict | None = None,
    **options: Any,
) -> dict | None:
    """Train a claimed run and judge its test part: the scores, None in other processes.

    Args:
        given: Fields of `OwnParts` that were given in Python.
        options: Of `stm_keras.training.train.train`.
    """
    from stm_keras.training.finished import finished_scores

    scores = None if options else finished_scores(run, config, dataset)
    if scores is not None:
        return scores
    if config.model.name == "trees":
        from stm_keras.training.trees import train_trees as fit
    else:
        from stm_keras.training.own_parts import builder_of, load_own_parts
        from stm_keras.training.train import train as fit

        given = dict(given or {})
        if "build" in given:
            given["build"] = builder_of(given["build"])
        own = load_own_parts(config, trust_code, given)
        options |= {"own": replace(own, **given), "dataset": dataset}
    from stm_keras.training.report import report_run

    trained = fit(config, run, **options)
    return None if trained is None else report_run(run, *trained)


def _name(part):
    """Name what was given in Python: a word that a config can hold."""
    name = getattr(part, "__name__", None) or getattr(part, "name", type(part).__name__)
    name = "".join(each if each.isalnum() or each == "_" else "_" for each in str(name))
    return name if name[:1].isalpha() and name.isascii() else f"own_{name}"

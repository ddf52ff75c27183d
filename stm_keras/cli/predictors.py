"""Which models a command judges with: one, or several as an ensemble."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stm_keras.cli import options
from stm_keras.errors import UsageError
from stm_keras.progress import stage

if TYPE_CHECKING:
    from stm_keras.inference.predictor import Predictor  # numpy takes a tenth of a second


def models_first(models: Iterable[Path], paths: list[Path]) -> tuple[list, list]:
    """Return the models that are meant, those among the first paths too, and what to judge.

    So `--model runs/vit-fold*` means all that the shell makes of it.

    Raises:
        UsageError: Nothing is left to judge.
    """
    from stm_keras.inference.find_model import is_model

    models = list(models)
    endings = (".keras", ".onnx", ".skops")
    while paths and (is_model(paths[0]) or not models and paths[0].suffix in endings):
        models.append(paths.pop(0))
    if not paths:
        raise UsageError(f"{models[-1]}: is a model. Give scans to judge as well.")
    return models, paths


def trust_layers(models: Iterable[Path]) -> None:
    """Run the files by which runs were trained whose networks have layers of the user's own.

    Keras has been loaded.

    Raises:
        UsageError: Such a model lies in no run.
        InputError: A file is missing, or has changed since.
    """
    from stm_keras.inference.find_model import find_model, needs_keras, read_metadata
    from stm_keras.inference.model_file import has_own_layers

    for model in models:
        file, run = find_model(model)
        if not needs_keras(file) or not has_own_layers(file):
            continue
        if run is None:
            raise UsageError(
                f"`--trust-code`: {file} lies in no run, and a model file alone never has "
                "code run. Give the folder of its run."
            )
        from stm_keras.training.own_parts import trust_run

        trust_run(run, read_metadata(file))


def load_models(models: list[Path], trust_code: bool = False) -> "Predictor":
    """Load the model that is meant, the shipped one if none, or several as one `Predictor`.

    Raises:
        StmKerasError: One is missing or damaged, or they do not fit each other.
    """
    from stm_keras.inference.find_model import (
        DEFAULT,
        choose_model_file,
        needs_keras,
        runs_in,
    )

    meta = click.get_current_context().meta
    with_keras = any(meta.get(f"stm_keras.{name}") for name in ("backend", "device"))
    each_model = [run for path in models or [DEFAULT] for run in runs_in(path)]
    files = [choose_model_file(path, with_keras) for path in each_model]
    if any(map(needs_keras, files)):
        options.load_keras()
    if trust_code:
        trust_layers(each_model)
    from stm_keras.inference.model_file import load_predictor

    stage("loading the model")
    predictors = list(map(load_predictor, files))
    if len(predictors) == 1:
        return predictors[0]
    from stm_keras.inference.ensemble import EnsemblePredictor

    return EnsemblePredictor(tuple(predictors))

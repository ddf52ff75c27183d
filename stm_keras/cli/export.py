"""`stm-keras export` and `stm-keras models`."""

import json
from dataclasses import replace

import click

from stm_keras.cli import options
from stm_keras.cli.predictors import trust_layers
from stm_keras.errors import UsageError
from stm_keras.export.formats import (
    FORMATS,
    VARIANTS,
    check_pair,
    check_variant,
    choose_format,
)
from stm_keras.files import check_file, check_outputs
from stm_keras.progress import stage


@click.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--format",
    "kind",
    type=click.Choice([*FORMATS, "onnx"]),
    help="File format. Default: what the name ends in, else keras. `onnx` is onnx-step "
    "for a model that answers after every line, else onnx-scan.",
)
@options.path("-o", "--output", required=True, help="File or folder to write.")
@click.option(
    "--variant",
    type=click.Choice(VARIANTS),
    help="Smaller: weights in float16 (ONNX, Keras), or products in int8 (ONNX). Needs "
    "--data.",
)
@options.path(
    "--data",
    help="Labelled scans on which the loss of a variant is measured; with --others, those "
    "of the known surface.",
)
@options.path(
    "--others",
    help="HDF5 file of scans of other surfaces, with `source`: train the model to call them "
    "unknown. Classes and their probabilities stay. Needs --data.",
)
@options.path(
    "--scores",
    help="Results of a benchmark or an evaluation (JSON): the scores of the config or the "
    "model go into the file, and a model card is written beside it.",
)
@click.option("--data-licence", help="Licence of the training data, for the card.")
@options.overwrite
@options.as_json
@options.trust_code
@options.keras_options
def export(
    model,
    kind,
    output,
    variant,
    data,
    others,
    scores,
    data_licence,
    overwrite,
    as_json,
    trust_code,
):
    """Write a model as a file for others.

    MODEL is a .keras file, the folder of a run, or the name of a shipped model. Every
    file holds class names, preprocessing, temperature and thresholds, and is compared with
    the model on 100 scans before it gets its name. docs/export.md says which backend
    writes which format.

    \b
        stm-keras export runs/vit -o h_si100.keras
        stm-keras export runs/sequential -o h_si100.onnx
        stm-keras export h_si100 -o h_si100.tflite --backend tensorflow
        stm-keras export h_si100 -o small.onnx --variant int8 --data scans.h5
        stm-keras export h_si100 -o ours.keras --data scans.h5 --others others.h5
    """
    from stm_keras.inference.find_model import find_model, needs_keras

    file, run = find_model(model)
    if not needs_keras(file):
        raise UsageError(f"{file}: trees need no export: copy the file.")
    from stm_keras.export.formats import export_model
    from stm_keras.inference.find_model import answers_every_line
    from stm_keras.inference.model_file import load_predictor

    every_line = answers_every_line(file)
    kind = choose_format(kind, output, every_line)
    card = None if scores is None else output.with_suffix(".md")
    own = [] if run is None else run.files()
    written = {"--output": output, "--scores": card}
    check_outputs(written, [file, data, others, scores, *own], whole=["--output"])
    check_pair(kind, output, options.choose_backend(), every_line, overwrite)
    if card is not None:
        check_file(card, overwrite)
    check_variant(kind, variant, data)
    if data is not None and variant is None and others is None:
        raise UsageError("`--data` measures the loss of a variant. Add --variant int8.")
    if others is not None and data is None:
        raise UsageError(
            "`--others` needs scans of the known surface. Add --data scans.h5."
        )
    scored = None if variant is None else _labelled_scans(file, run, data)
    options.load_keras(tensorflow=True)
    if trust_code:
        trust_layers([model])
    predictor = load_predictor(file)
    if others is not None:
        predictor = _fitted(predictor, run, data, others)
    if scores is not None:
        predictor, row = _with_scores(predictor, scores)
    stage(f"writing {output} and comparing it with the model")
    facts = export_model(predictor, output, kind, overwrite, variant, scored)
    if scores is not None:
        from stm_keras.training.model_card import write_model_card

        command = ""
        if others is not None:
            command = f"stm-keras export {file.name} -o {output.name} --data {data.name} "
            command += f"--others {others.name}"
        write_model_card(
            *(card, predictor, row, run, data_licence, facts.get("variant"), overwrite),
            *(file.with_suffix(".md"), command),
        )
        options.say(f"{card}: the model card.")
    click.echo(json.dumps(facts, allow_nan=False) if as_json else _text(facts))
    usable = output.suffix in (".keras", ".onnx")
    command = ["stm-keras", "predict", "SCAN", "--model", str(output)]
    options.say_next(card, output, command if usable else None)


def _fitted(predictor, run, data, others):
    """Fit the layer for unknown surfaces, without the scans that test the run."""
    from stm_keras.data.load import load_dataset
    from stm_keras.progress import progress_on_stderr
    from stm_keras.training.unknown_surface import (
        fit_unknown_surface,
        known_scans,
        load_other_surfaces,
    )

    dataset = load_dataset(data)
    surfaces = load_other_surfaces(others, dataset)
    known, groups = known_scans(dataset, run)
    with progress_on_stderr():
        fitted = fit_unknown_surface(predictor, known, surfaces, groups)
    measured = fitted.metadata["unknown"]["measured"]
    lines = max(measured, key=int)
    found, alarms = (measured[lines][name] for name in ("found", "false_alarms"))
    options.say(
        f"After {lines} lines {found:.0%} of the other surfaces are called unknown, and "
        f"{alarms:.0%} of the known one, each by a model that saw nothing of its source or session."
    )
    return fitted


def _labelled_scans(file, run, data):
    """Read the scans that score a variant: the test part where the model is of a run."""
    from stm_keras.data.load import load_dataset
    from stm_keras.export.variants import scored_scans
    from stm_keras.inference.evaluate import select_scans
    from stm_keras.inference.find_model import read_metadata

    dataset = load_dataset(data)
    facts = read_metadata(file)
    if not facts:
        raise UsageError(f"{file}: `--variant` needs a model that stm-keras wrote.")
    indices = select_scans(dataset, run).indices
    if not len(indices):  # the run has no test part
        indices = select_scans(dataset, part="all").indices
    return scored_scans(facts, dataset, indices, data)


def _with_scores(predictor, scores):
    """Return the predictor with its scores in its facts, and their row for the card."""
    from stm_keras.training.model_card import read_scores, with_scores

    training = predictor.metadata.get("training")
    if training is None:
        raise UsageError("`--scores`: the model does not say how it was trained.")
    row = read_scores(scores, training["config"]["name"])
    return replace(predictor, metadata=with_scores(predictor, row)), row


def _text(facts):
    text = (
        f"{facts['path']}: {facts['bytes'] / 1e6:.1f} MB, largest difference of a "
        f"probability {facts['largest_difference']:.1e} over {facts['scans']} scans"
    )
    cost = facts.get("variant")
    if cost is None:
        return text
    return text + (
        f"\n{cost['name']}: AUROC {cost['auroc']:.4f}, {cost['auroc_float32']:.4f} in "
        f"float32: a loss of {cost['loss']:.4f} on {cost['scans']} scans of {cost['data']}"
    )


@click.command()
@options.as_json
def models(as_json):
    """List the models that come with stm-keras.

    `stm-keras predict` takes any of them by name, and the first where none is named.

    \b
        stm-keras models
        stm-keras predict scan.png --model h_si100_simulated
    """
    from stm_keras.inference.find_model import shipped_models

    shipped = shipped_models()
    if as_json:
        click.echo(json.dumps([model.to_json() for model in shipped], allow_nan=False))
        return
    if not shipped:
        click.echo("No models come with this installation.")
    for model in shipped:
        table = model.to_json()
        sizes = [f"{kind} {size / 1e6:.1f} MB" for kind, size in table["files"].items()]
        click.echo(f"{model.name}: {', '.join(table['classes'])}")
        click.echo(f"    {table['parameters']:,} weights, {', '.join(sizes)}")
        for name, text in table["scores"].items():
            click.echo(f"    {name}: {text}")
        if model.card is not None:
            click.echo(f"    card: {model.card}")

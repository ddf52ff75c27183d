"""`stm-keras train`."""

import contextlib
import json
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.config import KEYWORDS, load_config
from stm_keras.errors import UsageError
from stm_keras.files import check_outputs
from stm_keras.progress import progress_on_stderr
from stm_keras.runs import FollowedRun, Run, default_path
from stm_keras.signals import EXIT_CODE, INTERRUPTED, Preempted, watched
from stm_keras.training.finished import finished_scores, prolonged_config
from stm_keras.training.launch import KINDS, check_parallel, ending_together

SHORTS = {  # option to setting
    "data": "data.path",
    "others": "data.others",
    **KEYWORDS,
}


@click.command()
@click.argument("config", type=options.CONFIG, required=False)
@options.path("--data", help="Dataset to train on. Default: simulated scans.")
@options.path(
    "--others",
    help="Scans of other surfaces, to call unknown: short for --set data.others=...",
)
@options.path("-o", "--output", help="Run folder. [runs/<date>-<name>]")
@click.option("--epochs", type=int, help="Short for --set train.epochs=...")
@options.count(
    "--more-epochs",
    help="Prolong the finished run of -o by so many epochs; the schedule is drawn anew.",
)
@click.option("--batch-size", type=int, help="Short for --set train.batch_size=...")
@click.option("--learning-rate", type=float, help="Short for --set train.learning_rate=...")
@click.option("--seed", type=int, help="Short for --set seed=...")
@click.option("--protocol", help="p1, p2 or p3: short for --set data.protocol=...")
@click.option("--fold", type=int, help="Test fold: short for --set data.fold=...")
@click.option("--precision", help="float32, mixed_bfloat16 or mixed_float16.")
@click.option(
    "--parallel",
    type=click.Choice(KINDS),
    help="Share every batch among the devices here, or the processes of srun or torchrun.",
)
@click.option(
    "--set", "settings", multiple=True, help="section.key=value; may be repeated."
)
@click.option(
    "--trust-code",
    is_flag=True,
    help="Run the Python files of functions of your own that the config names.",
)
@click.option(
    "--tensorboard", is_flag=True, help="Write logs for TensorBoard into the run folder."
)
@options.keras_options
@options.as_json
def train(
    config,
    output,
    more_epochs,
    parallel,
    settings,
    as_json,
    trust_code,
    tensorboard,
    **shorts,
):
    """Train a model as CONFIG says. Start again to resume.

    CONFIG is a TOML file, or the name of a config that comes with stm-keras: changes, cnn,
    cnn_small, lrcn, pretrain, quickstart, sequential, trees, vit or vit_small.

    Without CONFIG it trains a small model on simulated scans, in a few minutes. The
    run folder gets the model (best.keras), the history, the scores on the test part
    and a report. Stopped by SIGTERM or SIGUSR1, as SLURM sends, it keeps the epochs
    that are done and exits with 75. A finished run is left as it is.

    --more-epochs goes on from the last epoch of a finished run, whose CONFIG and settings need
    not be given again. Warm-up and cosine are those of all epochs together: the learning rate
    starts where the longer schedule has it at that step (docs/training.md).

    \b
        stm-keras train
        stm-keras train vit --data scans.h5 -o runs/vit --epochs 60
        stm-keras train --backend jax --set model.width=24 --set augment.cut=0.5
        stm-keras train -o runs/vit --more-epochs 20
        srun --ntasks=4 stm-keras train vit --parallel processes
    """
    given = [
        (SHORTS[name], str(value) if isinstance(value, Path) else value)
        for name, value in shorts.items()
        if value is not None
    ]
    settings = [*settings, *given]
    if more_epochs is None:
        resolved = load_config(config, settings)
    elif output is None:
        raise UsageError("`--more-epochs` needs the run to prolong. Add -o and its folder.")
    else:
        resolved = prolonged_config(Run(output), more_epochs, config, settings)
    path = output or default_path(resolved)
    read = (resolved.data.path, resolved.data.others, resolved.train.init)
    check_outputs({"--output": [path, *Run(path).files()]}, read)
    trees = resolved.model.name == "trees"  # which need no keras
    backend = None if trees else options.choose_backend()
    launch = check_parallel(
        parallel, backend, resolved.model.name, resolved.train.jit_compile
    )
    if launch is not None and launch.rank == 0 and not launch.here:
        options.say(
            "This process listens for those of other machines: on port "
            f"{launch.address.rpartition(':')[2]} of every address of this one, and on ports "
            "that the libraries choose. Use it only in a network that you trust."
        )
    own = {"trust_code": trust_code, "given": {"tensorboard": tensorboard}}
    if parallel:
        from stm_keras.training.parallel import make_strategy

        strategy = options.load_keras(lambda: make_strategy(parallel, launch))
        with ending_together(strategy):
            scores = _train(path, resolved, own, more_epochs, strategy)
    else:
        scores = _train(path, resolved, own, more_epochs)
    if scores is None:  # another process prints them
        return
    if as_json:
        click.echo(json.dumps({"run": str(path), **scores}, allow_nan=False))
    else:
        from stm_keras.cli.evaluate import score_lines

        click.echo(f"{path}\n" + score_lines(scores))
    model = Run(path).file("best.skops" if trees else "best.keras")
    command = ["stm-keras", "predict", "SCAN", "--model", str(path)]
    if trust_code:
        from stm_keras.inference.model_file import has_own_layers

        command += ["--trust-code"] * has_own_layers(model)
    options.say_next(Run(path).file("report.html"), model, command)


def _train(path, config, own, more_epochs, strategy=None):
    """Train and report a run; of several processes all but the first return None."""
    first = strategy is None or strategy.rank == 0
    run = Run(path) if first else FollowedRun(path)
    try:
        with watched(), contextlib.ExitStack() as held:
            if first:
                held.enter_context(progress_on_stderr())

            def claim():
                held.enter_context(run.claimed(config, more_epochs is not None))

            claim() if strategy is None else strategy.run_on_first(claim)
            return _fit(run, config, own, strategy)
    except (KeyboardInterrupt, Preempted) as stop:
        by_signal = isinstance(stop, Preempted)
        reason = f"Stopped by {stop}" if by_signal else "Interrupted"
        outcome = (
            f". Run the same command again to go on in {path}."
            if run.has_epochs()
            else " before the first epoch was done: nothing is kept."
        )
        if first:
            options.say(f"\n{reason}{outcome}")
        click.get_current_context().exit(EXIT_CODE if by_signal else INTERRUPTED)


def _fit(run, config, own, strategy):
    scores = finished_scores(run, config) if strategy is None else None
    if scores is not None:  # in a moment, without Keras
        options.say(f"{run.path}: is finished, there is nothing to train.")
        return scores
    if config.model.name != "trees":
        options.load_keras()
    from stm_keras.training.python import fit_and_report

    shared = {} if strategy is None else {"strategy": strategy}
    return fit_and_report(run, config, **own, **shared)

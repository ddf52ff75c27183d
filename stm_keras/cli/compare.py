"""`stm-keras compare`."""

import json
import shlex
from importlib.util import find_spec
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.errors import UsageError
from stm_keras.files import check_outputs
from stm_keras.progress import progress_on_stderr
from stm_keras.terminal import shell

DEFAULT = "by config"


@click.command()
@click.argument("paths", type=options.PATH, nargs=-1, metavar="CONFIG")
@options.path("--data", help="Dataset: HDF5, NPZ, MAT, or pictures.")
@options.path("-o", "--output", required=True, help="Folder, or part of one.")
@click.option(
    "--backends", default="tensorflow,jax,torch", show_default=True, help="Which, by comma."
)
@click.option(
    "--reference",
    default=DEFAULT,
    show_default="native,timm for vit",
    help="native, native-unmasked, timm, or none: the same network without Keras.",
)
@click.option("--compile-reference", is_flag=True, help="Also by torch.compile.")
@click.option(
    "--precision", default="float32", show_default=True, help="Or mixed_bfloat16."
)
@click.option(
    "--jit", default="auto", show_default=True, help="auto, true, false, by comma."
)
@click.option("--eager", is_flag=True, help="Also without any compilation.")
@options.count("--batch-size", help="Scans of a batch.")
@click.option(
    "--set", "settings", multiple=True, help="section.key=value; may be repeated."
)
@options.count(
    "--steps", default=40, show_default=True, help="Steps over which losses are compared."
)
@options.count("--rounds", "repeats", default=3, show_default=True, help="Timed rounds.")
@options.count("--steps-per-round", default=5, show_default=True, help="Timed.")
@click.option(
    "--loading",
    type=click.IntRange(0),
    default=0,
    help="Batches of a real epoch, to see how long training waits for them.",
)
@click.option(
    "--epochs", type=click.IntRange(0), default=0, help="Of runs that are scored; 0: none."
)
@options.count("--seeds", default=3, show_default=True, help="Scored runs.")
@click.option(
    "--cores", type=click.IntRange(0), default=0, help="Cores of a setup; 0: all."
)
@options.path("--weights", help="weights.npz of another comparison.")
@click.option("--slurm", is_flag=True, help="Queue a job for each backend.")
@click.option("--sbatch", multiple=True, help='Options for sbatch: "-p gpu --gres=gpu:1".')
@click.option("--only", multiple=True, metavar="SETUP", help="Only this row (for a job).")
@click.option(
    "--join", "merge", is_flag=True, help="Join the folders given instead of CONFIG."
)
@options.overwrite
@options.as_json
def compare(paths, data, output, only, merge, slurm, sbatch, overwrite, as_json, **given):
    """Train the same network on several backends, and compare.

    CONFIG is a file or a name, as of `stm-keras train`. Every backend gets the same scans,
    split, initial weights and batches, in a process of its own. The folder gets
    comparison.html, .md and .json: agreement, time to the first step, time of a step, scans
    a second, memory, and with --epochs scores of several seeds.

    Start it again to go on, or with more backends: what is done is not done again. A setup
    that fails is a row with the reason, and the exit code is then 3. --join joins folders
    of several machines.

    \b
        stm-keras compare vit --data scans.h5 -o vit
        stm-keras compare cnn --data scans.h5 -o cnn --epochs 5 --cores 1
        stm-keras compare vit --data scans.h5 -o vit --slurm --sbatch "-p gpu"
        stm-keras compare --join here there -o both
    """
    from stm_keras.experiments.compare.folder import ComparisonFolder
    from stm_keras.experiments.compare.report import collect, write
    from stm_keras.experiments.compare.report import merge as merge_folders

    folder = ComparisonFolder(output)
    if merge:
        if not paths:
            raise UsageError("`--join`: give the folders to join.")
        if [path.resolve() for path in paths] != [output.resolve()]:
            check_outputs({"--output": output}, paths)
        sources = [ComparisonFolder(path) for path in paths]
        merge_folders(sources, folder, _command(), overwrite)
    else:
        try:
            with progress_on_stderr():
                if only:
                    _measure_only(folder, only)
                jobs = _measure(folder, paths, data, overwrite, slurm, sbatch, given)
        except KeyboardInterrupt:
            options.say(f"\nInterrupted. Run the same command to go on in {output}.")
            click.get_current_context().exit(130)
        if slurm:
            _show_jobs(folder, jobs, as_json)
            return
    comparison = collect(folder)
    write(folder, comparison)
    _show(folder, comparison, as_json)


def _measure_only(folder, names):
    """Measure some setups of a comparison, as a job does, and exit."""
    from stm_keras.experiments.compare.measure import measure

    plan = folder.plan()
    known = {setup.name: setup for setup in plan.setups}
    for name in names:
        if name not in known:
            raise UsageError(
                f"`--only {name}`: is not a setup of this comparison. Setups: "
                f"{', '.join(known)}."
            )
    setups = [known[name] for name in names]
    measure(folder, plan, setups)
    failed = any(folder.done(setup) is None for setup in setups)
    click.get_current_context().exit(3 if failed else 0)


def _measure(folder, paths, data, overwrite, slurm, sbatch, given):
    """Measure what is not done; or queue it, and return the ids of the jobs."""
    from stm_keras.config import find_config
    from stm_keras.experiments.compare.folder import MATERIAL
    from stm_keras.experiments.compare.measure import measure, prepare, submit

    plan = _plan(paths, data, given)
    weights = given["weights"]
    ignored = folder.file(MATERIAL).exists() and not overwrite
    read = [find_config(paths[0]), data, None if ignored else weights]
    check_outputs({"--output": [folder.path, *folder.files()]}, read)
    with folder.locked():
        plan = folder.start(plan, overwrite)
        prepare(folder, plan, weights)
        if slurm:
            return submit(
                folder, plan, [word for text in sbatch for word in shlex.split(text)]
            )
        measure(folder, plan, plan.setups)
    return None


def _plan(paths, data, given):
    """Return what is to be compared, a `Plan`."""
    from stm_keras.config import load_config
    from stm_keras.experiments.compare.folder import NUMBERS
    from stm_keras.experiments.compare.records import (
        Plan,
        default_references,
        has_reference,
        plan_setups,
    )

    if len(paths) != 1 or data is None:
        raise UsageError("Give one CONFIG and --data, or folders and --join.")
    settings = [*given["settings"], ("data.path", str(data.resolve()))]
    if given["batch_size"]:
        settings.append(("train.batch_size", given["batch_size"]))
    config = load_config(paths[0], settings)
    if config.model.name == "trees":
        raise UsageError("`trees` is not a network: there is no backend to compare.")
    jits = [*_split(given["jit"]), *(["eager"] if given["eager"] else [])]
    references = given["reference"]
    if references == DEFAULT:
        references = default_references(config.model, find_spec)
    else:
        references = [] if references == "none" else _split(references)
        if references and not has_reference(config.model):
            raise UsageError(
                "`--reference` is for a vit with linear tokenizer and learned positions. "
                f"Received: model.name={config.model.name}. Use --reference none."
            )
    backends, precisions = _split(given["backends"]), _split(given["precision"])
    return Plan(
        config=config,
        setups=tuple(
            plan_setups(backends, precisions, jits, references, given["compile_reference"])
        ),
        command=_command(),
        **{key: given[key] for key in NUMBERS},
    )


def _split(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def _command():
    """Return the command line, with the names of files instead of their paths."""
    from stm_keras.config import config_word, find_config

    context = click.get_current_context()
    words = ["stm-keras", "compare"]
    for option in context.command.params:
        source = context.get_parameter_source(option.name)
        if source is not click.core.ParameterSource.COMMANDLINE or option.name in (
            "overwrite",
            "as_json",
            "slurm",
            "sbatch",
        ):
            continue
        value = context.params[option.name]
        if option.name == "paths":
            merge = context.params["merge"]
            words += [
                path.name if merge else config_word(find_config(path)) for path in value
            ]
            continue
        for each in value if option.multiple else (value,):
            words.append(option.opts[-1])
            if not option.is_flag:
                words.append(each.name if isinstance(each, Path) else str(each))
    return shell(words)


def _show_jobs(folder, jobs, as_json):
    if as_json:
        click.echo(json.dumps({"folder": str(folder.path), "jobs": jobs}, allow_nan=False))
        return
    for name, number in jobs.items():
        click.echo(f"{number}  {name}")
    options.say(f"The last one writes {folder.file('comparison.html')}.")


def _show(folder, comparison, as_json):
    """Print the table, and exit with 3 where a setup did not run."""
    from stm_keras.cli.analyze import table
    from stm_keras.experiments.compare.summary import cells, conditions, failures

    failed = failures(comparison["rows"])
    if as_json:
        click.echo(json.dumps(comparison, allow_nan=False))
    else:
        titles, rows = cells(comparison["rows"])
        click.echo(table([dict(zip(titles, row, strict=True)) for row in rows]))
        for text in conditions(comparison):
            click.echo(text)
        click.echo(folder.file("comparison.html"))
    for text in failed:
        options.say(f"Did not run: {text}")
    if failed:
        click.get_current_context().exit(3)
    folder.remove_batches()

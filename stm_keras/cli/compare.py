"""`stm-keras compare`."""

import json
import shlex
from importlib.util import find_spec
from pathlib import Path

import click

from stm_keras.cli import options
from stm_keras.errors import UsageError
from stm_keras.files import check_outputs
from stm_keras.terminal import shell

DEFAULT = "by config"


@click.command()
@click.argument("paths", type=options.PATH, nargs=-1, metavar="CONFIG")
@click.option("--data", type=options.PATH, help="Dataset: HDF5, NPZ, MAT, or pictures.")
@click.option(
    "-o", "--output", type=options.PATH, required=True, help="Folder, or part of one."
)
@click.option(
    "--backends", default="tensorflow,jax,torch", show_default=True, help="Which, by comma."
)
@click.option(
    "--reference",
    default=DEFAULT,
    show_default="native,timm for vit",
    help="native, native-unmasked, timm, or none: the same network without Keras.",
)
@click.option(
    "--precision", default="float32", show_default=True, help="Or mixed_bfloat16."
)
@click.option(
    "--jit", default="auto", show_default=True, help="auto, true, false, by comma."
)
@click.option("--eager", is_flag=True, help="Also without any compilation.")
@click.option("--batch-size", type=click.IntRange(1), help="Scans of a batch.")
@click.option(
    "--set", "settings", multiple=True, help="section.key=value; may be repeated."
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=40,
    show_default=True,
    help="Steps over which losses are compared.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=3, show_default=True, help="Timed rounds."
)
@click.option(
    "--steps-per-round", type=click.IntRange(1), default=5, show_default=True, help="Timed."
)
@click.option(
    "--loading",
    type=click.IntRange(0),
    default=0,
    help="Batches of a real epoch, to see how long training waits for them.",
)
@click.option(
    "--epochs", type=click.IntRange(0), default=0, help="Of runs that are scored; 0: none."
)
@click.option(
    "--seeds", type=click.IntRange(1), default=3, show_default=True, help="Scored runs."
)
@click.option("--cores", type=click.IntRange(0), default=0, help="Cores of a side; 0: all.")
@click.option("--weights", type=options.PATH, help="weights.npz of another comparison.")
@click.option("--slurm", is_flag=True, help="Queue a job for each backend.")
@click.option("--sbatch", multiple=True, help='Options for sbatch: "-p gpu --gres=gpu:1".')
@click.option("--only", multiple=True, metavar="SIDE", help="Only this row (for a job).")
@click.option("--merge", is_flag=True, help="Join the folders given instead of CONFIG.")
@options.overwrite
@options.as_json
def compare(paths, data, output, only, merge, slurm, sbatch, overwrite, as_json, **given):
    """Train the same network on several backends, and compare.

    CONFIG is a file or a name, as of `stm-keras train`. Every backend gets the same scans,
    split, initial weights and batches, in a process of its own. The folder gets
    comparison.html, .md and .json: agreement, time to the first step, time of a step, scans
    a second, memory, and with --epochs scores of several seeds.

    Start it again to go on, or with more backends: what is done is not done again. A side
    that fails is a row with the reason, and the exit code is then 3. --merge joins folders
    of several machines.

    \b
        stm-keras compare vit --data scans.h5 -o vit
        stm-keras compare cnn --data scans.h5 -o cnn --epochs 5 --cores 1
        stm-keras compare vit --data scans.h5 -o vit --slurm --sbatch "-p gpu"
        stm-keras compare --merge here there -o both
    """
    from stm_keras.experiments.compare.folder import Folder
    from stm_keras.experiments.compare.report import collect, write
    from stm_keras.experiments.compare.report import merge as join

    folder = Folder(output)
    if merge:
        if not paths:
            raise UsageError("`--merge`: give the folders to join.")
        if [path.resolve() for path in paths] != [output.resolve()]:
            check_outputs({"--output": output}, paths)
        join(list(map(Folder, paths)), folder, _typed(), overwrite)
    else:
        try:
            jobs = _measure(folder, paths, data, only, overwrite, slurm, sbatch, given)
        except KeyboardInterrupt:
            options.say(f"\nInterrupted. Type the same command to go on in {output}.")
            click.get_current_context().exit(130)
        if slurm:
            _show_jobs(folder, jobs, as_json)
            return
    comparison = collect(folder)
    write(folder, comparison)
    _show(folder, comparison, as_json)


def _measure(folder, paths, data, only, overwrite, slurm, sbatch, given):
    """Measure what is not done; or queue it, and return the numbers of the jobs."""
    from stm_keras.config import find_config
    from stm_keras.experiments.compare.folder import MATERIAL
    from stm_keras.experiments.compare.measure import measure, prepare

    if only:
        plan = folder.plan()
        sides = _named(plan, only)
        measure(folder, plan, sides, options.say)
        failed = any(folder.done(side) is None for side in sides)
        click.get_current_context().exit(3 if failed else 0)
    asked = _plan(paths, data, given)
    kept = folder.file(MATERIAL).exists() and not overwrite
    read = [find_config(paths[0]), data, None if kept else given["weights"]]
    check_outputs({"--output": [folder.path, *folder.files()]}, read)
    with folder.locked():
        plan = folder.start(asked, overwrite)
        prepare(folder, plan, given["weights"], options.say)
        if slurm:
            from stm_keras.experiments.compare.slurm import submit

            words = [word for text in sbatch for word in shlex.split(text)]
            return submit(folder, plan, words)
        measure(folder, plan, plan.sides, options.say)
    return None


def _plan(paths, data, given):
    """Return what is to be compared, a `Plan`."""
    from stm_keras.config import load_config
    from stm_keras.experiments.compare.folder import Plan
    from stm_keras.experiments.compare.sides import (
        can_refer,
        default_references,
        plan_sides,
    )

    if len(paths) != 1 or data is None:
        raise UsageError("Give one CONFIG and --data, or folders and --merge.")
    settings = [*given["settings"], ("data.path", str(data.resolve()))]
    if given["batch_size"]:
        settings.append(("train.batch_size", given["batch_size"]))
    resolved = load_config(paths[0], settings)
    if resolved.model.name == "trees":
        raise UsageError("`trees` is no network: there is no backend to compare.")
    jits = [*_list(given["jit"]), *(["eager"] if given["eager"] else [])]
    references = given["reference"]
    if references == DEFAULT:
        references = default_references(resolved.model, find_spec)
    else:
        references = [] if references == "none" else _list(references)
        if references and not can_refer(resolved.model):
            raise UsageError(
                "`--reference` is for a vit with linear tokenizer and learned positions. "
                f"Received: model.name={resolved.model.name}. Take --reference none."
            )
    sides = plan_sides(
        _list(given["backends"]), _list(given["precision"]), jits, references
    )
    keys = ("steps", "repeats", "steps_per_round", "loading", "cores", "epochs", "seeds")
    chosen = {key: given[key] for key in keys}
    return Plan(config=resolved, sides=tuple(sides), command=_typed(), **chosen)


def _list(text):
    return [word.strip() for word in text.split(",") if word.strip()]


def _typed():
    """Return the command line, with the names of files instead of their places."""
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


def _named(plan, names):
    known = {side.name: side for side in plan.sides}
    for name in names:
        if name not in known:
            raise UsageError(
                f"`--only {name}`: is no side of this comparison. Sides: {', '.join(known)}."
            )
    return [known[name] for name in names]


def _show_jobs(folder, jobs, as_json):
    if as_json:
        click.echo(json.dumps({"folder": str(folder.path), "jobs": jobs}, allow_nan=False))
        return
    for name, number in jobs.items():
        click.echo(f"{number}  {name}")
    options.say(f"The last one writes {folder.file('comparison.html')}.")


def _show(folder, comparison, as_json):
    """Print the table, and exit with 3 where a side did not run."""
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
    folder.tidy()

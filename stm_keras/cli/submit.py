"""`stm-keras submit`."""

import json
import shlex
from pathlib import Path

import click

from stm_keras.backend import BACKENDS
from stm_keras.cli import options
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import LOCK, check_outputs, locked
from stm_keras.signals import EXIT_CODE, Preempted, watched
from stm_keras.terminal import shell


@click.command()
@click.argument("config", type=options.CONFIG, required=False)
@click.option("--sweep", "file", type=options.PATH, help="TOML file with all of the below.")
@click.option("--data", type=options.PATH, help="Dataset to train on.")
@click.option("-o", "--output", type=options.PATH, help="Folder of the sweep.")
@click.option("--grid", multiple=True, metavar="KEY=VALUE,...", help="May be repeated.")
@click.option(
    "--space",
    multiple=True,
    metavar="KEY=LOW:HIGH[:log]",
    help="Search instead; also KEY=VALUE,... May be repeated.",
)
@click.option("--sampler", type=click.Choice(["tpe", "random"]), help="Of a search. [tpe]")
@click.option("--trials", type=click.IntRange(1), help="Of a search. [20]")
@click.option(
    "--seeds", type=click.IntRange(1), help="Runs of each setting: seed 0, 1, ..."
)
@click.option("--set", "settings", multiple=True, help="section.key=value for every run.")
@click.option("--backend", type=click.Choice(BACKENDS))
@click.option("--concurrent", type=click.IntRange(1), help="Jobs at a time. [8]")
@click.option("--sbatch", help='Words for sbatch, such as "--gres=gpu:1 --time=4:00:00".')
@click.option("--local", type=click.IntRange(1), help="Run here, so many at a time.")
@click.option("--dry-run", is_flag=True, help="Print what would be queued, and stop.")
@click.option("--worker", type=int, hidden=True)  # of a search, in a job
@options.as_json
def submit(config, file, output, local, dry_run, worker, as_json, **asked):
    """Queue many runs of CONFIG on SLURM, or run them here.

    \b
        stm-keras submit vit --data scans.h5 -o sweeps/decay --seeds 5 \\
            --grid train.weight_decay=0.01,0.05 --grid model.dropout=0.1,0.2 --backend jax
        stm-keras analyze sweeps/decay
        stm-keras submit sweeps/decay

    CONFIG is a file or a name, as of `stm-keras train`.

    A grid takes every combination (also of backends: --grid backend=jax,torch), a search
    (--space) what Optuna suggests from the AUROC on validation scans. They become one job
    array; `stm-keras analyze` shows the table as runs finish. Name the folder alone to queue
    what failed or is missing: runs that are done or still queued are left alone.
    """
    from stm_keras.experiments import sweep as folders

    if worker is not None:
        return _work(config, worker)
    folder, sweep = _asked(config, file, output, asked)
    check_outputs({"--output": [folder, *folders.files_of(folder)]}, [file, sweep.data])
    if not dry_run or folders.is_sweep(folder):
        folders.begin_sweep(folder, sweep)
    if dry_run:
        return _show(folder, sweep, _todo(folder, sweep), local)
    refusal = f"{folder}: another process queues or runs this sweep. Wait for it."
    with locked(folder / LOCK, refusal):  # else both would take what is not done
        todo = _todo(folder, sweep)
        if local is not None:
            return _here(folder, todo, local, as_json)
        return _queue(folder, sweep, todo, as_json)


def _asked(config, file, output, asked):
    """Bring together sweep file, options and the folder of a sweep that goes on."""
    from stm_keras.experiments.plan import (
        make_sweep,
        read_space,
        read_sweep,
        read_values,
    )
    from stm_keras.experiments.sweep import is_sweep, open_sweep

    grid = dict(read_values(text) for text in asked.pop("grid"))
    space = dict(read_space(text) for text in asked.pop("space"))
    sbatch = asked.pop("sbatch")
    given = {key: value for key, value in asked.items() if value not in (None, ())}
    given |= {"grid": grid} if grid else {}
    given |= {"space": space} if space else {}
    given |= {} if sbatch is None else {"sbatch": shlex.split(sbatch)}
    if "data" in given:
        given["data"] = str(given["data"])
    if config is not None and is_sweep(config):
        fixed = sorted(set(given) - {"concurrent", "sbatch"})
        if fixed or file is not None or output is not None:
            raise UsageError(
                f"{config}: is a sweep, whose runs are fixed; only --concurrent and --sbatch "
                f"may change. Received: {', '.join(fixed) or '--sweep or --output'}."
            )
        return Path(config), open_sweep(config).model_copy(
            update={**given, "sbatch": tuple(given["sbatch"])} if sbatch else given
        )
    table = {} if file is None else read_sweep(file)
    if config is not None:
        given["config"] = str(config)
    if output is None:
        raise UsageError("Say where the sweep goes: -o sweeps/NAME.")
    return output, make_sweep({**table, **given})


def _todo(folder, sweep):
    """Choose the jobs to queue: dict of name to words."""
    from stm_keras.experiments.plan import jobs
    from stm_keras.experiments.queue import queued
    from stm_keras.experiments.sweep import is_done

    waiting = queued(folder)
    if sweep.space:
        from stm_keras.experiments.search import is_over

        if is_over(folder, sweep):
            return {}
    return {
        name: words
        for name, words in jobs(folder, sweep).items()
        if name not in waiting and not is_done(folder, name)
    }


def _numbers(folder, sweep, todo):
    """Return the names of all jobs, and the numbers of those to queue."""
    from stm_keras.experiments.plan import jobs

    names = list(jobs(folder, sweep))
    numbers = [number for number, name in enumerate(names) if name in todo]
    if not numbers:
        click.echo(
            f"{folder}: all {len(names)} are done or queued. Look: stm-keras analyze {folder}"
        )
    return names, numbers


def _show(folder, sweep, todo, local):
    """Print what would be queued, or run here."""
    from stm_keras.experiments.queue import hand_over, max_array_size, not_over
    from stm_keras.experiments.sweep import is_sweep

    if local is not None:
        for name, words in todo.items():
            click.echo(f"{name}: {shell(['stm-keras', *words])}")
        return
    names, numbers = _numbers(folder, sweep, todo)
    if not numbers:
        return
    largest, shown = max_array_size(), []

    def show(command):
        shown.append(shell(["sbatch", "--parsable", *command]))
        return f"JOB{len(shown)}"  # a number that only SLURM knows

    arguments = folder, numbers, sweep.concurrent, sweep.sbatch, largest
    waiting = not_over(folder, sweep.concurrent)
    for _, first, _ in hand_over(*arguments, waiting, show):
        click.echo(shown[-1])
        for number in numbers:
            if first <= number < first + largest:
                words = shell(["stm-keras", *todo[names[number]]])
                click.echo(f"  {number - first}: {words}")
    if not is_sweep(folder):
        options.say("Nothing was written.")


def _queue(folder, sweep, todo, as_json):
    from stm_keras.experiments.queue import need_sbatch, queue
    from stm_keras.experiments.sweep import write_jobs

    names, numbers = _numbers(folder, sweep, todo)
    rest = len(names) - len(numbers)
    if not numbers:
        return
    need_sbatch()
    write_jobs(folder, sweep)
    found = queue(folder, names, numbers, sweep.concurrent, sweep.sbatch)
    if as_json:
        told = {"sweep": str(folder), "jobs": found, "queued": list(todo)}
        click.echo(json.dumps(told, allow_nan=False))
        return
    also = f" ({rest} are done or queued already)" if rest else ""
    click.echo(
        f"{folder}: {len(todo)} queued{also} as {', '.join(found)}, {sweep.concurrent} at a "
        f"time. Look: stm-keras analyze {folder}"
    )


def _here(folder, todo, local, as_json):
    from stm_keras.experiments.queue import Task, run_all
    from stm_keras.experiments.search import is_over
    from stm_keras.experiments.sweep import is_done, open_sweep

    sweep = open_sweep(folder)

    def done(name):
        return is_over(folder, sweep) if sweep.space else is_done(folder, name)

    tasks = [
        Task(name, words, folder / "logs" / f"{name}.log", lambda name=name: done(name))
        for name, words in list(todo.items())[: local if sweep.space else None]
    ]
    try:
        with watched():
            made = run_all(tasks, local, options.say)
    except (Preempted, KeyboardInterrupt) as asked:
        options.say(f"\nStopped. Go on: stm-keras submit {folder} --local {local}")
        click.get_current_context().exit(EXIT_CODE if isinstance(asked, Preempted) else 130)
    failed = [task.key for task, ok in zip(tasks, made, strict=True) if not ok]
    if as_json:
        click.echo(
            json.dumps(
                {"sweep": str(folder), "ran": list(todo), "failed": failed}, allow_nan=False
            )
        )
    else:
        click.echo(f"{folder}: {len(made) - len(failed)} done. stm-keras analyze {folder}")
    if failed:
        raise StmKerasError(
            f"{len(failed)} runs failed: {', '.join(failed)}. Their logs are in "
            f"{folder / 'logs'}. Mend the cause and go on: stm-keras submit {folder}"
        )


def _work(folder, worker):
    from stm_keras.experiments.search import work
    from stm_keras.experiments.sweep import open_sweep

    try:
        made = work(folder, open_sweep(folder), worker, click.echo)
    except Preempted as asked:
        options.say(f"Asked to leave ({asked}).")
        click.get_current_context().exit(EXIT_CODE)
    click.echo(f"worker {worker}: {made} trials")

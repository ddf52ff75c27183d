"""`stm-keras submit`."""

import json
import shlex
from pathlib import Path

import click

from stm_keras.backend import BACKENDS
from stm_keras.cli import options
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.files import check_outputs
from stm_keras.locks import LOCK, locked
from stm_keras.progress import progress_on_stderr
from stm_keras.signals import EXIT_CODE, Preempted, watched
from stm_keras.terminal import shell


@click.command()
@click.argument("config", type=options.CONFIG, required=False)
@options.path("--sweep", "file", help="TOML file with all of the below.")
@options.path("--data", help="Dataset to train on.")
@options.path("-o", "--output", help="Folder of the sweep.")
@click.option("--grid", multiple=True, metavar="KEY=VALUE,...", help="May be repeated.")
@click.option(
    "--space",
    multiple=True,
    metavar="KEY=LOW:HIGH[:log]",
    help="Search instead; also KEY=VALUE,... May be repeated.",
)
@click.option("--sampler", type=click.Choice(["tpe", "random"]), help="Of a search. [tpe]")
@options.count("--trials", help="Of a search. [20]")
@options.count("--seeds", help="Runs of each setting: seed 0, 1, ...")
@click.option("--set", "settings", multiple=True, help="section.key=value for every run.")
@click.option("--backend", type=click.Choice(BACKENDS))
@options.count("--jobs", "concurrent", help="Jobs at a time. [8]")
@click.option("--sbatch", help='Options for sbatch: "--gres=gpu:1 --time=4:00:00".')
@options.count("--local", help="Run here, so many at a time.")
@click.option("--dry-run", is_flag=True, help="Print what would be queued, and stop.")
@click.option("--worker", type=int, hidden=True)  # of a search, in a job
@options.as_json
def submit(config, file, output, local, dry_run, worker, as_json, **given):
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
    from stm_keras.experiments.sweep import SweepFolder

    if worker is not None:
        return _work(SweepFolder(config), worker)
    folder, sweep = _requested(config, file, output, given)
    check_outputs({"--output": [folder.path, *folder.files()]}, [file, sweep.data])
    if not dry_run or folder.exists():
        folder.start(sweep)
    if dry_run:
        return _show(folder, sweep, _unfinished(folder, sweep), local)
    refusal = f"{folder.path}: another process queues or runs this sweep. Wait for it."
    with locked(folder.file(LOCK), refusal):  # else both would take what is not done
        jobs = _unfinished(folder, sweep)
        if local is not None:
            return _run_here(folder, jobs, local, as_json)
        return _queue(folder, sweep, jobs, as_json)


def _requested(config, file, output, given):
    """Bring together sweep file, options and the folder of a sweep that goes on."""
    from stm_keras.experiments.plan import make_sweep, read_space, read_sweep, read_values
    from stm_keras.experiments.sweep import SweepFolder
    from stm_keras.inference.find_model import is_model

    changes = {
        "grid": dict(read_values(text) for text in given.pop("grid")),
        "space": dict(read_space(text) for text in given.pop("space")),
        "sbatch": tuple(shlex.split(given.pop("sbatch") or "")),
        **given,
    }
    changes = {key: value for key, value in changes.items() if value not in (None, (), {})}
    if "data" in changes:
        changes["data"] = str(changes["data"])
    if config is not None and SweepFolder(config).exists():
        fixed = sorted(set(changes) - {"concurrent", "sbatch"})
        if fixed or file is not None or output is not None:
            raise UsageError(
                f"{config}: is a sweep, whose runs are fixed; only --jobs and --sbatch "
                f"may change. Received: {', '.join(fixed) or '--sweep or --output'}."
            )
        folder = SweepFolder(Path(config))
        return folder, folder.sweep().model_copy(update=changes)
    if config is not None and is_model(config):
        raise UsageError(
            f"{config}: is a run or a model, neither a config nor a sweep. Give a config, such as "
            "the config.toml of a run, or the folder of a sweep."
        )
    table = {} if file is None else read_sweep(file)
    if config is not None:
        changes["config"] = str(config)
    if output is None:
        raise UsageError("Say where the sweep goes: -o sweeps/NAME.")
    return SweepFolder(output), make_sweep({**table, **changes})


def _unfinished(folder, sweep):
    """Return the jobs that are neither done nor queued: dict of name to arguments."""
    from stm_keras.experiments.plan import jobs

    queued, done = folder.jobs.queued(), _done_checks(folder, sweep)
    return {
        name: arguments
        for name, arguments in jobs(folder.path, sweep).items()
        if name not in queued and not done[name]()
    }


def _lines(folder, sweep, unfinished):
    """Return the names of all jobs, and the lines of the manifest to queue."""
    from stm_keras.experiments.plan import jobs

    names = list(jobs(folder.path, sweep))
    lines = [line for line, name in enumerate(names) if name in unfinished]
    if not lines:
        click.echo(
            f"{folder.path}: all {len(names)} are done or queued. To look at them: stm-keras "
            f"analyze {folder.path}"
        )
    return names, lines


def _show(folder, sweep, unfinished, local):
    """Print what would be queued, or run here."""
    if local is not None:
        for name, arguments in unfinished.items():
            click.echo(f"{name}: {shell(['stm-keras', *arguments])}")
        return
    names, lines = _lines(folder, sweep, unfinished)
    if not lines:
        return
    commands = []

    def record(arguments):
        commands.append(shell(["sbatch", "--parsable", *arguments]))
        return f"JOB{len(commands)}"  # a number that only SLURM knows

    arrays = folder.jobs.send_arrays(lines, sweep.concurrent, sweep.sbatch, record)
    for _, first, _, chosen in arrays:
        click.echo(commands[-1])
        for line in chosen:
            arguments = shell(["stm-keras", *unfinished[names[line]]])
            click.echo(f"  {line - first}: {arguments}")
    if not folder.exists():
        options.say("Nothing was written.")


def _queue(folder, sweep, unfinished, as_json):
    from stm_keras.experiments.queue import require_sbatch

    names, lines = _lines(folder, sweep, unfinished)
    if not lines:
        return
    require_sbatch()
    folder.write_jobs(sweep)
    ids = folder.jobs.submit(names, lines, sweep.concurrent, sweep.sbatch)
    arrays = list(dict.fromkeys(each.partition("_")[0] for each in ids.values()))
    if as_json:
        result = {"sweep": str(folder.path), "jobs": arrays, "queued": list(unfinished)}
        click.echo(json.dumps(result, allow_nan=False))
        return
    others = len(names) - len(lines)
    also = f" ({others} are done or queued already)" if others else ""
    click.echo(
        f"{folder.path}: {len(lines)} queued{also} as {', '.join(arrays)}, "
        f"{sweep.concurrent} at a time. To look at them: stm-keras analyze {folder.path}"
    )


def _run_here(folder, unfinished, local, as_json):
    from stm_keras.experiments.queue import Task, run_all

    sweep, path = folder.sweep(), folder.path
    done = _done_checks(folder, sweep)
    tasks = [
        Task(name, arguments, folder.log(name), done[name])
        for name, arguments in list(unfinished.items())[: local if sweep.space else None]
    ]
    try:
        with watched(), progress_on_stderr():
            results = run_all(tasks, local)
    except (Preempted, KeyboardInterrupt) as reason:
        options.say(f"\nStopped. To go on: stm-keras submit {path} --local {local}")
        code = EXIT_CODE if isinstance(reason, Preempted) else 130
        click.get_current_context().exit(code)
    failed = [task.name for task, ok in zip(tasks, results, strict=True) if not ok]
    if as_json:
        result = {"sweep": str(path), "ran": list(unfinished), "failed": failed}
        click.echo(json.dumps(result, allow_nan=False))
    else:
        click.echo(f"{path}: {len(tasks) - len(failed)} done. stm-keras analyze {path}")
    if failed:
        raise StmKerasError(
            f"{len(failed)} runs failed: {', '.join(failed)}. Their logs are in "
            f"{folder.file('logs')}. Mend the cause and go on: stm-keras submit {path}"
        )


def _done_checks(folder, sweep):
    """Return what tells whether a job is done: dict of name to callable."""
    from stm_keras.experiments.plan import jobs, sweep_runs

    if not sweep.space:
        return {run.name: run.done for run in sweep_runs(sweep, folder.path)}
    from stm_keras.experiments.search import is_over

    return dict.fromkeys(jobs(folder.path, sweep), lambda: is_over(folder, sweep))


def _work(folder, worker):
    from stm_keras.experiments.search import work

    try:
        with progress_on_stderr():
            made = work(folder, folder.sweep(), worker)
    except Preempted as reason:
        options.say(f"Stopped by {reason}.")
        click.get_current_context().exit(EXIT_CODE)
    click.echo(f"worker {worker}: {made} trials")

"""`stm-keras benchmark`."""

import json
import os
from functools import partial

import click

from stm_keras.cli import options
from stm_keras.errors import StmKerasError
from stm_keras.files import atomic, check_outputs
from stm_keras.progress import progress, progress_on_stderr

OTHERS = "<!-- adapt:"  # where on a page the part of another tool begins


@click.command()
@click.argument("configs", type=options.CONFIG, nargs=-1, required=True)
@options.data
@click.option("--protocols", default="p1,p2,p3", show_default=True, help="Which, by comma.")
@click.option(
    "--folds", "num_folds", default=5, show_default=True, help="Folds under P1 and P2."
)
@click.option("--only", multiple=True, help="config:protocol:fold, or a beginning of it.")
@options.path(
    "--runs",
    "folder",
    default="runs/benchmark",
    show_default=True,
    help="Folder of the runs; those that are there are not made again.",
)
@options.count("--jobs", default=1, show_default=True)
@click.option("--set", "settings", multiple=True, help="section.key=value for every run.")
@click.option(
    "--vary",
    "variants",
    multiple=True,
    metavar="NAME:KEY=VALUE,...",
    help="Also each config with these settings changed.",
)
@click.option("--backend", type=click.Choice(["tensorflow", "jax", "torch"]))
@click.option("--train/--no-train", default=True, help="Or only score what is there.")
@options.path(
    "-o",
    "--output",
    "results",
    help="Write all scores to this JSON file; what it holds of other configs is kept.",
)
@click.option(
    "--splices",
    is_flag=True,
    help="Also measure on splices of two test scans how soon a new tip is named.",
)
@click.option(
    "--human",
    is_flag=True,
    help="Also measure from the votes what one rater says where another said something, "
    "and models whose folds under P2 are done on the same scans.",
)
@click.option(
    "--context",
    is_flag=True,
    help="Also measure under P2 and P3 what the scans before a scan bring after few lines.",
)
@options.path("--report", "page", help="Write the table to this Markdown file.")
def benchmark(
    configs,
    protocols,
    only,
    jobs,
    variants,
    train,
    results,
    splices,
    human,
    context,
    page,
    **plan,
):
    """Train and score configs under P1, P2 and P3.

    Each of CONFIGS, files or names as of `stm-keras train`, is trained fold by fold under
    each protocol, and the scores of all folds are pooled. Interrupt it as you like and start
    it again: finished folds stay. --report replaces what it wrote before.

    --vary shows what a setting brings: each config is run as it is and with the setting
    changed, and the page compares them fold by fold.

    \b
        stm-keras benchmark vit --data scans.h5 --protocols p2
        stm-keras benchmark vit --data scans.h5 --vary conv:model.tokenizer=conv
        stm-keras benchmark configs/*.toml --data scans.h5 --only vit:p2:0 --jobs 4
        stm-keras benchmark sequential --data scans.h5 --no-train --splices
        stm-keras benchmark sequential --data scans.h5 --protocols p2 --no-train --human
        stm-keras benchmark sequential --data scans.h5 --protocols p2 --no-train --context
    """
    from stm_keras.config import load_config
    from stm_keras.data.load import load_dataset
    from stm_keras.data.split import PROTOCOLS
    from stm_keras.experiments.collect import pool_context, pool_folds, pool_splices
    from stm_keras.experiments.plan import benchmark_runs, read_variant
    from stm_keras.experiments.queue import run_missing
    from stm_keras.inference.find_model import shipped_models
    from stm_keras.reports.benchmark import merge_rows, results_page

    data = plan["data"]
    check_outputs({"--output": results, "--report": page}, [*configs, data])
    before = [] if results is None else _read_rows(results)
    chosen = protocols.split(",")
    for name in chosen:
        if name not in PROTOCOLS:
            raise click.BadParameter(f"{name} is not a protocol: {', '.join(PROTOCOLS)}")
    for config in configs if train else ():
        load_config(config, plan["settings"])
    dataset = load_dataset(data)
    plan["variants"] = [read_variant(text) for text in variants]
    planned = partial(benchmark_runs, configs, chosen, dataset, **plan)
    wanted = planned(only=only)
    failed = []
    if train:
        with progress_on_stderr():
            failed = run_missing(wanted, jobs, progress("training"))
    rows = pool_folds(planned(), dataset)
    more = {"splices": pool_splices} if splices else {}
    more |= {"context": pool_context} if context else {}
    for name, measure in more.items():
        told = measure(planned(), dataset, progress=progress)
        for row in rows:
            if (key := (row["config"], row["protocol"])) in told:
                row[name] = told[key]
    if human:
        from stm_keras.experiments.human import pool_human

        votes = load_dataset(data, merge=False).votes  # of six classes, where there are
        with progress_on_stderr():
            rows.append(pool_human(planned(), dataset, votes))
    if not rows:
        raise StmKerasError(
            f"{plan['folder']}: no fold is finished yet; the logs beside them say why."
        )
    if results is not None:
        rows = merge_rows(before, rows)
        with atomic(results, overwrite=True) as temporary:
            text = json.dumps(rows, indent=1, allow_nan=False) + "\n"
            temporary.write_text(text, encoding="utf-8")
    models = [(each.name, each.metadata) for each in shipped_models()]
    text = results_page(rows, data.name, models)
    if page is not None:
        whole = text + _others_part(page)
        with atomic(page, overwrite=True) as temporary:
            temporary.write_text(whole, encoding="utf-8")
    click.echo(text)
    options.say_next(report=page)
    if failed:
        raise StmKerasError(
            f"{len(failed)} runs failed: {', '.join(r.key for r in failed)}."
        )


def _others_part(page):
    """Return the end of a page that benchmarks/adapt.py wrote, "" without any."""
    from stm_keras.untrusted import read_text

    if not page.is_file():
        return ""
    _, mark, rest = read_text(page, "a page of results").partition(OTHERS)
    return f"\n{mark}{rest}" if mark else ""


def _read_rows(path):
    """Read what an earlier benchmark wrote: list of dict, empty without a file."""
    from stm_keras.benchmark_records import Rows
    from stm_keras.records import check_record
    from stm_keras.untrusted import read_json

    if not os.path.lexists(path):
        return []
    rows = read_json(path, "the results of a benchmark, or another --output")
    check_record(Rows, rows, path)
    return rows

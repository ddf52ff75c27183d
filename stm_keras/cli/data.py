"""`stm-keras simulate`, `info` and `audit`."""

import glob
import json
import os
import time

import click
import numpy as np

from stm_keras.cli import options
from stm_keras.errors import DatasetError, StmKerasError, UsageError
from stm_keras.files import check_file, check_folder, check_outputs
from stm_keras.progress import progress
from stm_keras.signals import INTERRUPTED


def shard_options(command):
    """Add -o for one file, and --shards with --shard-size for a folder of many."""
    output = click.option("-o", "--output", type=options.PATH, help="HDF5 file to write.")
    shards = click.option("--shards", type=options.PATH, help="Or a folder of shards.")
    size = click.option(
        "--shard-size",
        type=click.IntRange(1),
        help="Scans of a shard. [8192]",
    )
    return output(shards(size(command)))


@click.command()
@options.count("--count", required=True, help="Number of scans.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@options.size
@shard_options
@options.count("--workers", help="Processes. [all cores]")
@click.option("--tip-change", type=click.FloatRange(0, 1), help="Share of scans with one.")
@click.option("--partial", type=click.FloatRange(0, 1), help="Share of aborted scans.")
@options.overwrite
def simulate(
    count, seed, size, output, shards, shard_size, workers, tip_change, partial, overwrite
):
    """Simulate labelled scans of H:Si(100).

    The dataset holds images, the class of each scan and of each line, the line of each
    tip change, and all parameters drawn. The same seed gives the same bytes, on any
    number of workers. With --shards they go into a folder of many files, few in memory at
    a time; after an interruption the same command goes on.

    \b
        stm-keras simulate --count 5000 --seed 1 -o scans.h5
        stm-keras simulate --count 5000 --seed 1 --size 256 -o fine.h5
        stm-keras simulate --count 1000000 --seed 1 --shards scans
    """
    from stm_keras.data.load import save_dataset
    from stm_keras.data.shard_writer import SHARD_SIZE
    from stm_keras.simulate import SimulationConfig
    from stm_keras.simulate import simulate as run
    from stm_keras.simulate.generate import simulate_shards

    check_outputs({"--output": output, "--shards": shards})
    check_target(output, shards, shard_size, overwrite)
    given = {"size": size, "p_tip_change": tip_change, "p_partial": partial}
    config = SimulationConfig(**{k: v for k, v in given.items() if v is not None})
    workers = workers or os.cpu_count() or 1
    if shards is not None:
        given = (count, seed, shards, config, shard_size or SHARD_SIZE, workers, overwrite)
        click.echo(write_shards(shards, "simulating", simulate_shards, *given))
        options.say_next(command=["stm-keras", "train", "--data", str(shards)])
        return
    start = time.perf_counter()
    dataset = run(count, seed, config, workers, progress("simulating"))
    save_dataset(dataset, output, overwrite)
    seconds = time.perf_counter() - start
    click.echo(f"{output}: {count} scans in {seconds:.1f} s, {counts_text(dataset)}")
    options.say_next(command=["stm-keras", "train", "--data", str(output)])


@click.command()
@click.argument("file", type=options.PATH)
@options.path(
    "-o", "--output", help="Folder for contact sheets (PNG), or the PNG file of a scan."
)
@click.option("--channel", help='Image of a scan file, such as "Current" or "Z backward".')
@options.count("--per-class", default=24, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--verify", is_flag=True, help="Compare shards with their SHA-256 as well.")
@options.verbose
@options.overwrite
@options.as_json
def info(file, output, channel, per_class, seed, verify, verbose, overwrite, as_json):
    """Show what a scan, a dataset, a model or a run holds.

    Of a scan file (docs/formats.md), or of each in a folder: image, direction, unit, size,
    bias, setpoint, line time, channels and which lines were recorded; -o draws it. Of a
    dataset -o draws a contact sheet per class, into that folder. Without -o nothing is written.
    JSON is one object a line, one for each scan; of a model all that its file says of it.

    \b
        stm-keras info scan.sxm -o scan.png
        stm-keras info session/ --json
        stm-keras info scans.h5 -o sheets
        stm-keras info runs/vit/best.keras --json
        stm-keras info h_si100
        stm-keras info scans --verify
    """
    from stm_keras.inference.find_files import is_dataset
    from stm_keras.inference.find_model import (
        find_model,
        is_model,
        is_shipped,
        model_text,
        read_metadata,
    )
    from stm_keras.readers.formats import scan_format

    if output is not None:
        sheets = output.glob("*.png") if output.is_dir() else ()
        pictures = output.parent.glob(f"{glob.escape(output.stem)}-*.png")
        check_outputs({"--output": [output, *sheets, *pictures]}, [file])
    verified = {"verified_shards": _verify(file)} if verify else {}
    end = click.get_current_context().exit
    if is_model(file) or is_shipped(file):
        path, run = find_model(file)
        metadata = read_metadata(path)
        if as_json:
            click.echo(json.dumps(metadata, allow_nan=False))
        else:
            click.echo(model_text(path, metadata))
            more = ["stm-keras", "analyze", str(run.path)] if run else None
            options.say_next(command=more)
    elif file.is_dir() and not is_dataset(file):
        end(_folder_info(file, output, channel, as_json, verbose))
    elif scan_format(file):
        end(_scan_info(file, output, channel, overwrite, as_json))
    else:
        _dataset_info(file, output, per_class, seed, overwrite, as_json, verified)


def _verify(folder):
    """Compare shards with their SHA-256; return how many there are."""
    from stm_keras.data.shard_index import is_sharded, verify_shards

    if not is_sharded(folder):
        raise UsageError(f"`--verify`: {folder} is not a folder of shards. Leave it out.")
    index = verify_shards(folder, progress("verifying"))
    options.say(f"{folder}: all {len(index.shards)} shards are as they were written.")
    return len(index.shards)


def _dataset_info(file, output, per_class, seed, overwrite, as_json, verified):
    from stm_keras.data.draw import contact_sheets
    from stm_keras.data.load import load_dataset
    from stm_keras.data.summary import summary, summary_text

    dataset = load_dataset(file)
    facts = summary(dataset)
    if not as_json:
        click.echo(summary_text(facts))
    sheets = []
    if output is not None:
        sheets = contact_sheets(dataset, output, per_class, seed, overwrite)
    if as_json:
        facts = {**facts, "sheets": [str(path) for path in sheets], **verified}
        click.echo(json.dumps(facts, allow_nan=False))
    for path in () if as_json else sheets:
        click.echo(f"wrote {path}")


def _folder_info(folder, output, channel, as_json, verbose):
    """Show every scan of a folder, and report what cannot be read; return the exit code."""
    from stm_keras.inference.find_files import LeftOut, find_files
    from stm_keras.readers.formats import scan_format

    if output is not None:
        raise UsageError(
            f"`-o` draws the scans of one file. Received: the folder {folder}."
        )
    left_out, code = LeftOut(), 0
    for input_file in find_files([folder], left_out=left_out):
        try:
            if input_file.error is not None:
                raise input_file.error
            if not input_file.named and scan_format(input_file.path) is None:
                raise StmKerasError("a dataset: give it by itself")
            code = max(
                code, _scan_info(input_file.path, None, channel, False, as_json, True)
            )
        except StmKerasError as error:
            if not input_file.leave_out(error):
                code = options.report(error, code)
    options.say_left_out(left_out, verbose)
    return code


def _scan_info(file, output, channel, overwrite, as_json, named=False):
    """Show every scan of a file; return the exit code."""
    from stm_keras.readers import each_scan
    from stm_keras.readers.info import scan_metadata, scan_text

    count, scans = each_scan(file, channel)
    code = 0
    for index, scan in enumerate(scans):
        if isinstance(scan, StmKerasError):
            code = options.report(scan, code)
            facts = {"path": str(file), "index": index, "scans": count}
            if as_json:
                click.echo(json.dumps({**facts, "error": str(scan)}, allow_nan=False))
            continue
        if as_json:
            click.echo(json.dumps(scan_metadata(scan, count), allow_nan=False))
        else:
            name, end = f"{file}\n" * named, "\n" * (named or index < count - 1)
            click.echo(name + scan_text(scan, count) + end)
        if output is not None:
            from stm_keras.data.draw import save_picture

            numbered = output.with_stem(f"{output.stem}-{scan.index}")
            picture = numbered if count > 1 else output
            save_picture(scan, picture, overwrite)
            options.say(f"wrote {picture}")
    return code


@click.command()
@click.argument("file", type=options.PATH)
@options.path("--run", "run_path", help="Check the split of this run.")
@options.as_json
def audit(file, run_path, as_json):
    """Look for leaks, duplicates and transposed lines.

    Duplicates and near duplicates, and whether a split would put them on both sides;
    lines that seem to run along the wrong axis; constant lines, NaN; classes per
    session.

    \b
        stm-keras audit scans.h5
    """
    from stm_keras.data.audit import audit as find_problems
    from stm_keras.data.load import load_dataset
    from stm_keras.inference.find_model import is_model

    if is_model(file):
        raise DatasetError(
            f"{file}: is a run or a model, not a dataset. Give the data; the split of a run is "
            "checked by: stm-keras audit DATA --run RUN."
        )
    dataset, split = load_dataset(file), None
    if run_path is not None:
        from stm_keras.data.split import Split
        from stm_keras.runs import Run

        saved = Run.open(run_path).read_json("split.json")
        if saved is None:
            raise UsageError(f"{run_path}: has no split yet.")
        if saved.get("dataset") != dataset.digest():
            raise UsageError(f"{run_path}: was split on other data than {file}.")
        split = Split.from_json(saved, len(dataset))
    report = find_problems(dataset, split, progress("auditing"))
    click.echo(json.dumps(report.to_json(), allow_nan=False) if as_json else report.text())
    if run_path is None:
        options.say_next(command=["stm-keras", "train", "--data", str(file)])


def check_target(output, shards, size, overwrite):
    """Refuse what cannot be written before minutes of work, not after."""
    if (output is None) == (shards is None):
        raise UsageError(
            "Give either `-o` for one file or `--shards` for a folder of many."
        )
    if size is not None and shards is None:
        raise UsageError("`--shard-size` is for `--shards`. Leave it out.")
    if output is not None:
        check_folder(check_file(output, overwrite).parent)


def write_shards(folder, doing, write, *arguments):
    """Call what writes shards; return a line that says what was done."""
    start = time.perf_counter()
    try:
        index, kept = write(*arguments, progress=progress(doing))
    except KeyboardInterrupt:
        options.say(
            "\nInterrupted. Run the same command again to go on with the shards of "
            f"{folder}."
        )
        click.get_current_context().exit(INTERRUPTED)
    seconds = time.perf_counter() - start
    there = f", {kept} of them there already" if kept else ""
    size = sum(shard.bytes for shard in index.shards) / 1e6
    return (
        f"{folder}: {index.scans} scans in {len(index.shards)} shards{there}, {size:,.1f} MB, "
        f"in {seconds:.1f} s"
    )


def class_counts(dataset):
    """Count the scans that are labelled as each class: dict of str to int."""
    labels = dataset.labels[dataset.labels >= 0]
    counts = np.bincount(labels, minlength=len(dataset.classes)).tolist()
    return dict(zip(dataset.classes, counts, strict=True))


def counts_text(dataset):
    """Write the same as text."""
    return ", ".join(f"{name} {count}" for name, count in class_counts(dataset).items())

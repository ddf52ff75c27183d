"""`stm-keras simulate`, `convert`, `info` and `audit`."""

import glob
import json
import time

import click
import numpy as np

from stm_keras.cli import options
from stm_keras.errors import OutputError, StmKerasError, UsageError
from stm_keras.files import check_folder, check_outputs

_AGAIN = "\nInterrupted. Type the same command again to go on with the shards of {}."


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
@click.option("--count", type=click.IntRange(1), required=True, help="Number of scans.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@shard_options
@click.option("--workers", type=click.IntRange(1), help="Processes. [all cores]")
@click.option("--tip-change", type=click.FloatRange(0, 1), help="Share of scans with one.")
@click.option("--partial", type=click.FloatRange(0, 1), help="Share of aborted scans.")
@options.overwrite
def simulate(
    count, seed, output, shards, shard_size, workers, tip_change, partial, overwrite
):
    """Simulate labelled scans of H:Si(100).

    The dataset holds images, the class of each scan and of each line, the line of each
    tip change, and all parameters drawn. The same seed gives the same bytes, on any
    number of workers. With --shards they go into a folder of many files, few in memory at
    a time; a command that was interrupted goes on when it is typed again.

    \b
        stm-keras simulate --count 5000 --seed 1 -o scans.h5
        stm-keras simulate --count 1000000 --seed 1 --shards scans
    """
    import os

    from stm_keras.data.load import save_dataset
    from stm_keras.simulate import SimulationConfig
    from stm_keras.simulate import simulate as run

    check_target(output, shards, shard_size)
    check_outputs({"--output": output, "--shards": shards})
    drawn = {"p_tip_change": tip_change, "p_partial": partial}
    config = SimulationConfig(**{k: v for k, v in drawn.items() if v is not None})
    workers = workers or os.cpu_count() or 1
    if shards is not None:
        simulate_to_shards(count, seed, config, shards, shard_size, workers, overwrite)
        return
    _refuse_existing(output, overwrite)
    begin = time.perf_counter()
    dataset = run(
        count,
        seed,
        config,
        workers=workers,
        progress=options.progress_line("simulating"),
    )
    save_dataset(dataset, output, overwrite)
    seconds = time.perf_counter() - begin
    click.echo(f"{output}: {count} scans in {seconds:.1f} s, {class_counts(dataset)}")


@click.command()
@click.argument("source", type=options.PATH)
@shard_options
@click.option(
    "--merge/--no-merge", default=True, show_default=True, help="Six classes into four."
)
@click.option(
    "--labels",
    type=click.Choice(["hard", "soft"]),
    default="hard",
    show_default=True,
    help="soft keeps the votes, hard only the class that has more than half of them.",
)
@options.overwrite
def convert(source, output, shards, shard_size, merge, labels, overwrite):
    """Turn arrays, MATLAB files or pictures into a dataset.

    SOURCE is an HDF5, NPZ or MATLAB file, or a folder of shards or of pictures with
    a CSV file of labels or votes. With --shards it becomes a folder of many files, for what
    is larger than memory.

    \b
        stm-keras convert processed_data.npz -o scans.h5
        stm-keras convert raw_data.mat -o scans.h5 --no-merge
        stm-keras convert pictures/ -o scans.h5 --labels soft
        stm-keras convert large.h5 --shards large
    """
    from dataclasses import replace

    from stm_keras.data.load import load_dataset, save_dataset

    check_target(output, shards, shard_size)
    check_outputs({"--output": output, "--shards": shards}, [source], whole=["--shards"])
    if shards is None:
        _refuse_existing(output, overwrite)
    dataset = load_dataset(source, merge=merge, streamed=True)
    if labels == "soft" and dataset.votes is None:
        raise UsageError(f"`--labels soft`: {source} holds labels, no votes. Use hard.")
    if labels == "hard":
        dataset = replace(dataset, votes=None)
    if shards is not None:
        asked = {"merge": merge, "labels": labels}
        to_shards(dataset, source, asked, shards, shard_size, overwrite)
        return
    save_dataset(dataset, output, overwrite)
    click.echo(f"{output}: {len(dataset)} scans, {class_counts(dataset)}")


@click.command()
@click.argument("file", type=options.PATH)
@click.option(
    "-o",
    "--output",
    type=options.PATH,
    help="Folder for contact sheets (PNG), or the PNG file of a scan.",
)
@click.option("--channel", help='Image of a scan file, such as "Current" or "Z backward".')
@click.option("--per-class", type=click.IntRange(1), default=24, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--verify", is_flag=True, help="Compare shards with their SHA-256 as well.")
@options.verbose
@options.overwrite
@options.as_json
def info(file, output, channel, per_class, seed, verify, verbose, overwrite, as_json):
    """Show what a scan, a dataset, a model or a run holds.

    Of a scan file (docs/formats.md), or of each in a folder: image, direction, unit, size,
    bias, setpoint, line time, channels and which lines were recorded; -o draws it. Of a
    dataset it also draws a contact sheet per class, into the folder given by -o or beside the
    file as <name>-sheets. JSON is one object a line, one for each scan.

    \b
        stm-keras info scan.sxm -o scan.png
        stm-keras info session/ --json
        stm-keras info scans.h5
        stm-keras info runs/vit/best.keras --json
        stm-keras info scans --verify
    """
    if output is not None:
        drawn = output.glob("*.png") if output.is_dir() else ()
        several = output.parent.glob(f"{glob.escape(output.stem)}-*.png")
        check_outputs({"--output": [output, *drawn, *several]}, [file])
    checked = verified(file) if verify else None
    from stm_keras.inference.find_model import find_model, is_model

    if is_model(file):
        from stm_keras.inference.model_file import read_facts

        model, _ = find_model(file)
        click.echo(
            json.dumps(read_facts(model), indent=None if as_json else 1, allow_nan=False)
        )
        return
    from stm_keras.inference.find_files import is_dataset
    from stm_keras.readers.formats import scan_format

    if file.is_dir() and not is_dataset(file):
        click.get_current_context().exit(
            _folder_info(file, output, channel, as_json, verbose)
        )
    if scan_format(file):
        click.get_current_context().exit(
            _scan_info(file, output, channel, overwrite, as_json)
        )
    from stm_keras.data.draw import contact_sheets
    from stm_keras.data.load import load_dataset
    from stm_keras.data.summary import summary, summary_text

    dataset = load_dataset(file)
    facts = summary(dataset)
    if not as_json:
        click.echo(summary_text(facts))
    place = file.resolve()
    folder = output or place.with_name(f"{place.stem}-sheets")
    try:
        sheets = contact_sheets(dataset, folder, per_class, seed, overwrite)
    except OutputError as error:
        if output is not None:
            raise
        sheets = []  # the data may well lie where nothing can be written
        options.say(f"No new contact sheets: {error} Or name a folder with -o.")
    facts["sheets"] = [str(path) for path in sheets]
    if checked is not None:
        facts["verified_shards"] = checked
    click.echo(
        json.dumps(facts, allow_nan=False)
        if as_json
        else "\n".join(f"wrote {path}" for path in sheets)
    )


def _folder_info(folder, output, channel, as_json, verbose):
    """Show every scan of a folder; what cannot be read is told, and the others are shown."""
    from stm_keras.inference.find_files import LeftOut, find_places
    from stm_keras.readers.formats import scan_format

    if output is not None:
        raise UsageError(
            f"`-o` draws the scans of one file. Received: the folder {folder}."
        )
    left_out, code = LeftOut(), 0
    for place in find_places([folder], left_out=left_out):
        try:
            if place.error is not None:
                raise place.error
            if not place.named and scan_format(place.path) is None:
                raise StmKerasError("a dataset: give it by itself")
            code = max(code, _scan_info(place.path, None, channel, False, as_json, True))
        except StmKerasError as error:
            if not place.forgives(error):
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

            several = output.with_stem(f"{output.stem}-{scan.index}")
            picture = several if count > 1 else output
            save_picture(scan, picture, overwrite)
            options.say(f"wrote {picture}")
    return code


@click.command()
@click.argument("file", type=options.PATH)
@click.option("--run", "run_path", type=options.PATH, help="Check the split of this run.")
@options.as_json
def audit(file, run_path, as_json):
    """Look for leaks, duplicates and transposed lines.

    Duplicates and near duplicates, and whether a split would put them on both sides;
    lines that seem to run along the wrong axis; constant lines, NaN; classes per
    session.

    \b
        stm-keras audit scans.h5
    """
    from stm_keras.data.audit import audit as look
    from stm_keras.data.load import load_dataset

    dataset, split = load_dataset(file), None
    if run_path is not None:
        from stm_keras.data.split import Split
        from stm_keras.runs import SPLIT, Run

        saved = Run.open(run_path).read_json("split.json", SPLIT)
        if saved is None:
            raise UsageError(f"{run_path}: has no split yet.")
        if saved.get("dataset") != dataset.digest():
            raise UsageError(f"{run_path}: was split on other data than {file}.")
        split = Split.from_json(saved, len(dataset))
    found = look(dataset, split, options.progress_line("auditing"))
    click.echo(json.dumps(found.to_json(), allow_nan=False) if as_json else found.text())


def _refuse_existing(output, overwrite):
    """Say so before minutes of work, not after."""
    if output.is_dir():
        raise OutputError(f"{output}: is a folder. Give the name of a file.")
    if output.exists() and not overwrite:
        raise OutputError(f"{output}: exists already. Add --overwrite to replace it.")
    check_folder(output.parent)


def check_target(output, shards, size):
    """Raise a `UsageError` unless one file or one folder was asked for."""
    if (output is None) == (shards is None):
        raise UsageError(
            "Give either `-o` for one file or `--shards` for a folder of many."
        )
    if size is not None and shards is None:
        raise UsageError("`--shard-size` is for `--shards`. Leave it out.")


def simulate_to_shards(count, seed, config, folder, size, workers, overwrite):
    """Simulate scans straight to shards and say what was done."""
    from stm_keras.data.shard_writer import SHARD_SIZE
    from stm_keras.simulate.generate import simulate_shards

    _tell(
        folder,
        simulate_shards,
        *(count, seed, folder, config),
        shard_size=size or SHARD_SIZE,
        workers=workers,
        overwrite=overwrite,
        progress=options.progress_line("simulating"),
    )


def to_shards(dataset, source, asked, folder, size, overwrite):
    """Write a dataset as shards and say what was done."""
    from stm_keras.data.shard_writer import SHARD_SIZE, save_shards

    stamp = [source.stat().st_size, source.stat().st_mtime_ns] if source.is_file() else None
    settings = {
        "command": "convert",
        "source": str(source),
        "stamp": stamp,
        "scans": len(dataset),
        **asked,
    }
    _tell(
        folder,
        save_shards,
        *(dataset, folder, size or SHARD_SIZE, settings, overwrite),
        progress=options.progress_line("writing"),
    )


def verified(folder):
    """Compare shards with their SHA-256; return how many there are.

    Raises:
        UsageError: The path is no sharded dataset.
        DatasetError: A shard is damaged.
    """
    from stm_keras.data.shard_index import is_sharded, verify_shards

    if not is_sharded(folder):
        raise UsageError(f"`--verify`: {folder} is no folder of shards. Leave it out.")
    index = verify_shards(folder, options.progress_line("verifying"))
    options.say(f"{folder}: all {len(index.shards)} shards are as they were written.")
    return len(index.shards)


def class_counts(dataset):
    """Return the number of scans of each class as text."""
    labels = dataset.labels[dataset.labels >= 0]
    counts = np.bincount(labels, minlength=len(dataset.classes))
    return ", ".join(f"{name} {n}" for name, n in zip(dataset.classes, counts, strict=True))


def _tell(folder, write, *arguments, **more):
    begin = time.perf_counter()
    try:
        index, found = write(*arguments, **more)
    except KeyboardInterrupt:
        options.say(_AGAIN.format(folder))
        click.get_current_context().exit(130)
    seconds = time.perf_counter() - begin
    there = f", {found} of them there already" if found else ""
    size = sum(shard.bytes for shard in index.shards) / 1e6
    click.echo(
        f"{folder}: {index.scans} scans in {len(index.shards)} shards{there}, {size:,.1f} MB, "
        f"in {seconds:.1f} s"
    )

"""`stm-keras convert`."""

import json
from dataclasses import replace

import click

from stm_keras.cli import options
from stm_keras.cli.data import (
    check_target,
    class_counts,
    counts_text,
    shard_options,
    write_shards,
)
from stm_keras.errors import UsageError
from stm_keras.evaluation.text import counted
from stm_keras.files import check_folder, check_outputs
from stm_keras.progress import progress

no_model_shown = click.option(
    "--no-model-shown",
    is_flag=True,
    help="Leave out what raters said when they were shown the verdict of a model.",
)


@click.command()
@click.argument("source", type=options.PATH)
@shard_options
@options.path(
    "--records",
    help="Folder of the records of `stm-keras label`. [SOURCE/labels, or labels]",
)
@click.option(
    "--classes",
    metavar="A,B,...",
    help="All classes. [those that are named, in order of appearance]",
)
@no_model_shown
@click.option("--channel", help='Image of a scan file, such as "Current" or "Z backward".')
@click.option(
    "--merge/--no-merge", default=True, show_default=True, help="Six classes into four."
)
@click.option(
    "--labels",
    type=click.Choice(["hard", "soft"]),
    help="soft keeps the votes, hard only the class that has more than half of them. [soft for "
    "scan files that raters voted on, else hard]",
)
@options.size
@options.verbose
@options.overwrite
@options.as_json
def convert(
    source, output, shards, shard_size, records, classes, channel, merge, labels, **more
):
    """Turn scan files, arrays or pictures with labels into a dataset.

    SOURCE is a folder of scans in any format (docs/formats.md) with labels: a CSV file with
    columns path and label (or a column of votes per class), one sub-folder per class, or records
    of `stm-keras label`. Or it is such a CSV file, an HDF5, NPZ or MATLAB file, or a folder of
    shards or of pictures with a CSV file. With --shards it becomes a folder of many files, for
    what is larger than memory.

    Of a scan file the image is taken that predict judges, its lines in the order of acquisition,
    heights from their median, in the lines and pixels of --size; size, bias, direction, channel,
    name and session are kept. What cannot be read is listed, the rest is converted, and the exit
    code is 3 (docs/data.md).

    \b
        stm-keras convert scans/ -o own.h5
        stm-keras convert scans/ -o own.h5 --records labels --classes sharp,double,blunt
        stm-keras convert scans/ -o fine.h5 --size 256
        stm-keras convert processed_data.npz -o scans.h5
        stm-keras convert raw_data.mat -o scans.h5 --no-merge
        stm-keras convert large.h5 --shards large
    """
    from stm_keras.data.dataset import SQUARE
    from stm_keras.data.load import SHAPE, load_dataset, save_dataset
    from stm_keras.data.shard_writer import SHARD_SIZE, save_shards
    from stm_keras.inference.scan_labels import find_labels

    overwrite, target = more["overwrite"], output or shards
    check_outputs(
        {"--output": output, "--shards": shards}, [source, records], whole=["--shards"]
    )
    check_target(output, shards, shard_size, overwrite)
    classes = class_list(classes)
    shape = SHAPE if more["size"] is None else (more["size"],) * 2
    labelled = find_labels(source, records, classes, more["no_model_shown"])
    errors, code = [], 0
    if labelled is not None:
        dataset, errors, code = read_labelled(
            labelled, target, channel, merge, more["verbose"], shape
        )
    elif channel is not None:
        raise UsageError("`--channel` is for the files of microscopes. Leave it out.")
    else:
        wanted = SQUARE if more["size"] is None else shape
        dataset = load_dataset(
            source, merge=merge, shape=wanted, streamed=True, classes=classes
        )
    if labels == "soft" and dataset.votes is None:
        raise UsageError(f"`--labels soft`: {source} holds labels but no votes. Use hard.")
    if labels == "hard" or (labels is None and labelled is None):
        dataset = replace(dataset, votes=None)
    if shards is not None:
        stat = source.stat()
        stamp = [stat.st_size, stat.st_mtime_ns] if source.is_file() else None
        settings = {
            "command": "convert",
            "source": str(source),
            "stamp": stamp if labelled is None else dataset.digest(),
            "scans": len(dataset),
            "merge": merge,
            "labels": labels or "hard",
        }
        given = (dataset, shards, shard_size or SHARD_SIZE, settings, overwrite)
        text = write_shards(shards, "writing", save_shards, *given)
    else:
        save_dataset(dataset, output, overwrite)
        unclear = int((dataset.labels < 0).sum())
        text = f"{output}: {counted(len(dataset), 'scan')}, {counts_text(dataset)}"
        text += f", {unclear} of no single class" if unclear else ""
    if more["as_json"]:
        facts = {"output": str(target), "scans": len(dataset)}
        facts |= {
            "classes": class_counts(dataset),
            "errors": [str(each) for each in errors],
        }
        text = json.dumps(facts, allow_nan=False)
    click.echo(text)
    options.say_next(command=["stm-keras", "audit", str(target)])
    click.get_current_context().exit(code)


def class_list(text, least=2):
    """Return the classes that `--classes` names, at least so many, or None."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(","))
    if len(set(names)) < max(least, len(names)) or "" in names:
        number = "two or more" if least == 2 else "one or more"
        raise UsageError(f"`--classes`: {number} different names. Received: {text!r}.")
    return names


def read_labelled(labelled, target, channel, merge, verbose, shape):
    """Read labelled scans; return their dataset, all errors and the exit code.

    They are brought to `shape`, (lines, pixels). Meanwhile they lie in a temporary file beside
    `target`, which ends with the command.
    """
    from stm_keras.inference.scan_dataset import ScanStore, make_dataset

    context, code = click.get_current_context(), 0
    store = ScanStore(check_folder(target.resolve().parent), shape)
    context.call_on_close(store.close)
    with options.summed_warnings(verbose):
        made = make_dataset(labelled, store, channel, merge, progress("reading"))
    for error in made.errors:
        code = options.report(error, code)
    for note in made.notes:
        options.say(note)
    options.say_left_out(labelled.left_out, verbose)
    if made.dataset is None:
        context.exit(code)
    return made.dataset, made.errors, code

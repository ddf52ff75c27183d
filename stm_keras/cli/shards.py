"""What `simulate`, `convert` and `info` do with sharded datasets."""

import time

import click
import numpy as np

from stm_keras.cli import options
from stm_keras.errors import UsageError

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
    from stm_keras.simulate.shards import simulate_shards

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

"""Simulated scans straight to shards: more than memory holds, in several processes."""

from contextlib import closing
from dataclasses import asdict

from stm_keras import __version__
from stm_keras.data.shard_writer import SHARD_SIZE, write_shard, write_shards
from stm_keras.simulate.config import SimulationConfig
from stm_keras.simulate.generate import check_arguments, simulate
from stm_keras.simulate.workers import run_jobs


def simulate_shards(
    count,
    seed,
    folder,
    config=None,
    shard_size=SHARD_SIZE,
    workers=1,
    overwrite=False,
    progress=None,
):
    """Simulate scans of H:Si(100) into a sharded dataset.

    They are the scans that `simulate` gives. Each process makes and writes shards of its
    own, one in memory at a time. Call it again after an interruption: what is there is
    kept, and the bytes are those of an undisturbed run.

    Args:
        count, seed, config, workers: As for `simulate`.
        folder, shard_size, overwrite, progress: As for `write_shards`.

    Returns:
        As of `write_shards`.

    Raises:
        UsageError: An argument makes no sense.
        OutputError: The folder holds something else, or cannot be written.
        StmKerasError: A worker process died.
    """
    config = SimulationConfig() if config is None else config
    check_arguments(count, seed, config, workers, progress)

    def work(jobs):
        tasks = ((seed, config, *job) for job in jobs)
        with closing(
            run_jobs(_simulate_shard, tasks, min(workers, len(jobs) or 1))
        ) as done:
            yield from done

    settings = shard_settings(count, seed, config)
    return write_shards(folder, settings, count, shard_size, work, overwrite, progress)


def shard_settings(count, seed, config):
    """Return what decides the bytes of simulated shards: dict, JSON-ready."""
    drawn = {**asdict(config), "effects": sorted(config.effects)}
    return {
        "command": "simulate",
        "stm_keras": __version__,
        "count": count,
        "seed": seed,
        **drawn,
    }


def _simulate_shard(seed, config, path, start, scans):
    return write_shard(simulate(scans, seed, config, start=start), path)

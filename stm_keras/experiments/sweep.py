"""The folder of a sweep: what was asked, its members, and how far each of them is.

sweep.json     what was asked               manifest.tsv    a line for each job of the array
config.toml    what the runs share          runs/<member>/  the runs
common.sh      what a job does              logs/           what they say
sweep.sbatch   the job                      jobs.json       arrays that were queued
trials/        what a search tries          study.log       what it knows
"""

import csv
import io
import json
import re
from pathlib import Path

from stm_keras.config import differences, dump_config, load_config
from stm_keras.errors import ConfigError, InputError, OutputError, UsageError
from stm_keras.evaluation.history import compare_runs, read_history
from stm_keras.experiments.plan import (
    HOW_QUEUED,
    Member,
    base_config,
    jobs,
    make_sweep,
    members,
)
from stm_keras.experiments.queue import copy_script
from stm_keras.files import atomic, check_folder
from stm_keras.runs import Run
from stm_keras.signals import EXIT_CODE
from stm_keras.terminal import shell
from stm_keras.untrusted import read_json

MARK = "sweep.json"
FILES = (MARK, "config.toml", "manifest.tsv", "jobs.json", "study.log", "sweep.sbatch")
ENDED = re.compile(r"ended with exit code (-?\d{1,9})")
SCORES = ("val_auroc", "val_balanced_accuracy")
TEST = ("auroc", "balanced_accuracy")


def files_of(folder):
    """Return the paths of what makes up a sweep, there or not: list of `Path`."""
    return [Path(folder) / name for name in FILES]


def is_sweep(path):
    """Tell whether a path is the folder of a sweep."""
    return (Path(path) / MARK).is_file()


def open_sweep(folder):
    """Read what was asked of a sweep.

    Returns:
        `Sweep`.

    Raises:
        InputError: The folder holds none, or it is damaged.
    """
    path = Path(folder) / MARK
    if not is_sweep(folder):
        raise InputError(f"{folder}: is no sweep (no {MARK}).")
    table = {**_asked(path), "config": str(Path(folder) / "config.toml"), "settings": ()}
    try:
        return make_sweep(table)
    except ConfigError as error:
        raise InputError(f"{path}: is damaged ({error})") from None


def _asked(path):
    table = read_json(path, "the folder of a sweep")
    if not isinstance(table, dict):
        raise InputError(f"{path}: is damaged (no object).")
    return table


def begin_sweep(folder, sweep):
    """Make the folder of a sweep, or open it to go on with the same one.

    Args:
        folder: `Path`.
        sweep: `Sweep`.

    Raises:
        UsageError: The folder holds another sweep.
        OutputError: It holds something else, or cannot be written.
    """
    folder = Path(folder)
    asked = sweep.model_dump(mode="json")
    if sweep.data is not None:
        asked["data"] = str(Path(sweep.data).resolve())
    base = base_config(sweep)
    if is_sweep(folder) and _begun(folder):
        before = _asked(folder / MARK)
        ignored = {"config", "settings", *HOW_QUEUED}
        changed = [k for k in asked if k not in ignored and asked[k] != before.get(k)]
        changed += differences(base, load_config(folder / "config.toml"))
        if changed:
            raise UsageError(
                f"{folder}: holds another sweep, different in {', '.join(changed)}. Choose "
                f"another --output, or go on with it: stm-keras submit {folder}"
            )
    elif not is_sweep(folder) and folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty and no sweep. Choose another --output.")
    check_folder(folder)
    for name in ("runs", "logs"):
        check_folder(folder / name)
    _write(folder / "config.toml", dump_config(base))
    _write(folder / MARK, json.dumps(asked, indent=1, allow_nan=False) + "\n")


def _begun(folder):
    """Tell whether any job was queued or run: until then a sweep may be corrected."""
    return (folder / "jobs.json").exists() or any((folder / "logs").iterdir())


def write_jobs(folder, sweep):
    """Write what the jobs of a sweep need: the script, and a line for each of them.

    Args:
        folder: `Path`.
        sweep: `Sweep`.

    Returns:
        list of str. What each line of the manifest is called.
    """
    for name in ("common.sh", "sweep.sbatch"):
        copy_script(name, folder)
    lines = [f"{name}\t{shell(words)}\n" for name, words in jobs(folder, sweep).items()]
    _write(folder / "manifest.tsv", "".join(lines))
    return list(jobs(folder, sweep))


def all_members(folder, sweep):
    """List the members of a sweep: of a search those that have begun.

    Returns:
        list of `Member`.
    """
    if not sweep.space:
        return members(sweep)
    found = []
    for path in sorted((Path(folder) / "trials").glob("[!.]*.json")):
        settings = read_json(path, "a trial of a search")
        known = isinstance(settings, dict) and settings.keys() == sweep.space.keys()
        if not known or not path.stem.isdecimal():
            raise InputError(f"{path}: is damaged (other settings than the search has).")
        found += trial_members(path.stem, settings, sweep.seeds)
    return found


def trial_members(number, settings, seeds):
    """Return the runs of a trial of a search: list of `Member`, one for each seed."""
    return [
        Member(f"trial-{int(number):04d}-seed-{seed}", settings, seed)
        for seed in range(seeds)
    ]


def is_done(folder, name):
    """Tell whether a member has scored its test scans."""
    return (Path(folder) / "runs" / name / "evaluation.json").exists()


def member_state(folder, name, queued=()):
    """Tell how far a member is.

    Args:
        folder: `Path` of the sweep.
        name: str. The member.
        queued: dict of member to state, as SLURM tells it, of jobs that are not over.

    Returns:
        Tuple of str: "done", "running", "queued", "failed", "interrupted", "begun" or
        "missing"; int, how often it was started; str, the error it ended with, or "".
    """
    log = Path(folder) / "logs" / f"{name}.log"
    text = log.read_text("utf-8", "replace") if log.is_file() else ""
    codes = [int(code) for code in ENDED.findall(text)]
    errors = [line for line in text.splitlines() if line.startswith("Error: ")]
    if is_done(folder, name):
        return "done", len(codes), ""
    if name in queued:
        return queued[name], len(codes), ""
    if not codes:
        begun = (Path(folder) / "runs" / name / "config.toml").exists()
        return ("begun" if begun or text else "missing"), 0, ""
    if codes[-1] in (EXIT_CODE, 130):
        return "interrupted", len(codes), ""
    return "failed", len(codes), errors[-1] if errors else f"exit code {codes[-1]}"


def sweep_rows(folder, sweep, queued=()):
    """Collect what is known of each member, the best first.

    Args:
        folder: `Path` of the sweep.
        sweep: Its `Sweep`.
        queued: As for `member_state`.

    Returns:
        list of dict, JSON-ready.
    """
    rows = []
    for member in all_members(folder, sweep):
        state, starts, error = member_state(folder, member.name, queued)
        row = {"run": member.name, "state": state, **member.settings, "seed": member.seed}
        row |= dict.fromkeys(("epochs", *SCORES, *(f"test_{name}" for name in TEST)))
        row |= {"seconds": None, "starts": starts, "error": error}
        path = Path(folder) / "runs" / member.name
        if (path / "history.csv").exists():
            found = compare_runs({member.name: read_history(path)})[0]
            row |= {name: found.get(name) for name in ("epochs", *SCORES, "seconds")}
        if is_done(folder, member.name):
            scores = Run(path).read_json("evaluation.json")
            row |= {f"test_{name}": scores.get(name) for name in TEST}
        rows.append(row)
    return sorted(rows, key=lambda row: -(row["val_auroc"] or 0))


def by_settings(rows, sweep):
    """Average finished runs over their seeds, the best settings first.

    Args:
        rows: list of dict, of `sweep_rows`.
        sweep: The `Sweep`.

    Returns:
        list of dict: the settings, `runs`, and mean and standard deviation of each score.
    """
    groups = {}
    for row in rows:
        if row["state"] == "done":
            point = {key: row[key] for key in sweep.grid or sweep.space}
            groups.setdefault(json.dumps(point, allow_nan=False), (point, []))[1].append(
                row
            )
    found = []
    for point, own in groups.values():
        summary = {**point, "runs": len(own)}
        for name in (*SCORES, *(f"test_{each}" for each in TEST)):
            values = [row[name] for row in own if row[name] is not None]
            mean = sum(values) / len(values) if values else None
            summary[name] = mean
            summary[f"{name}_sd"] = (
                (sum((v - mean) ** 2 for v in values) / (len(values) - 1)) ** 0.5
                if len(values) > 1
                else None
            )
        found.append(summary)
    return sorted(found, key=lambda row: -(row["val_auroc"] or 0))


def rows_csv(rows):
    """Write rows as CSV text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _write(path, text):
    with atomic(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")

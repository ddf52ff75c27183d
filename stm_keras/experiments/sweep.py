"""The folder of a sweep: what was asked for, its jobs, and its runs.

sweep.json     what was asked for           runs/<run>/     the runs
config.toml    what the runs share          trials/         settings that a search tries
study.log      what a search has learnt     logs/           a log for each job
manifest.tsv, sweep.sbatch, common.sh, jobs.json: its jobs, see `queue`
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import RootModel

from stm_keras.config import differences, dump_config, load_config
from stm_keras.errors import ConfigError, InputError, OutputError, UsageError
from stm_keras.experiments.plan import (
    QUEUE_SETTINGS,
    base_config,
    jobs,
    make_sweep,
    sweep_runs,
    trial_runs,
)
from stm_keras.experiments.queue import JobFolder
from stm_keras.files import check_folder
from stm_keras.locks import is_foreign
from stm_keras.runs import JsonFolder

SWEEP = "sweep.json"
FILES = (SWEEP, "config.toml", "manifest.tsv", "jobs.json", "study.log", "sweep.sbatch")


@dataclass(frozen=True)
class SweepFolder(JsonFolder):
    """The folder of a sweep."""

    kind: ClassVar[str] = "the folder of a sweep"
    records: ClassVar[dict] = {SWEEP: RootModel[dict]}
    names: ClassVar[tuple] = FILES

    @property
    def jobs(self):
        """The same folder as one of jobs."""
        return JobFolder(self.path)

    def exists(self):
        """Tell whether the folder holds a sweep."""
        return self.file(SWEEP).is_file()

    def sweep(self):
        """Read what was asked for: a `Sweep`."""
        if not self.exists():
            raise InputError(f"{self.path}: is not a sweep (no {SWEEP}).")
        table = {
            **self.read_json(SWEEP),
            "config": str(self.file("config.toml")),
            "settings": (),
        }
        try:
            return make_sweep(table)
        except ConfigError as error:
            raise InputError(f"{self.file(SWEEP)}: is damaged ({error})") from None

    def start(self, sweep):
        """Make the folder of a `Sweep`, or open it to go on with the same one."""
        request = sweep.model_dump(mode="json")
        if sweep.data is not None:
            request["data"] = str(Path(sweep.data).resolve())
        base = base_config(sweep)
        if self.exists() and self._started():
            before = self.read_json(SWEEP)
            ignored = {"config", "settings", *QUEUE_SETTINGS}
            changed = [
                key
                for key, value in request.items()
                if key not in ignored and value != before.get(key)
            ]
            changed += differences(base, load_config(self.file("config.toml")))
            if changed:
                raise UsageError(
                    f"{self.path}: holds another sweep, different in {', '.join(changed)}. "
                    "Choose another --output, or go on with it: stm-keras submit "
                    f"{self.path}"
                )
        elif is_foreign(self.path, SWEEP):
            raise OutputError(
                f"{self.path}: is not empty and not a sweep. Choose another --output."
            )
        for folder in (self.path, self.file("runs"), self.file("logs")):
            check_folder(folder)
        self.write_text("config.toml", dump_config(base))
        self.write_json(SWEEP, request)

    def _started(self):
        """Tell whether any job was queued or run: until then a sweep may be corrected."""
        return self.file("jobs.json").exists() or any(self.file("logs").iterdir())

    def write_jobs(self, sweep):
        """Write what the jobs need, and return the names of all of them: list of str."""
        all_jobs = jobs(self.path, sweep)
        self.jobs.write_jobs(all_jobs)
        return list(all_jobs)

    def runs(self, sweep):
        """List the runs of a sweep, of a search those that have begun: `PlannedRun`."""
        if not sweep.space:
            return sweep_runs(sweep, self.path)
        runs = []
        for path in sorted(self.file("trials").glob("[!.]*.json")):
            settings = self.read_json(f"trials/{path.name}")
            known = isinstance(settings, dict) and settings.keys() == sweep.space.keys()
            if not known or not path.stem.isdecimal():
                raise InputError(
                    f"{path}: is damaged (other settings than the search has)."
                )
            runs += trial_runs(sweep, self.path, path.stem, settings)
        return runs

    def log(self, name):
        """Return the `Path` of the log of a job or run."""
        return self.file("logs", f"{name}.log")

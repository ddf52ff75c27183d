"""The folder of a comparison: what is compared, what all sides begin with, what each found.

plan.json       what was asked for         parts/<side>.json  what a side measured
material.json   hashes and sizes           logs/<side>.log    what it printed
split.json      which scans in which part  runs/              trained for the scores
weights.npz     initial weights            comparison.json    the result, also as .html and .md
batches/        the first training batches, scans.npz: scans whose logits are compared
"""

import hashlib
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from stm_keras.config import Config, differences, dump_config, load_config
from stm_keras.errors import InputError, OutputError, StmKerasError, UsageError
from stm_keras.experiments.compare import records
from stm_keras.experiments.compare.records import Done, Failed
from stm_keras.experiments.compare.sides import Side
from stm_keras.files import LOCK, atomic, check_folder, claimed
from stm_keras.records import Split, check_record
from stm_keras.untrusted import parse_toml, read_arrays, read_json

PLAN, MATERIAL = "plan.json", "material.json"
_STRANGER = "{}: is not empty and no comparison. Choose another --output."
QUEUED = "jobs/jobs.json"  # numbers of SLURM jobs
RECORDS = {
    PLAN: records.Plan,
    MATERIAL: records.Material,
    "split.json": Split,
    QUEUED: records.Jobs,
}
LARGEST = 1 << 28  # bytes of a JSON file
KEPT = 4  # batches that timing goes round
FIXED = ("steps", "repeats", "steps_per_round", "loading", "cores", "epochs")


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Args:
        config: A `stm_keras.config.Config`, with `data.path`.
        sides: tuple of `Side`.
        steps: int. Steps over which losses are compared.
        repeats: int. Rounds of timing over all sides.
        steps_per_round: int. Training steps of a side in a round.
        loading: int. Batches fitted as they are made, to see how long training waits.
        cores: int. Cores that a side may use, 0 for all.
        epochs: int. Epochs of the runs that are scored, 0 for none.
        seeds: int. Scored runs of a backend.
        command: str. What makes this comparison again.
    """

    config: Config
    sides: tuple
    steps: int = 40
    repeats: int = 3
    steps_per_round: int = 5
    loading: int = 0
    cores: int = 0
    epochs: int = 0
    seeds: int = 3
    command: str = ""


class Folder:
    """The files of a comparison.

    Args:
        path: `Path`.
    """

    def __init__(self, path):
        self.path = Path(path)

    def file(self, *names):
        """Return the `Path` of a file in the folder."""
        return self.path.joinpath(*names)

    def files(self):
        """Return the paths of what makes up a comparison, there or not: list of `Path`."""
        names = (PLAN, MATERIAL, "split.json", "weights.npz", "scans.npz")
        more = (f"comparison.{suffix}" for suffix in ("json", "html", "md"))
        return [self.file(name) for name in (*names, *more)]

    def start(self, plan, overwrite=False):
        """Begin a comparison, or go on with the same one.

        Args:
            plan: A `Plan`.
            overwrite: bool. Whether to measure all of its sides anew.

        Returns:
            The `Plan`, with the sides that the folder holds already.

        Raises:
            UsageError: The folder holds another comparison.
            OutputError: It holds something else, or cannot be written.
        """
        if not self.file(PLAN).exists():
            if self.path.is_dir() and any(p.name != LOCK for p in self.path.iterdir()):
                raise OutputError(_STRANGER.format(self.path))
            check_folder(self.path)
        elif overwrite or not self.file(MATERIAL).exists():  # or nothing came of it
            self._forget()
        else:
            old = self.plan()
            changed = differences(plan.config, old.config)
            changed += [key for key in FIXED if getattr(plan, key) != getattr(old, key)]
            if changed:
                raise UsageError(
                    f"{self.path}: holds another comparison, different in "
                    f"{', '.join(changed)}. Choose another --output, or add --overwrite."
                )
            sides = tuple(dict.fromkeys((*plan.sides, *old.sides)))
            plan = Plan(**{**vars(plan), "sides": sides})
        self.write_plan(plan)
        return plan

    @contextmanager
    def locked(self):
        """Keep a second process from measuring the same comparison here.

        Raises:
            OutputError: Another process does, or the folder holds something else.
        """
        refusal = (
            f"{self.path}: another process compares here. Wait for it, or choose another "
            "--output."
        )
        with claimed(self.path, PLAN, refusal, _STRANGER.format(self.path)):
            yield

    def _forget(self):
        stale = [*self.file("parts").glob("*.json"), *self.file("batches").glob("*.npz")]
        names = (MATERIAL, "split.json", "weights.npz", "scans.npz")
        for path in [*stale, *map(self.file, names), *self.path.glob("comparison.*")]:
            path.unlink(missing_ok=True)

    def tidy(self):
        """Remove the batches, which are large and can be made again."""
        for path in self.file("batches").glob("*.npz"):
            path.unlink()

    def write_plan(self, plan):
        """Write plan.json."""
        told = {**vars(plan), "config": dump_config(plan.config)}
        told["sides"] = [side.to_json() for side in plan.sides]
        self.write_json(PLAN, told)

    def plan(self):
        """Read the `Plan` of the folder.

        Raises:
            InputError: It holds none, or a damaged one.
        """
        saved = self.read_json(PLAN, ("config", "sides", *FIXED))
        if saved is None:
            raise InputError(f"{self.path}: is no comparison (no {PLAN}).")
        path = self.file(PLAN)
        try:
            table = parse_toml(saved["config"], "config")
            config = load_config(None, list(table.items()))
        except StmKerasError as error:
            raise InputError(f"{path}: is damaged ({error})") from None
        if config.data.path is None:
            raise InputError(f"{path}: is damaged (its config names no data).")
        sides = tuple(_side(side) for side in saved["sides"])
        names = {field.name for field in fields(Plan)} & saved.keys()
        kept = {name: saved[name] for name in names}
        return Plan(**{**kept, "config": config, "sides": sides})

    def material(self):
        """Read material.json, or return None."""
        return self.read_json(MATERIAL, ("data", "split", "weights", "classes"))

    def part_file(self, side):
        """Return the `Path` of what a side measured."""
        return self.file("parts", f"{side.slug}.json")

    def parts(self):
        """Read what the sides measured: list of dict, in the order of the plan."""
        order = self.plan().sides
        names = sorted(path.name for path in self.file("parts").glob("[!.]*.json"))
        found = [self.read_json(f"parts/{name}", ("side", "status")) for name in names]
        for name, part in zip(names, found, strict=True):
            side = _side(part["side"])
            if side not in order or part["name"] != side.name:
                raise InputError(f"{self.file('parts', name)}: is of another comparison.")
        return sorted(found, key=lambda part: order.index(_side(part["side"])))

    def done(self, side):
        """Return what a side measured, or None where that is not complete."""
        part = self.read_json(f"parts/{side.slug}.json", ("side", "status"))
        return part if part is not None and part["status"] == "done" else None

    def write_json(self, name, value):
        """Write a JSON file whole or not at all."""
        with atomic(self.file(name), overwrite=True) as temporary:
            temporary.write_text(
                json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )

    def read_json(self, name, keys=()):
        """Read a JSON file that must hold some keys, or return None where there is none.

        Raises:
            InputError: It is damaged.
        """
        path = self.file(name)
        if not os.path.lexists(path):
            return None
        value = read_json(path, "the folder of a comparison", limit=LARGEST)
        missing = [key for key in keys if not isinstance(value, dict) or key not in value]
        if missing:
            raise InputError(f"{path}: is damaged (no {missing[0]}).")
        kind = RECORDS.get(name)
        if name.startswith("parts/"):
            kind = Done if value["status"] == "done" else Failed
        if kind is not None:
            check_record(kind, value, path)
        return value

    def save_weights(self, names, arrays):
        """Write initial weights with their names, in the order of the model."""
        with atomic(self.file("weights.npz"), overwrite=True) as temporary:
            np.savez(
                temporary,
                names=np.array(names),
                **{f"{n:04d}": array for n, array in enumerate(arrays)},
            )

    def weights(self, path=None):
        """Read initial weights: dict of name to array, in the order of the model.

        Args:
            path: `Path` of another file than that of the folder.

        Raises:
            InputError: The file cannot be read.
        """
        path = path or self.file("weights.npz")
        found = read_arrays(path, "the weights.npz of a comparison")
        names = found.get("names", np.zeros(0)).ravel()
        numbers = [f"{number:04d}" for number in range(len(names))]
        if not len(names) or not found.keys() >= set(numbers):
            raise InputError(f"{path}: is damaged (no weights).")
        return {str(n): found[i] for n, i in zip(names, numbers, strict=True)}

    def save_batch(self, number, inputs, targets, weights):
        """Write one training batch; targets and weights may be dicts of heads."""
        arrays = {"inputs": inputs}
        for name, value in (("targets", targets), ("weights", weights)):
            heads = value if isinstance(value, dict) else {"": value}
            arrays |= {f"{name}.{head}": array for head, array in heads.items()}
        with atomic(self.file("batches", f"{number:04d}.npz"), overwrite=True) as temporary:
            np.savez(temporary, **arrays)

    def batch(self, number):
        """Read one training batch: inputs, targets and weights, as `Batches` made them."""
        path = self.file("batches", f"{number:04d}.npz")
        arrays = read_arrays(path, "a batch of a comparison")
        found = {"targets": {}, "weights": {}}
        for key, array in arrays.items():
            name, _, head = key.partition(".")
            if name in found:
                found[name][head] = array
        if "inputs" not in arrays:
            raise InputError(f"{path}: is damaged (no inputs).")
        return (arrays["inputs"], *(heads.get("", heads) for heads in found.values()))

    def split(self):
        """Read which scans train, validate and test, as `Split.from_json` takes it."""
        saved = self.read_json("split.json")
        if saved is None:
            raise InputError(f"{self.path}: has no split.json. Begin with --overwrite.")
        return saved

    def scans(self):
        """Read the scans whose logits are compared: array `(scans, lines, pixels)`."""
        path = self.file("scans.npz")
        arrays = read_arrays(path, "the scans of a comparison")
        if "inputs" not in arrays:
            raise InputError(f"{path}: is damaged (no inputs).")
        return arrays["inputs"]


def _side(saved):
    """Return the `Side` that was written, whatever a later version adds."""
    return Side(saved["library"], saved["precision"], saved["jit"])


def digest(arrays):
    """Return a SHA-256 over the shapes, dtypes and values of arrays."""
    state = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        state.update(f"{array.dtype} {array.shape}".encode())
        state.update(array)
    return state.hexdigest()

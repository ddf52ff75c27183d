"""The folder of a comparison: what is compared, what all start from, what each measured.

plan.json       what was asked for         parts/<setup>.json  what a setup measured
material.json   hashes and sizes           logs/<setup>.log    what it printed
split.json      which scans in which part  runs/               trained for the scores
weights.npz     initial weights            slurm/              jobs, see `experiments.queue`
scans.npz       scans whose logits are     comparison.json     the result, also as .html
                compared                                       and .md
batches/        the first training batches
"""

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stm_keras.config import differences
from stm_keras.errors import InputError, OutputError, UsageError
from stm_keras.experiments.compare.records import (
    Done,
    Failed,
    Material,
    Numbers,
    Plan,
    Setup,
)
from stm_keras.files import atomic, check_folder
from stm_keras.locks import claimed, is_foreign
from stm_keras.records import Split, check_record
from stm_keras.runs import JsonFolder
from stm_keras.untrusted import read_arrays

PLAN, MATERIAL = "plan.json", "material.json"
PAGES = ("comparison.json", "comparison.html", "comparison.md")
RESULTS = (MATERIAL, "split.json", "weights.npz", "scans.npz", *PAGES)
NUMBERS = tuple(Numbers.model_fields)
FIXED = tuple(name for name in NUMBERS if name != "seeds")  # more seeds may join
TIMED_BATCHES = 4  # that timed steps go round
_FOREIGN = "{}: is not empty and not a comparison. Choose another --output."


@dataclass(frozen=True)
class ComparisonFolder(JsonFolder):
    """The files of a comparison."""

    kind: ClassVar[str] = "the folder of a comparison"
    names: ClassVar[tuple] = (PLAN, *RESULTS)
    records: ClassVar[dict] = {MATERIAL: Material, "split.json": Split}

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
        with claimed(self.path, PLAN, refusal, _FOREIGN.format(self.path)):
            yield

    def start(self, plan, overwrite=False):
        """Start a comparison, or go on with the same one."""
        if not self.file(PLAN).exists():
            if is_foreign(self.path, PLAN):
                raise OutputError(_FOREIGN.format(self.path))
            check_folder(self.path)
        elif overwrite or not self.file(MATERIAL).exists():  # or nothing came of it
            self.remove_batches()
            for path in [*map(self.file, RESULTS), *self.file("parts").glob("*.json")]:
                path.unlink(missing_ok=True)
        else:
            old = self.plan()
            changed = differences(plan.config, old.config)
            changed += [key for key in FIXED if getattr(plan, key) != getattr(old, key)]
            if changed:
                raise UsageError(
                    f"{self.path}: holds another comparison, different in "
                    f"{', '.join(changed)}. Choose another --output, or add --overwrite."
                )
            setups = tuple(dict.fromkeys((*plan.setups, *old.setups)))
            plan = plan.model_copy(update={"setups": setups})
        self.write_json(PLAN, plan.model_dump(by_alias=True))
        return plan

    def plan(self):
        """Read the `Plan` of the folder."""
        saved = self.read_json(PLAN)
        if saved is None:
            raise InputError(f"{self.path}: is not a comparison (no {PLAN}).")
        return check_record(Plan, saved, self.file(PLAN))

    def material(self):
        """Read material.json, or return None."""
        return self.read_json(MATERIAL)

    def parts(self):
        """Read what the setups measured: list of dict, in the order of the plan."""
        order = self.plan().setups
        parts = []
        for path in sorted(self.file("parts").glob("[!.]*.json")):
            part = self._part(path.name)
            setup = Setup(**part["side"])
            if setup not in order or part["name"] != setup.name:
                raise InputError(f"{path}: is of another comparison.")
            parts.append((order.index(setup), part))
        return [part for _, part in sorted(parts, key=lambda pair: pair[0])]

    def done(self, setup):
        """Return what a setup measured, or None where that is not complete."""
        part = self._part(f"{setup.slug}.json")
        return part if part is not None and part["status"] == "done" else None

    def write_part(self, setup, part):
        """Write what a setup measured."""
        self.write_json(f"parts/{setup.slug}.json", part)

    def _part(self, name):
        part = self.read_json(f"parts/{name}", ("side", "status"))
        if part is not None:
            kind = Done if part["status"] == "done" else Failed
            part["side"] = check_record(
                kind, part, self.file("parts", name)
            ).side.model_dump()
        return part

    def run_path(self, setup, seed):
        """Return the `Path` of the run that scores a setup."""
        return self.file("runs", f"{setup.slug}-seed{seed}")

    def split(self):
        """Read which scans train, validate and test, as `Split.from_json` takes it."""
        saved = self.read_json("split.json")
        if saved is None:
            raise InputError(f"{self.path}: has no split.json. Start it with --overwrite.")
        return saved

    def save_arrays(self, name, arrays):
        """Write arrays, a dict by their names, as an NPZ file."""
        with atomic(self.file(name), overwrite=True) as temporary:
            np.savez(temporary, **arrays)

    def save_weights(self, names, arrays):
        """Write initial weights with their names, in the order of the model."""
        numbered = {f"{number:04d}": array for number, array in enumerate(arrays)}
        self.save_arrays("weights.npz", {"names": np.array(names), **numbered})

    def weights(self, path=None):
        """Read initial weights: dict of name to array, in the order of the model."""
        path = path or self.file("weights.npz")
        arrays = read_arrays(path, "the weights.npz of a comparison")
        names = arrays.get("names", np.zeros(0)).ravel()
        numbers = [f"{number:04d}" for number in range(len(names))]
        if not len(names) or not arrays.keys() >= set(numbers):
            raise InputError(f"{path}: is damaged (no weights).")
        return {str(n): arrays[i] for n, i in zip(names, numbers, strict=True)}

    def save_batch(self, number, inputs, targets, weights):
        """Write one training batch; targets and weights may be dicts of heads."""
        arrays = {"inputs": inputs}
        for name, value in (("targets", targets), ("weights", weights)):
            heads = value if isinstance(value, dict) else {"": value}
            arrays |= {f"{name}.{head}": array for head, array in heads.items()}
        self.save_arrays(f"batches/{number:04d}.npz", arrays)

    def batch(self, number):
        """Read one training batch: inputs, targets and weights, as `Batches` made them."""
        arrays = self._inputs(f"batches/{number:04d}.npz")
        heads = {"targets": {}, "weights": {}}
        for key, array in arrays.items():
            name, _, head = key.partition(".")
            if name in heads:
                heads[name][head] = array
        return (arrays["inputs"], *(each.get("", each) for each in heads.values()))

    def remove_batches(self):
        """Remove the batches, which are large and can be made again."""
        for path in self.file("batches").glob("*.npz"):
            path.unlink()

    def scans(self):
        """Read the scans whose logits are compared: array `(scans, lines, pixels)`."""
        return self._inputs("scans.npz")["inputs"]

    def _inputs(self, name):
        arrays = read_arrays(self.file(name), "the arrays of a comparison")
        if "inputs" not in arrays:
            raise InputError(f"{self.file(name)}: is damaged (no inputs).")
        return arrays


def digest(arrays):
    """Return a SHA-256 over the shapes, dtypes and values of arrays."""
    state = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        state.update(f"{array.dtype} {array.shape}".encode())
        state.update(array)
    return state.hexdigest()

"""Measure the sides of a comparison: each in a process of its own, round after round.

All sides stay alive and the rounds go from one to the next, so that other work on the
machine hits them all alike.
"""

import contextlib
import os
import uuid

from stm_keras.data.load import load_dataset
from stm_keras.errors import StmKerasError, UsageError
from stm_keras.experiments.compare.folder import digest
from stm_keras.experiments.compare.machine import describe_machine
from stm_keras.experiments.compare.process import Process
from stm_keras.experiments.compare.scores import score_sides
from stm_keras.experiments.compare.sides import REFERENCES


def prepare(folder, plan, weights=None, say=print):
    """Make what every side begins with, in a process of the first backend that works.

    Args:
        folder: A `Folder`, started.
        plan: Its `Plan`.
        weights: `Path` of the weights.npz of another comparison, or None.
        say: callable of str.

    Raises:
        UsageError: Data or weights are not what the comparison began with.
        StmKerasError: A file cannot be read, or no backend could do it.
    """
    material = folder.material()
    dataset = load_dataset(plan.config.data.path)
    given = None if weights is None else digest(folder.weights(weights).values())
    if material is not None:
        if dataset.digest() != material["data"]:
            raise UsageError(
                f"{folder.path}: the data is not what this comparison began with. Choose "
                "another --output, or add --overwrite."
            )
        if given not in (None, material["weights"]):
            raise UsageError(
                f"{folder.path}: this comparison began with other weights than {weights}. "
                "Choose another --output, or add --overwrite."
            )
        if all(map(folder.done, plan.sides)) or folder.file("batches", "0000.npz").exists():
            return
        weights = folder.file("weights.npz")  # only the batches were removed
    backends = dict.fromkeys(side.library for side in plan.sides if side.ours)
    reasons = []
    for side in [side for side in plan.sides if side.library in backends]:
        if side.library not in backends:
            continue
        del backends[side.library]
        say(f"Preparing weights and batches with {side.library}.")
        with Process(folder, side, plan.cores) as process:
            try:
                process.ask("prepare", weights=weights and str(weights))
            except StmKerasError as error:
                reasons.append(f"{side.library}: {error}")
                continue
        return
    raise UsageError(
        "No backend could prepare the comparison. "
        + (" ".join(reasons) or "Give one of --backends beside the references.")
    )


def measure(folder, plan, sides, say):
    """Measure those sides that are not done, and write what each found as its part.

    Args:
        folder: A `Folder` that is prepared.
        plan: Its `Plan`.
        sides: sequence of `Side`.
        say: callable of str.
    """
    waiting = [side for side in sides if folder.done(side) is None]
    if waiting:
        say(f"Measuring {', '.join(side.name for side in waiting)}.")
        _Session(folder, plan, say).measure(waiting)
    if plan.epochs:
        score_sides(folder, plan, sides, say)


class _Session:
    """Sides that are measured together."""

    def __init__(self, folder, plan, say):
        self.folder, self.plan, self.say = folder, plan, say
        self.name = uuid.uuid4().hex
        self.machine = describe_machine()
        self.processes, self.found = {}, {}

    def measure(self, sides):
        with contextlib.ExitStack() as stack:
            for side in sides:
                process = Process(self.folder, side, self.plan.cores)
                self.processes[side] = stack.enter_context(process)
                self.found[side] = {"rounds": []}
                self._ask(side, "start", lambda found, answer: found.update(answer))
                if side in self.processes:
                    first = self.found[side]["first_step"]["wall"]
                    self.say(f"{side.name}: first step {first:.1f} s")
            for number in range(self.plan.repeats):
                for side in list(self.processes):
                    self._ask(side, "round", lambda f, answer: f["rounds"].append(answer))
                self.say(f"Round {number + 1} of {self.plan.repeats} is done.")
            for side in list(self.processes):
                if self.plan.loading and side.library not in REFERENCES:
                    self._ask(side, "load", lambda f, answer: f.update(loading=answer))
            for side in list(self.processes):
                self._ask(side, "agree", lambda f, answer: f.update(agreement=answer))
                if side in self.processes:
                    self._write(side, "done", **self.found[side])
                    self.processes.pop(side).close()
                    self.say(f"{side.name}: done.")

    def _ask(self, side, what, keep):
        try:
            keep(self.found[side], self.processes[side].ask(what))
        except StmKerasError as error:
            self.processes.pop(side).close()
            self._write(side, "failed", reason=str(error))
            self.say(f"{side.name}: failed: {error}")

    def _write(self, side, status, **found):
        material = self.folder.material()
        load = [*self.machine["load"], round(os.getloadavg()[0], 2)]
        part = {
            "side": side.to_json(),
            "name": side.name,
            "status": status,
            "session": self.name,
            "machine": {**self.machine, "load": load},
            "identity": {
                "data": material["data"],
                "split": material["split"],
                "batches": material["batches"],
            },
            **found,
        }
        self.folder.write_json(f"parts/{side.slug}.json", part)

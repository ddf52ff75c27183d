"""Predict scans with known classes, whole and begun, and score the answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stm_keras.data.dataset import Dataset
from stm_keras.data.split import Split
from stm_keras.errors import DatasetError, UsageError
from stm_keras.evaluation.abstention import score_rejection, score_unknown
from stm_keras.evaluation.change_scores import score_changes, score_votes
from stm_keras.evaluation.scores import score_predictions
from stm_keras.inference.predictor import Predictor

if TYPE_CHECKING:
    from stm_keras.runs import Run  # pydantic takes long to import

LINES_SEEN = (1, 2, 4, 8, 16, 20, 32, 64, 96, 128, 192, 256, 384, 512)
TEST_SEED = 20_202  # of simulated scans that score; no run trains or selects on them
NUM_CHANGED = 1200
NUM_UNKNOWN = 760  # 40 of each kind


@dataclass(frozen=True)
class Selection:
    """Scans to score a model on: the "test" part of its run, or "all" of a dataset.

    `groups` are of all scans of the dataset, or None.
    """

    indices: np.ndarray
    part: str
    protocol: str
    groups: np.ndarray | None = None


def select_scans(
    dataset: Dataset,
    run: "Run | None" = None,
    part: str | None = None,
    protocol: str | None = None,
) -> Selection:
    """Select the scans that may score a model.

    Args:
        run: The `Run` of the model, or None.
        part: str. "test" takes the test part of the run, "all" every complete scan
            with a single class. None takes the test part where there is one.
        protocol: str, or None for that of the run, else P2 where sessions are known.
    """
    if run is not None and part != "test":
        from stm_keras.runs import NOTES  # pydantic takes long to import

        notes = run.read_json(NOTES)
        if notes is not None:
            return _beside(dataset, run, notes, part, protocol)
    saved = run.read_json("split.json") if run else None
    same = saved is not None and saved.get("dataset") == dataset.digest()
    if part is None:
        part = "test" if same else "all"
    if part == "test":
        if saved is None:
            raise UsageError(
                "`--split test` needs the run of the model. Give the folder of the run, "
                "or --split all."
            )
        if not same:
            raise UsageError(
                "`--split test`: the data is not what the run was split on. Give that "
                "data, or --split all."
            )
        split = Split.from_json(saved, len(dataset))
        if protocol not in (None, split.protocol):
            raise UsageError(
                f"`--protocol {protocol}`: the run was split under {split.protocol}, and "
                "its model has seen scans of any other test part. Train under "
                f"--protocol {protocol}, or leave the option out."
            )
        return Selection(split.parts["test"], "test", split.protocol, split.groups)
    if protocol is None:
        protocol = "p1" if dataset.session is None else "p2"
    return Selection(np.flatnonzero(dataset.single_class()), "all", protocol)


def _beside(dataset, run, notes, part, protocol):
    """Select the scans of sessions of which an adapted model has seen no scan, or all."""
    seen = np.isin(dataset.scan_hashes(), notes["hashes"])
    if dataset.session is not None:
        seen |= np.isin(dataset.session, notes.get("sessions", []))
    single = dataset.single_class()
    if part == "all":
        lowest = "p1" if seen.any() or dataset.session is None else "p2"
        return Selection(np.flatnonzero(single), "all", protocol or lowest)
    groups = dataset.session if dataset.session is not None else np.arange(len(dataset))
    new = single & ~np.isin(groups, groups[seen])
    if seen.any() and not new.any():
        raise UsageError(
            f"{dataset.source}: {run.path} was adapted to these scans, or to others of their "
            "sessions. What it reaches on scans left out is in its report.html; score it on scans "
            "of new sessions."
        )
    protocol = protocol or ("p1" if dataset.session is None else "p2")
    return Selection(np.flatnonzero(new), "new" if seen.any() else "all", protocol)


def predict_by_lines(
    predictor: Predictor,
    dataset: Dataset,
    indices: np.ndarray,
    progress: Callable | None = None,
) -> dict:
    """Predict some scans of a dataset from their first lines and from all.

    Returns:
        dict of int lines seen to float array `(scans, classes)` of probabilities.

    Raises:
        MismatchError: Model and data do not fit.
        DatasetError: No scan is selected.
    """
    predictor.check_classes(dataset.classes, dataset.source)
    predictor.check_scans(dataset.images.shape, dataset.source)
    if not len(indices):
        raise DatasetError(
            f"{dataset.source}: no complete scan has a single class, so there is nothing to "
            "score."
        )
    part = dataset.take(indices)
    total = part.images.shape[1]
    seen = sorted({min(lines, total) for lines in (*LINES_SEEN, total)})
    return predictor.by_lines(part.images, seen, progress)


def score(
    dataset: Dataset,
    indices: np.ndarray,
    by_lines: dict,
    protocol: str,
    groups: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 1000,
) -> dict:
    """Score predictions under a protocol, see `score_predictions`.

    Args:
        indices: int array. Scans that were predicted.
        by_lines: dict, as of `predict_by_lines`.
        protocol: str. "p1", "p2" or "p3"; under P2 and P3 the intervals resample
            sessions.
        groups: int array of shape `(scans of the dataset,)`. What to resample where
            sessions are unknown.
    """
    return score_predictions(
        dataset.labels[indices],
        by_lines[max(by_lines)],
        dataset.classes,
        by_lines=by_lines,
        groups=resampling_groups(dataset, indices, protocol, groups),
        full_agreement=dataset.full_agreement()[indices],
        consensus=dataset.consensus()[indices],
        seed=seed,
        resamples=resamples,
    )


def resampling_groups(
    dataset: Dataset,
    indices: np.ndarray,
    protocol: str,
    groups: np.ndarray | None = None,
) -> np.ndarray | None:
    """Return what intervals resample: the session of each scan, or None for scans."""
    if protocol == "p1":
        return None
    if dataset.session is not None:
        groups = np.unique(dataset.session, return_inverse=True)[1]
    if groups is None:
        raise DatasetError(
            f"Protocol {protocol} resamples sessions, and the data names none. Add a "
            "`session` array, or use --protocol p1."
        )
    return groups[indices]


def changed_scans(count: int, seed: int, size: int = 128) -> Dataset:
    """Simulate scans, half of them with a tip change that can be seen.

    Fewer than `count` come back: those are left out whose change does not show. They have `size`
    lines of as many pixels.
    """
    from stm_keras.simulate import SimulationConfig, clear_changes, simulate

    config = SimulationConfig(size=size, p_tip_change=0.5, p_partial=0.0)
    scans = simulate(count, seed, config)
    return scans.take(np.flatnonzero(clear_changes(scans)))


def reliability_scores(
    predictor: Predictor,
    part: Dataset,
    validation: np.ndarray | None = None,
    groups: np.ndarray | None = None,
    seed: int = 0,
    trained_on: bool = False,
) -> dict:
    """Score how reliable a model's answers are: where it is unsure, on unknown surfaces, and
    where the tip changed.

    Args:
        predictor: A calibrated `Predictor`.
        part: `Dataset` of complete single-class scans to score on.
        validation: float array `(scans, classes)`. Probabilities of the scans whose
            confidence sets the thresholds, from a model that had not seen them; or None.
        groups: array of shape `(scans of part,)`. What to resample, or None.
        trained_on: bool. Whether the model was trained on `part` after all. It is then not
            asked whether it knows these surfaces, nor where the tip changed.

    Returns:
        dict, JSON-ready: `rejection`, `unknown` and `changes`; None where the model has no
        such head, or was trained on the scans in question.
    """
    scores: dict[str, Any] = {"rejection": None, "unknown": None, "changes": None}
    if validation is not None and len(validation):
        scores["rejection"] = score_rejection(
            part.labels,
            predictor.probabilities(part.images),
            validation,
            groups=groups,
            seed=seed,
        )
    metadata, size = predictor.metadata, part.images.shape[2]
    heads = {} if trained_on else predictor.heads(part.images)
    if "unknown" in metadata and heads:
        from stm_keras.simulate import UNKNOWN_KINDS, SimulationConfig, simulate_unknown

        ranges = SimulationConfig(size=size)
        surfaces = simulate_unknown(NUM_UNKNOWN, TEST_SEED, config=ranges)
        unknown = predictor.heads(surfaces.images)["unknown"]
        last = np.maximum(surfaces.lines, 1) - 1
        scores["unknown"] = score_unknown(
            heads["unknown"][:, -1],
            unknown[np.arange(len(last)), last],
            metadata["unknown"]["thresholds"][-1],
            kinds=np.array(UNKNOWN_KINDS)[surfaces.parameters["kind"]],
            groups=groups,
            seed=seed,
        )
    if "change" in metadata:
        scans = changed_scans(NUM_CHANGED, TEST_SEED, size)
        scores["changes"] = score_changes(
            predictor.heads(scans.images)["change"],
            scans.change_line,
            metadata["change"]["threshold"],
            lines=scans.lines,
        )
        votes = part.parameters.get("tip_change_votes")
        if votes is not None and heads:
            scores["changes"]["votes"] = score_votes(heads["change"], votes, part.lines)
    return scores

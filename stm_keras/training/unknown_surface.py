"""Fit a layer that recognises unknown surfaces beside a trained network, and measure it.

A small dense layer reads what the trees read: numbers that describe the lines so far, which
no training made. So any scan that the layer was not fitted to is new to it, whatever the
network was trained on, and its skill can be measured by leaving out: every session of the
known surface and every source of others is judged by layers that saw neither, under
thresholds that come from neither (nested cross-fitting).

The network and the trees stay as they are: classes and their probabilities do not change.
"""

import logging
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from stm_keras.data.split import Split
from stm_keras.data.stratify import assign_groups
from stm_keras.data.unknown_surfaces import read_unknown_surfaces
from stm_keras.errors import DatasetError, MismatchError
from stm_keras.evaluation.abstention import unknown_threshold
from stm_keras.evaluation.calibration import with_min_lines
from stm_keras.evaluation.held_out import Compared, score_compared, share_below
from stm_keras.inference.evaluate import LINES_SEEN
from stm_keras.inference.verdict import sigmoid
from stm_keras.models import build_model
from stm_keras.models.sequential import SURFACE
from stm_keras.settings.models import SequentialConfig
from stm_keras.training.calibrate import FALSE_ALARMS
from stm_keras.training.surface_features import (
    SEEN,
    WIDTH,
    describe_surfaces,
    fit_readout,
    unknown_logits,
)
from stm_keras.training.targets import extra_voted_scans
from stm_keras.training.warm_start import copy_weights

KNOWN_PARTS, OTHER_PARTS = 5, 4  # that are left out in turn
KEPT = ("1", "2", "4", "8", "16", "20", "64", "128")  # numbers of lines in a model file

logger = logging.getLogger(__name__)


def load_other_surfaces(path, dataset):
    """Read `data.others`, in the size of the scans of a dataset.

    Raises:
        DatasetError, MismatchError: It cannot be read, or does not fit.
    """
    others = read_unknown_surfaces(path)
    if others.images.shape[1:] != dataset.images.shape[1:]:
        raise MismatchError(
            f"{path}: other surfaces must have the size of the scans that train, "
            f"{dataset.images.shape[1]} x {dataset.images.shape[2]}. "
            f"Received: {others.images.shape[1]} x {others.images.shape[2]}."
        )
    return others


def known_scans(dataset, run=None):
    """Choose scans of the known surface: those outside the test part of a run, or all.

    Returns:
        Tuple of `Dataset` and array of the group of each scan, None for sessions.
    """
    saved = None if run is None else run.read_json("split.json")
    if saved is None:
        return dataset, None
    return outside_test(dataset, Split.from_json(saved, len(dataset)))


def outside_test(dataset, split):
    """Leave out the test part of a split and its sessions; the rest as of `known_scans`."""
    parts = np.concatenate([split.parts["train"], split.parts["validation"]])
    chosen = np.union1d(parts, extra_voted_scans(dataset, split))
    if split.groups is None:
        return dataset.take(chosen), None
    return dataset.take(chosen), np.asarray(split.groups)[chosen]


def fit_unknown_surface(predictor, known, others, groups=None, seed=0):
    """Fit the layer for unknown surfaces into a model, with thresholds and error rates.

    Args:
        predictor: `Predictor` of a `sequential` network with `model.surface` or without.
        known: `Dataset` of the known surface. Complete scans of one class choose
            thresholds and are scored; the layer is fitted to all. None may be a test scan.
        groups: array `(scans of known,)`. What is left out as a whole; None for sessions,
            and where there are none single scans.

    Returns:
        `Predictor`, whose metadata hold `unknown` with `thresholds` and what was `measured`.

    Raises:
        MismatchError: The model has no room for the layer, or scans are of another size.
        DatasetError: Fewer than two sources show a surface.
    """
    if len(np.unique(others.source[others.usable])) < 2:
        raise DatasetError(
            f"{others.name}: other surfaces must come from two sources at least: each is "
            "judged by a layer that was fitted to the others."
        )
    predictor.check_scans(known.images.shape, known.source)
    predictor.check_scans(others.images.shape, others.name)
    model = add_surface_layer(predictor)
    logger.info(
        f"Describing {len(known)} scans of the known surface and {len(others)} of others."
    )
    features = describe_surfaces(model, predictor.prepare, known, others, seed)
    lines = [int(n) for n in SEEN if n <= known.images.shape[1]]
    scored = known.single_class()
    names = known.session if groups is None else groups
    names = np.arange(len(known)) if names is None else np.asarray(names)
    parts = _known_parts(known, names, seed)
    logger.info(
        f"Leaving out each of {parts.max() + 1} parts of the known scans and of the sources."
    )
    fitted = cross_fit(features, scored, parts, _other_parts(others), lines, seed)
    measured, thresholds = {}, []
    for n in lines:
        if n in LINES_SEEN:
            measured[str(n)] = _measure(fitted, n, scored, names, others)
        scores = sigmoid(fitted.all_others[n][fitted.long_enough(scored, n)])
        thresholds.append(float(unknown_threshold(scores, FALSE_ALARMS)))
    all_known, all_others = (np.ones(len(each), bool) for each in (known, others))
    layer = fit_readout(features, all_known, all_others, seed)
    model.get_layer(SURFACE).set_weights(layer[:2])
    model.get_layer("unknown").set_weights(layer[2:])
    metadata = {
        **predictor.metadata,
        "parameters": model.count_params(),
        "unknown": {
            "false_alarms": FALSE_ALARMS,
            "lines": lines,
            "thresholds": thresholds,
            "measured": _kept(measured),
            "apart": _found_without_surface(fitted, others, max(lines)),
            "taught_by": others.licences(),
            "taught_by_file": others.name,
        },
    }
    return replace(predictor, model=model, metadata=with_min_lines(metadata))


def add_surface_layer(predictor):
    """Build the network of a model anew with the layer, all other weights as they are."""
    metadata = predictor.metadata
    training = metadata.get("training") or {}
    config = dict((training.get("config") or {}).get("model") or {})
    if config.pop("name", None) != "sequential":
        raise MismatchError(
            "Only a `sequential` network of stm-keras can be fitted to other surfaces. "
            "Leave `--others` out."
        )
    config = SequentialConfig(**{**config, "surface": config.get("surface") or WIDTH})
    there = {layer.name for layer in predictor.model.layers}
    if "trees" not in there:  # they were not fitted: too few scans
        config = config.model_copy(update={"trees": 0})
    size = len(metadata["classes"]), metadata["pixels"], metadata["max_lines"]
    model = build_model(config, *size)
    copied = {*copy_weights(predictor.model, model), "unknown"}
    for layer in model.layers:
        if layer.weights and layer.name in there - copied:
            raise MismatchError(f"The layer {layer.name} does not fit its own config.")
    return model


@dataclass(frozen=True)
class CrossFit:
    """Logits of scans by layers that were not fitted to them; dicts by number of lines."""

    known: dict  # (scans, parts of others)
    other: dict  # (others, parts of known)
    limits: dict  # (parts of known, parts of others): thresholds that neither part sets
    all_others: dict  # (scans,): of known scans, by layers fitted to all others
    parts: np.ndarray  # of each known scan
    other_parts: np.ndarray
    known_lines: np.ndarray  # lines with a signal of each
    other_lines: np.ndarray

    def long_enough(self, scored, n):
        """Return which scored known scans have `n` lines; all where none has: a mask."""
        chosen = scored & (self.known_lines >= n)
        return chosen if chosen.any() else scored

    def lines_of(self, recorded, n):
        """Return after how many lines scans are judged: at most `n` and their own."""
        seen = np.array(sorted(self.known))
        index = np.searchsorted(seen, np.minimum(recorded, n), "right") - 1
        return seen[np.maximum(index, 0)]


def cross_fit(features, scored, parts, other_parts, lines, seed):
    """Judge each known scan and each other by layers that saw neither part.

    The threshold of a pair (part of known, part of others) comes from layers that left out
    the known part, another one, and the part of others: from their answers to that other
    known part. `scored` is a mask of the known scans that choose thresholds.
    """
    folds, sources = parts.max() + 1, other_parts.max() + 1
    known = {n: np.zeros((len(parts), sources)) for n in lines}
    other = {n: np.zeros((len(other_parts), folds)) for n in lines}
    limits = {n: np.zeros((folds, sources)) for n in lines}
    all_others = {n: np.zeros(len(parts)) for n in lines}
    for source in range(sources):
        left_out = other_parts == source
        inner = {(fold, n): [] for fold in range(folds) for n in lines}
        for pair in combinations(range(folds), 2):
            layer = fit_readout(features, ~np.isin(parts, pair), ~left_out, seed)
            for fold, judged in (pair, pair[::-1]):
                for n in lines:
                    chosen = scored & (parts == judged) & (features.known.lines >= n)
                    logits = unknown_logits(layer, features.known.after(chosen, n))
                    inner[fold, n].append(logits)
        for fold in range(folds):
            layer = fit_readout(features, parts != fold, ~left_out, seed)
            held = parts == fold
            for n in lines:
                of_known = features.known.after(held, n)
                of_other = features.other.after(left_out, n)
                known[n][held, source] = unknown_logits(layer, of_known)
                other[n][left_out, fold] = unknown_logits(layer, of_other)
                logits = np.concatenate(inner[fold, n] or [np.zeros(0)])
                logits = logits if len(logits) else known[n][scored, source]
                limits[n][fold, source] = unknown_threshold(logits, FALSE_ALARMS)
    for fold in range(folds):
        held = parts == fold
        layer = fit_readout(features, ~held, np.ones(len(other_parts), bool), seed)
        for n in lines:
            all_others[n][held] = unknown_logits(layer, features.known.after(held, n))
    ends = features.known.lines, features.other.lines
    return CrossFit(known, other, limits, all_others, parts, other_parts, *ends)


def _measure(fitted, n, scored, names, others):
    """Score what was held out after `n` lines, as of `score_compared`.

    A scan of fewer lines is judged after its last, beside known scans after as many.
    """
    # === Known scans: how many are called unknown, by session ===
    sessions, session = np.unique(names[scored], return_inverse=True)
    scans, part = np.flatnonzero(scored), fitted.parts[scored]
    ends = fitted.lines_of(fitted.known_lines[scans], n)
    called = [
        np.mean(fitted.known[end][scan] > fitted.limits[end][fold])
        for scan, fold, end in zip(scans, part, ends, strict=True)
    ]
    sizes = np.bincount(session)
    alarms = np.bincount(session, called) / sizes

    # === Others: how many are found, and the share of each session that they exceed ===
    judged = np.flatnonzero(others.usable & others.whole)
    below, found = np.zeros((len(sessions), len(judged))), np.zeros(len(judged))
    after = fitted.lines_of(fitted.other_lines[judged], n)
    sources = fitted.other_parts[judged]
    for lines, source in {*zip(after.tolist(), sources.tolist(), strict=True)}:
        group = np.flatnonzero((after == lines) & (sources == source))
        other = fitted.other[lines][judged[group]]  # (others of the group, parts of known)
        found[group] = np.mean(other > fitted.limits[lines][:, source], axis=1)
        known = fitted.known[lines][scored, source]
        long = fitted.long_enough(scored, lines)[scored]
        for number in range(len(sessions)):
            of = session == number
            of = of & long if (of & long).any() else of
            below[number, group] = share_below(known[of], other[:, part[of][0]])
    kinds = others.source[judged], others.kind[judged]
    return score_compared(Compared(below, sizes, alarms, found, *kinds))


def _found_without_surface(fitted, others, n):
    """Return how many scans that show no surface are called unknown, by kind."""
    chosen = ~others.usable & others.whole & (fitted.other_lines > 0)
    by_kind = {}
    for kind in np.unique(others.kind[chosen]):
        scans = np.flatnonzero(chosen & (others.kind == kind))
        ends = fitted.lines_of(fitted.other_lines[scans], n)
        called = [
            fitted.other[end][scan] > fitted.limits[end][:, fitted.other_parts[scan]]
            for scan, end in zip(scans, ends, strict=True)
        ]
        found = round(float(np.mean(called)), 4)
        by_kind[str(kind)] = {"scans": len(scans), "found": found}
    return by_kind


def _kept(measured):
    """Keep what a card prints: all of the last number of lines, the head of the others."""
    last, kept = max(measured, key=int), {}
    for n, scores in measured.items():
        if n in KEPT or n == last:
            left_out = () if n == last else ("by_kind", "by_source")
            kept[n] = {k: _rounded(v) for k, v in scores.items() if k not in left_out}
    return kept


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _known_parts(known, names, seed):
    """Give whole groups of known scans to parts: int array `(scans,)`."""
    group = np.unique(names, return_inverse=True)[1].reshape(-1)
    count = min(KNOWN_PARTS, group.max() + 1)
    if count < 2:
        raise DatasetError(
            "Known scans must be of two sessions at least: each is judged by a layer that "
            "was fitted to the others."
        )
    labels = np.where(known.single_class(), known.labels, len(known.classes))
    shares = np.full(count, 1 / count)
    return assign_groups(labels, group, shares, seed, len(known.classes) + 1)


def _other_parts(others):
    """Give whole sources to parts of about as many scans: int array `(scans,)`."""
    names, source = np.unique(others.source, return_inverse=True)
    count = min(OTHER_PARTS, len(names))
    sizes = np.bincount(source, others.usable)
    totals, parts = np.zeros(count), np.zeros(len(names), int)
    for name in np.argsort(-sizes, kind="stable"):
        parts[name] = totals.argmin()
        totals[parts[name]] += max(sizes[name], 1e-3)
    return parts[source]

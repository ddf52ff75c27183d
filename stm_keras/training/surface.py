"""Teach a trained network what other surfaces look like, and measure how well it tells them.

A small dense layer reads what the trees read: numbers that describe the lines so far, which
no training made. So any scan that the layer has not seen is new to it, whatever the network
was trained on, and what it is worth can be measured by leaving out: every session of the
known surface and every source of others is judged by layers that saw neither, under
thresholds that come from neither (nested cross-fitting).

The network and the trees stay as they are: classes and their probabilities do not change.
"""

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
from stm_keras.runs import SPLIT
from stm_keras.settings import SequentialConfig
from stm_keras.training.surface_rows import (
    SEEN,
    describe_surfaces,
    fit_readout,
    say_unknown,
)
from stm_keras.training.targets import voted_extra

WIDTH = 64  # of the layer
FALSE_ALARMS = 0.05  # of known scans, that are called unknown
KNOWN_PARTS, OTHER_PARTS = 5, 4  # that are left out in turn
KEPT = ("1", "2", "4", "8", "16", "20", "64", "128")  # numbers of lines in a model file


def teach_surfaces(predictor, known, others, groups=None, seed=0, say=None):
    """Put a layer that tells unknown surfaces into a model, with thresholds and rates.

    Args:
        predictor: `Predictor` of a `sequential` network with `model.surface` or without.
        known: `Dataset` of the known surface. Complete scans of one class choose
            thresholds and are scored; all teach. No scan that the model is tested on.
        others: `stm_keras.data.unknown_surfaces.UnknownSurfaces`.
        groups: array `(scans of known,)`. What is left out as a whole; None for sessions,
            and where there are none single scans.
        seed: int.
        say: callable of str that tells the user what happens, or None.

    Returns:
        `Predictor`, whose facts hold `unknown` with `thresholds` and what was `measured`.

    Raises:
        MismatchError: The model has no room for the layer, or scans are of another size.
        DatasetError: Fewer than two sources show a surface.
    """
    say = say or (lambda text: None)
    if len(np.unique(others.source[others.usable])) < 2:
        raise DatasetError(
            f"{others.name}: other surfaces must come from two sources at least: each is "
            "judged by what the others taught."
        )
    predictor.check_scans(known.images.shape, known.source)
    predictor.check_scans(others.images.shape, others.name)
    model = with_layer(predictor)
    say(f"Describing {len(known)} scans of the known surface and {len(others)} of others.")
    rows = describe_surfaces(model, predictor.prepare, known, others, seed)
    lines = [int(n) for n in SEEN if n <= known.images.shape[1]]
    scored = known.single_class()
    parts = _known_parts(known, groups, seed)
    say(
        f"Leaving out each of {parts.max() + 1} parts of the known scans and of the sources."
    )
    judged = cross_fit(rows, scored, parts, _other_parts(others), lines, seed)
    names = known.session if groups is None else groups
    names = np.arange(len(known)) if names is None else np.asarray(names)
    asked = [n for n in lines if n in LINES_SEEN]
    measured = {str(n): _measured(judged, n, scored, names, others) for n in asked}
    thresholds = [
        float(
            unknown_threshold(
                sigmoid(judged.alone[n][judged.long(scored, n)]), FALSE_ALARMS
            )
        )
        for n in lines
    ]
    kernel, bias, out, shift = fit_readout(rows, rows.all_known, rows.all_others, seed)
    model.get_layer(SURFACE).set_weights([kernel, bias])
    model.get_layer("unknown").set_weights([out, shift])
    facts = {
        **predictor.facts,
        "parameters": model.count_params(),
        "unknown": {
            "false_alarms": FALSE_ALARMS,
            "lines": lines,
            "thresholds": thresholds,
            "measured": _kept(measured),
            "apart": _apart(judged, others, max(lines)),
            "taught_by": others.licences(),
            "taught_by_file": others.name,
        },
    }
    facts = with_min_lines(facts)
    return replace(predictor, model=model, facts=facts)


def with_layer(predictor):
    """Build the network of a model anew with the layer, all other weights as they are.

    Raises:
        MismatchError: It is no `sequential` network of this program.
    """
    training = predictor.facts.get("training") or {}
    config = dict((training.get("config") or {}).get("model") or {})
    if config.pop("name", None) != "sequential":
        raise MismatchError(
            "Only a `sequential` network of stm-keras learns what other surfaces look like. "
            "Leave `--others` out."
        )
    config = SequentialConfig(**{**config, "surface": config.get("surface") or WIDTH})
    facts = predictor.facts
    size = len(facts["classes"]), facts["pixels"], facts["max_lines"]
    there = {layer.name: layer for layer in predictor.model.layers}
    if not config.trees or "trees" not in there:  # they were not fitted: too few scans
        config = config.model_copy(update={"trees": 0})
    model = build_model(config, *size)
    for layer in model.layers:
        if layer.weights and layer.name in there:
            weights = there[layer.name].get_weights()
            if [w.shape for w in weights] == [tuple(w.shape) for w in layer.weights]:
                layer.set_weights(weights)
            elif layer.name != "unknown":
                raise MismatchError(f"The layer {layer.name} does not fit its own config.")
    return model


@dataclass(frozen=True)
class _Judged:
    """Logits of what did not teach, by number of lines, and thresholds that fit them.

    Args:
        known: dict of lines to float array `(scans, parts of others)`.
        other: dict of lines to float array `(others, parts of known)`.
        limits: dict of lines to float array `(parts of known, parts of others)`.
        alone: dict of lines to float array `(scans,)`: with all others as teachers.
        parts, other_parts: int arrays `(scans,)`, `(others,)`.
        known_lines, other_lines: int arrays. Lines with a signal.
    """

    known: dict
    other: dict
    limits: dict
    alone: dict
    parts: np.ndarray
    other_parts: np.ndarray
    known_lines: np.ndarray
    other_lines: np.ndarray

    def long(self, scored, n):
        """Return which scored known scans have so many lines; all where none has."""
        chosen = scored & (self.known_lines >= n)
        return chosen if chosen.any() else scored


def cross_fit(rows, scored, parts, other_parts, lines, seed):
    """Judge each known scan and each other by layers that saw neither part.

    The threshold of a pair of parts is of what layers that left out the known part, and
    another, say of that other, and none of them saw the part of the others.

    Args:
        rows: `SurfaceRows`.
        scored: bool array `(scans,)`. Known scans that choose thresholds.
        parts: int array `(scans,)`. Part of each known scan.
        other_parts: int array `(others,)`.
        lines: sequence of int. Numbers of lines.
        seed: int.

    Returns:
        `_Judged`.
    """
    folds, sources = parts.max() + 1, other_parts.max() + 1
    known = {n: np.zeros((len(parts), sources)) for n in lines}
    other = {n: np.zeros((len(other_parts), folds)) for n in lines}
    limits = {n: np.zeros((folds, sources)) for n in lines}
    alone = {n: np.zeros(len(parts)) for n in lines}
    for source in range(sources):
        left = other_parts == source
        within = {(fold, n): [] for fold in range(folds) for n in lines}
        for pair in combinations(range(folds), 2):
            layer = fit_readout(rows, ~np.isin(parts, pair), ~left, seed)
            for fold, beside in (pair, pair[::-1]):
                for n in lines:
                    chosen = scored & (parts == beside) & (rows.known_lines >= n)
                    within[fold, n].append(say_unknown(layer, rows.known_at(chosen, n)))
        for fold in range(folds):
            layer = fit_readout(rows, parts != fold, ~left, seed)
            for n in lines:
                held = parts == fold
                known[n][held, source] = say_unknown(layer, rows.known_at(held, n))
                other[n][left, fold] = say_unknown(layer, rows.other_at(left, n))
                told = np.concatenate(within[fold, n] or [np.zeros(0)])
                told = told if len(told) else known[n][scored, source]
                limits[n][fold, source] = unknown_threshold(told, FALSE_ALARMS)
    for fold in range(folds):
        layer = fit_readout(rows, parts != fold, rows.all_others, seed)
        for n in lines:
            alone[n][parts == fold] = say_unknown(layer, rows.known_at(parts == fold, n))
    ends = rows.known_lines, rows.other_lines
    return _Judged(known, other, limits, alone, parts, other_parts, *ends)


def _measured(judged, n, scored, names, others):
    """Score what was held out after a number of lines, as of `score_compared`.

    A scan of fewer lines is asked about after its last, beside known scans after as many.
    """
    asked = np.flatnonzero(others.usable & others.whole)
    sessions, place = np.unique(names[scored], return_inverse=True)
    part, own = judged.parts[scored], np.flatnonzero(scored)
    ends = zip(own, part, _ends(judged, judged.known_lines[own], n), strict=True)
    called = np.array(
        [
            np.mean(judged.known[end][scan] > judged.limits[end][fold])
            for scan, fold, end in ends
        ]
    )
    alarms = np.bincount(place, called) / np.bincount(place)
    below, found = np.zeros((len(sessions), len(asked))), np.zeros(len(asked))
    after = _ends(judged, judged.other_lines[asked], n)
    sources = judged.other_parts[asked]
    for lines, source in {*zip(after.tolist(), sources.tolist(), strict=True)}:
        group = np.flatnonzero((after == lines) & (sources == source))
        other = judged.other[lines][asked[group]]
        found[group] = np.mean(other > judged.limits[lines][:, source], axis=1)
        known, there = (
            judged.known[lines][scored, source],
            judged.long(scored, lines)[scored],
        )
        for session in range(len(sessions)):
            of = place == session
            of = of & there if (of & there).any() else of
            below[session, group] = share_below(known[of], other[:, part[of][0]])
    return score_compared(
        Compared(
            below,
            np.bincount(place),
            alarms,
            found,
            others.source[asked],
            others.kind[asked],
        )
    )


def _ends(judged, recorded, n):
    """Return after how many lines scans are asked about: at most `n` and their own."""
    seen = np.array(sorted(judged.known))
    return seen[np.maximum(np.searchsorted(seen, np.minimum(recorded, n), "right") - 1, 0)]


def _apart(judged, others, n):
    """Return how many scans of what shows no surface are called unknown, by kind."""
    chosen = ~others.usable & others.whole & (judged.other_lines > 0)
    told = {}
    for kind in np.unique(others.kind[chosen]):
        own = np.flatnonzero(chosen & (others.kind == kind))
        ends = _ends(judged, judged.other_lines[own], n)
        called = [
            judged.other[lines][scan] > judged.limits[lines][:, judged.other_parts[scan]]
            for scan, lines in zip(own, ends, strict=True)
        ]
        told[str(kind)] = {"scans": len(own), "found": round(float(np.mean(called)), 4)}
    return told


def _kept(measured):
    """Keep what a card says: all of the last number of lines, the head of the others."""
    last = max(measured, key=int)
    told = {}
    for n, scores in measured.items():
        if n in KEPT or n == last:
            parts = () if n == last else ("by_kind", "by_source")
            told[n] = {k: _rounded(v) for k, v in scores.items() if k not in parts}
    return told


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def _known_parts(known, groups, seed):
    """Give whole groups of known scans to parts: int array `(scans,)`."""
    names = known.session if groups is None else groups
    names = np.arange(len(known)) if names is None else np.asarray(names)
    place = np.unique(names, return_inverse=True)[1].reshape(-1)
    count = min(KNOWN_PARTS, place.max() + 1)
    if count < 2:
        raise DatasetError(
            "Known scans must be of two sessions at least: each is judged by what the "
            "others taught."
        )
    labels = np.where(known.single_class(), known.labels, len(known.classes))
    shares = np.full(count, 1 / count)
    return assign_groups(labels, place, shares, seed, len(known.classes) + 1)


def _other_parts(others):
    """Give whole sources to parts of about as many scans: int array `(scans,)`."""
    names, place = np.unique(others.source, return_inverse=True)
    count = min(OTHER_PARTS, len(names))
    sizes = np.bincount(place, others.usable)
    totals, parts = np.zeros(count), np.zeros(len(names), int)
    for name in np.argsort(-sizes, kind="stable"):
        parts[name] = totals.argmin()
        totals[parts[name]] += max(sizes[name], 1e-3)
    return parts[place]


def load_surface_teachers(path, dataset):
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


def known_of(dataset, run=None):
    """Choose scans that may say what the known surface looks like: none of a test session.

    Args:
        dataset: `Dataset`.
        run: `stm_keras.runs.Run` whose test part is left out, or None for all scans.

    Returns:
        Tuple of `Dataset` and array of the group of each scan, None for sessions.
    """
    saved = None if run is None else run.read_json("split.json", SPLIT)
    if saved is None:
        return dataset, None
    return without_test(dataset, Split.from_json(saved, len(dataset)))


def without_test(dataset, split):
    """Leave out the test part of a split, and all other scans of its sessions.

    Returns:
        As of `known_of`.
    """
    parts = np.concatenate([split.parts["train"], split.parts["validation"]])
    chosen = np.union1d(parts, voted_extra(dataset, split))
    if split.groups is None:
        return dataset.take(chosen), None
    return dataset.take(chosen), np.asarray(split.groups)[chosen]

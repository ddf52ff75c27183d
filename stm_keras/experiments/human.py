"""The human beside the models of a benchmark, on the scans of the sessions that test them."""

import logging

import numpy as np

from stm_keras.data.dataset import SIX_CLASSES, Dataset, labels_of_split_votes
from stm_keras.errors import DatasetError, StmKerasError
from stm_keras.evaluation.ceiling import score_ceiling
from stm_keras.evaluation.human import RatedScans, compare_raters, score_human
from stm_keras.evaluation.scores import LINE_SCORES, score_predictions
from stm_keras.experiments.plan import PlannedRun
from stm_keras.inference.find_model import find_model
from stm_keras.inference.model_file import load_predictor
from stm_keras.records import HUMAN
from stm_keras.runs import Run
from stm_keras.training.report import load_predictions

PROTOCOL = "p2"  # of the models: all scans of a session are then judged by one of them
RESAMPLES = 1000

logger = logging.getLogger(__name__)


def pool_human(
    runs: list[PlannedRun], dataset: Dataset, votes: np.ndarray, seed: int = 0
) -> dict:
    """Measure raters, the ceiling that they leave, and models on the very same scans.

    Models are those whose folds under P2 are all done; without any the rest is measured still.

    Args:
        votes: float array `(scans, boxes)`. As raters gave them: of six classes before merging.

    Returns:
        dict, JSON-ready, a row of the results of a benchmark: `raters`, as of `score_human`;
        `ceiling`, as of `score_ceiling`; `label_rule`: how many scans have a single class
        (`kept`), how many would by sums of split votes (`sums`), and without doubt (`sure`);
        `models`: config to dict of `beside`, as of `score_human`, and `label_rule`: scores
        without and with these scans. `label_rule` is None where there are no six classes.

    Raises:
        DatasetError: The data have no votes, raters or sessions, or do not tell one rater.
        StmKerasError: A run was trained on other data.
    """
    missing = [k for k in ("votes", "raters", "session") if getattr(dataset, k) is None]
    if missing:
        raise DatasetError(
            f"{dataset.source}: has no `{missing[0]}`, so nothing is known of single raters. "
            "Leave out --human, or add them."
        )
    whole = np.flatnonzero(dataset.lines == dataset.images.shape[1])
    votes = np.asarray(votes, float)
    rated = RatedScans(votes[whole], dataset.raters[whole], dataset.session[whole])
    compared = compare_raters(rated)
    settings = {"seed": seed, "resamples": RESAMPLES}
    logger.info("Estimating the ceiling that raters leave; it takes a minute.")
    result = {
        "config": HUMAN,
        "protocol": PROTOCOL,
        "data": dataset.digest(),
        **settings,
        "raters": score_human(rated, compared, **settings),
        "ceiling": score_ceiling(rated, seed=seed),
        "label_rule": None,
        "models": {},
    }
    sets = {}  # of scans: labels, -1 where a scan is not one of them
    if votes.shape[1] == len(SIX_CLASSES):
        kept = np.where(dataset.single_class(), dataset.labels, -1)
        split, sure = (np.full(len(dataset), -1) for _ in range(2))
        split[whole], certain = labels_of_split_votes(votes[whole])
        sure[whole] = np.where(certain, split[whole], -1)
        sets = {"kept": kept, "sure": sure, "sums": split}
        result["label_rule"] = {name: int((own >= 0).sum()) for name, own in sets.items()}
        sets = {name: np.where(kept >= 0, kept, own) for name, own in sets.items()}
    folds: dict[str, list[PlannedRun]] = {}
    for run in runs:
        if run.protocol == PROTOCOL:
            folds.setdefault(run.group, []).append(run)
    for config, group in folds.items():
        if not all(fold.done() for fold in group):
            logger.info(
                f"{config}: not all folds are done; it is not compared with raters."
            )
            continue
        answers = _judge(group, dataset, whole, result["data"])
        asked = np.isfinite(answers[:, 0])
        said = np.where(asked, np.nan_to_num(answers).argmax(1), -1)[whole]
        model = {"beside": score_human(rated, compared, said, **settings)}
        model["label_rule"] = {
            name: _score(dataset, labels, answers, asked & (labels >= 0), settings)
            for name, labels in sets.items()
        }
        result["models"][config] = model
    return result


def _judge(folds, dataset, whole, digest):
    """Judge all complete scans of the sessions that test each fold: float `(scans, classes)`.

    What a run kept are its answers to scans with a single class; the others are asked of the
    model that it kept. NaN where no session is tested.
    """
    answers = np.full((len(dataset), len(dataset.classes)), np.nan)
    for fold in folds:
        run = Run.open(fold.path)
        if run.read_json("split.json")["dataset"] != digest:
            raise StmKerasError(f"{run.path}: was trained on other data. Move it away.")
        tested, by_lines = load_predictions(run)
        answers[tested] = by_lines[max(by_lines)]
        own = np.isin(dataset.session[whole], dataset.session[tested])
        others = np.setdiff1d(whole[own], tested)
        if len(others):
            logger.info(f"{fold.key}: judging {len(others)} scans without a single class.")
            predictor = load_predictor(find_model(run.path)[0])
            answers[others] = predictor.probabilities(dataset.take(others).images)
    return answers


def _score(dataset, labels, answers, chosen, settings):
    """Score answers to the chosen scans, a bool array: the headline scores with intervals."""
    scores = score_predictions(
        labels[chosen],
        answers[chosen],
        dataset.classes,
        groups=np.unique(dataset.session, return_inverse=True)[1][chosen],
        **settings,
    )
    intervals = {name: scores["intervals"][name] for name in LINE_SCORES}
    return {name: scores[name] for name in (*LINE_SCORES, "n")} | {"intervals": intervals}

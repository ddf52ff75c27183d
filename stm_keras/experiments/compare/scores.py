"""Scores of a side: runs of several seeds, trained and judged as `stm-keras train` does."""

from stm_keras.errors import StmKerasError
from stm_keras.experiments.compare.process import Process
from stm_keras.runs import Run

SCORES = ("auroc", "balanced_accuracy")


def scored_sides(sides):
    """List the sides that are trained for scores: each backend and precision once.

    How a step is compiled changes its speed, not what is learnt.
    """
    chosen = {}
    for side in sides:
        if side.ours:
            chosen.setdefault((side.library, side.precision), side)
    return list(chosen.values())


def score_sides(folder, plan, sides, say):
    """Train the runs that are not done, one after the other, and note their scores.

    An interrupted run goes on after its last epoch.

    Args:
        folder: A `Folder`.
        plan: Its `Plan`.
        sides: sequence of `Side` that were measured.
        say: callable of str.
    """
    for side in scored_sides(plan.sides):
        part = folder.done(side)
        if side not in sides or part is None:
            continue
        found, failed = {}, {}
        first = plan.config.seed
        for seed in range(first, first + plan.seeds):
            try:
                found[str(seed)] = _scores_of(folder, plan, side, seed, say)
            except StmKerasError as error:
                failed[str(seed)] = str(error)
                say(f"{side.name}, seed {seed}: failed: {error}")
        part["scores"] = {"runs": found, "failed": failed, "epochs": plan.epochs}
        folder.write_json(f"parts/{side.slug}.json", part)


def _scores_of(folder, plan, side, seed, say):
    done = Run(folder.file(run_name(side, seed))).read_json("evaluation.json", SCORES)
    if done is None:
        say(f"{side.name}, seed {seed}: training {plan.epochs} epochs.")
        with Process(folder, side, plan.cores) as process:
            done = process.ask("score", seed=seed)
    if None in (done[key] for key in SCORES):
        raise StmKerasError("its test scans tell no score")
    return {key: done[key] for key in SCORES}


def run_name(side, seed):
    """Return the name of a run's folder, inside that of the comparison."""
    return f"runs/{side.slug}-seed{seed}"


def score_run(folder, plan, side, seed):
    """Train one run on the split of the comparison and judge its test scans.

    Args:
        folder: A `Folder` that is prepared.
        plan: Its `Plan`.
        side: The `Side`, whose backend is in use.
        seed: int. Of initial weights, order and augmentation.

    Returns:
        dict of "auroc" and "balanced_accuracy".
    """
    from stm_keras.training.report import report_run
    from stm_keras.training.train import train

    config = plan.config
    jit = {"auto": "auto", "true": True}.get(side.jit, False)
    changed = {"epochs": plan.epochs, "precision": side.precision, "jit_compile": jit}
    settings = config.train.model_copy(update=changed)
    config = config.model_copy(update={"train": settings, "seed": seed})
    run = Run.start(folder.file(run_name(side, seed)), config)
    if not run.file("split.json").exists():
        run.write_json(
            "split.json", {**folder.split(), "dataset": folder.material()["data"]}
        )
    with run.locked():
        predictor, dataset, split = train(config, run)
        scores = report_run(run, predictor, dataset, split)
    return {key: scores[key] for key in SCORES}

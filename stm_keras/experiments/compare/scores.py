"""Scores of a setup: runs of several seeds, trained and judged as `stm-keras train` does."""

from stm_keras.errors import StmKerasError
from stm_keras.experiments.compare.worker import Process
from stm_keras.runs import Run

SCORES = ("auroc", "balanced_accuracy")


def scored_setups(setups):
    """List the setups that are trained for scores: each backend and precision once.

    How a step is compiled changes its speed, not what is learnt.
    """
    chosen = {}
    for setup in setups:
        if setup.uses_keras:
            chosen.setdefault((setup.library, setup.precision), setup)
    return list(chosen.values())


def score_setups(folder, plan, setups, progress):
    """Train the runs that are not done, one after the other, and note their scores.

    An interrupted run goes on after its last epoch.
    """
    for setup in scored_setups(plan.setups):
        part = folder.done(setup)
        if setup not in setups or part is None:
            continue
        scores, failed = {}, {}
        for seed in range(plan.config.seed, plan.config.seed + plan.seeds):
            try:
                scores[str(seed)] = _scores(folder, plan, setup, seed, progress)
            except StmKerasError as error:
                failed[str(seed)] = str(error)
                progress(f"{setup.name}, seed {seed}: failed: {error}")
        part["scores"] = {"runs": scores, "failed": failed, "epochs": plan.epochs}
        folder.write_part(setup, part)


def _scores(folder, plan, setup, seed, progress):
    scores = Run(folder.file(run_name(setup, seed))).read_json("evaluation.json", SCORES)
    if scores is None:
        progress(f"{setup.name}, seed {seed}: training {plan.epochs} epochs.")
        with Process(folder, setup, plan.cores) as process:
            scores = process.call("score", seed=seed)
    if None in (scores[key] for key in SCORES):
        raise StmKerasError("its test scans give no score")
    return {key: scores[key] for key in SCORES}


def run_name(setup, seed):
    """Return the name of a run's folder, inside that of the comparison."""
    return f"runs/{setup.slug}-seed{seed}"


def score_run(folder, plan, setup, seed, progress):
    """Train one run on the split of the comparison and score its test scans."""
    from stm_keras.training.report import finish
    from stm_keras.training.train import train

    changes = {"epochs": plan.epochs, **setup.train_settings}
    settings = plan.config.train.model_copy(update=changes)
    config = plan.config.model_copy(update={"train": settings, "seed": seed})
    run = Run.start(folder.file(run_name(setup, seed)), config)
    if not run.file("split.json").exists():
        split = {**folder.split(), "dataset": folder.material()["data"]}
        run.write_json("split.json", split)
    with run.locked():
        predictor, dataset, split = train(config, run, progress)
        scores = finish(run, predictor, dataset, split, progress)
    return {key: scores[key] for key in SCORES}

"""Train one network several times from one start, and keep the mean of their weights.

What the order of the batches and dropout taught by chance differs from member to member,
and much of it goes in the mean: an ensemble that costs no more to ask than one network.
"""

import keras
import numpy as np

from stm_keras.files import atomic
from stm_keras.inference.model_file import load_predictor, save_model
from stm_keras.training.callbacks import averaged
from stm_keras.training.team import ALONE


class Members(keras.callbacks.Callback):
    """Begin anew after every `epochs` epochs, and keep what each training arrived at.

    Comes before whatever writes the state of an epoch: a kill between the two repeats the
    epoch, and writes the member again.

    Args:
        run: A `stm_keras.runs.Run`.
        epochs: int. Epochs of a member.
        start: list of arrays, the weights that each begins with.
        team: `Team`, of which the first process writes.
    """

    def __init__(self, run, epochs, start, team=ALONE):
        super().__init__()
        self.run = run
        self.epochs = epochs
        self.start = start
        self.team = team

    def on_epoch_begin(self, epoch, logs=None):
        if epoch and epoch % self.epochs == 0:
            self.model.set_weights(self.start)
            optimizer = self.model.optimizer  # a scale of the loss stays as it is
            for variable in getattr(optimizer, "inner_optimizer", optimizer).variables:
                variable.assign(np.zeros(variable.shape, variable.dtype))

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.epochs == 0:
            number = epoch // self.epochs
            with averaged(self.model):
                self.team.alone(lambda model: self._write(model, number), self.model)

    def _write(self, model, number):
        path = member_path(self.run, number)
        path.parent.mkdir(exist_ok=True)
        with atomic(path, overwrite=True) as temporary:
            np.savez(temporary, *model.get_weights())


def member_path(run, number):
    """Return the `Path` of the weights of a member of a run."""
    return run.file("members") / f"{number}.npz"


def join_members(config, run, say=None):
    """Give a run's model the mean of the weights of its members, once.

    Args:
        config: A `stm_keras.config.Config`.
        run: A `stm_keras.runs.Run` with `best.keras`, all members trained.
        say: callable of str that tells the user what happens, or None.

    Reference:
        Wortsman et al., 2022, https://arxiv.org/abs/2203.05482, the uniform soup.
    """
    count, path = config.train.members, run.file("best.keras")
    predictor = load_predictor(path)
    if count == 1 or "members" in predictor.facts["training"]:
        return
    if say:
        say(f"The model is the mean of {count} networks.")
    members = []
    for number in range(count):
        with np.load(member_path(run, number), allow_pickle=False) as file:
            members.append([file[name] for name in file.files])
    # counters of dropout are whole numbers, and as good as any
    means = [
        np.mean(each, axis=0) if each[0].dtype.kind == "f" else each[0]
        for each in zip(*members, strict=True)
    ]
    predictor.model.set_weights(means)
    training = {k: v for k, v in predictor.facts["training"].items() if k != "best"}
    facts = {**predictor.facts, "training": {**training, "members": count}}
    save_model(predictor.model, path, facts, overwrite=True)

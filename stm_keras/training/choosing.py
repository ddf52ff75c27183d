"""What the validation AUROC decides: the epoch to keep, a lower learning rate, the end."""

import keras

from stm_keras.training.optimizer import plateau_scale


def best_epoch(rows):
    """Return the row of the epoch with the highest validation AUROC, the first of equals."""
    return max(rows, key=lambda row: (row["val_auroc"], -row["epoch"]), default=None)


def should_stop(rows, patience):
    """Tell whether the best epoch lies `patience` epochs back."""
    return bool(rows) and rows[-1]["epoch"] - best_epoch(rows)["epoch"] >= patience


class Plateau(keras.callbacks.Callback):
    """Lower the learning rate when validation AUROC no longer rises.

    The schedule holds the factor as a plain number, so the compiled step is made
    anew when it changes: a few times in a run.
    """

    def __init__(self, rows, factor, patience, start):
        super().__init__()
        self.rows = rows
        self.arguments = (factor, patience, start)

    def on_train_begin(self, logs=None):
        self._apply()

    def on_epoch_end(self, epoch, logs=None):
        self._apply()

    def _apply(self):
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        schedule = optimizer._learning_rate  # the property gives a number, not the schedule
        scale = plateau_scale([row["val_auroc"] for row in self.rows], *self.arguments)
        if scale != schedule.scale:
            schedule.scale = scale
            self.model.make_train_function(force=True)


class Stop(keras.callbacks.Callback):
    """End training when validation AUROC has not risen for `patience` epochs."""

    def __init__(self, rows, patience):
        super().__init__()
        self.rows = rows
        self.patience = patience

    def on_epoch_end(self, epoch, logs=None):
        if should_stop(self.rows, self.patience):
            self.model.stop_training = True

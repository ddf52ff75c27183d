"""What happens after every epoch: measure, write down, keep, tell."""

import contextlib
import math
import signal
import sys
import time
from contextlib import contextmanager

import keras
import numpy as np

from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import TrainingError
from stm_keras.evaluation.metrics import auroc, balanced_accuracy
from stm_keras.inference.predictor import predict_logits
from stm_keras.inference.verdict import softmax
from stm_keras.signals import Preempted, notice, raises
from stm_keras.terminal import redraw
from stm_keras.training.optimizer import plateau_scale
from stm_keras.training.team import ALONE, EVERY

ADVICE = (
    "Start anew in another --output with a lower `train.learning_rate` or a smaller "
    "`train.clip_norm`; the epochs before are kept."
)


@contextmanager
def averaged(model):
    """Lend the model the moving average of its weights, if its optimizer keeps one."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    variables = model.trainable_variables
    own = [keras.ops.convert_to_numpy(variable) for variable in variables]
    averages = optimizer._model_variables_moving_average  # Keras has no public way
    for variable, average in zip(variables, averages, strict=True):
        # by way of numpy: JAX frees the arrays that it predicts with, also shared ones
        variable.assign(keras.ops.convert_to_numpy(average))
    try:
        yield
    finally:
        for variable, value in zip(variables, own, strict=True):
            variable.assign(value)


class Epoch(keras.callbacks.Callback):
    """Tell data and dropout which epoch it is, so that a restart repeats nothing.

    The counters of dropout are not in the weights file; they are set from seed and
    epoch instead. Under torch, Keras' dropout draws from torch's own generator, and each
    process drops something else.
    """

    def __init__(self, batches, seed, team=ALONE):
        super().__init__()
        self.batches = batches
        self.seed = seed
        self.team = team

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.set_epoch(epoch)
        generators = [v for v in self.model.variables if "seed_generator" in v.path]
        for index, variable in enumerate(generators):
            state = np.random.SeedSequence((self.seed, epoch, index)).generate_state(2)
            variable.assign((state >> 1).astype("uint32"))  # torch wants them below 2^31
        if keras.config.backend() == "torch":
            own = (self.team.rank,) if self.team.rank else ()
            state = np.random.SeedSequence((self.seed, epoch, *own)).generate_state(1)
            keras.utils.set_random_seed(int(state[0]))


class Scores(keras.callbacks.Callback):
    """Add macro one-vs-rest AUROC and balanced accuracy to the logs of an epoch.

    Measured on scans as they are, without augmentation, on validation and on as many
    training scans: the gap between them is over-fitting and nothing else.

    Args:
        images: array-like of shape `(scans, lines, pixels)`.
        parts: dict of prefix ("", and "val_" where scans are kept for it) to tuple of
            int arrays: indices into `images`, and their labels.
        batch_size: int.
        prepare: callable that turns heights into the model's input.
        team: `Team`, of which the first process measures.
    """

    def __init__(self, images, parts, batch_size, prepare=standardise_lines, team=ALONE):
        super().__init__()
        self.team = team
        self.images = images
        self.parts = parts
        self.batch_size = batch_size
        self.prepare = prepare

    def on_epoch_end(self, epoch, logs=None):
        with averaged(self.model):
            scores = self.team.alone(self._measure, self.model)
        if scores is None:
            raise TrainingError(
                f"The model gives values that are not finite after epoch {epoch + 1}. "
                f"{ADVICE}"
            )
        logs.update(scores)

    def _measure(self, model):
        """Return scores by name, or None where the model gives no numbers."""
        scores = {}
        for prefix, (indices, labels) in self.parts.items():
            logits = predict_logits(
                model,
                self.images,
                None,
                self.batch_size,
                indices=indices,
                prepare=self.prepare,
            )
            if not np.isfinite(logits).all():
                return None
            probabilities = softmax(logits)
            chosen = probabilities[np.arange(len(labels)), labels]
            scores[f"{prefix}auroc"] = float(auroc(labels, probabilities)[0])
            scores[f"{prefix}balanced_accuracy"] = float(
                balanced_accuracy(labels, logits.argmax(1), logits.shape[1])
            )
            if prefix:
                loss = -np.log(np.maximum(chosen, 1e-12)).mean()
                scores[f"{prefix}loss"] = float(loss)
        return scores


class FiniteLoss(keras.callbacks.Callback):
    """Stop, and say where, when the loss is no number any more.

    The loss in the logs is the mean since the epoch began, so one look in `every`
    steps misses nothing and costs no wait for the device at the others.
    """

    def __init__(self, every=10):
        super().__init__()
        self.every = every
        self.epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.every == 0:
            self._check(logs, f"step {batch + 1} of epoch {self.epoch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs, f"epoch {epoch + 1}")

    def _check(self, logs, place):
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"The loss is {loss} by {place}. {ADVICE}")


class Keeper(keras.callbacks.Callback):
    """Write the history and the weights of every epoch so that nothing gets lost.

    The weights come first under a new name, then `state.json` names them: a kill
    between the two leaves the state of the epoch before. The best model by
    validation AUROC is written before either, and again when its epoch is repeated.

    Args:
        run: A `stm_keras.runs.Run`.
        rows: list of dict, the epochs done before; new ones are appended.
        save_best: callable of the model, writes `best.keras`.
        keep: str. Which epoch `best.keras` is of: "best" by validation AUROC, or "last".
        team: `Team`, of which the first process writes.
    """

    def __init__(self, run, rows, save_best, keep="best", team=ALONE):
        super().__init__()
        self.team = team
        self.keep = keep
        self.run = run
        self.rows = rows
        self.save_best = save_best
        self.begin = time.perf_counter()

    def on_epoch_begin(self, epoch, logs=None):
        self.begin = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        row["seconds"] = time.perf_counter() - self.begin
        row = self.team.once(lambda: row)  # its own clock differs
        logs.update(row)
        if self.keep == "last" or self._is_best(row):
            with averaged(self.model):
                self.team.alone(lambda model: self.save_best(model, row), self.model)
        self.rows.append(row)
        model = self.model  # read in every process: under JAX they fetch it together
        self.team.once(lambda: self._write(model, epoch))

    def _is_best(self, row):
        best = best_epoch(self.rows)
        return best is None or row["val_auroc"] > best["val_auroc"]

    def _write(self, model, epoch):
        folder = self.run.file("checkpoints")
        folder.mkdir(exist_ok=True)
        old = [path for path in folder.iterdir() if path.name != "state.json"]
        name = f"epoch-{epoch + 1:05d}.weights.h5"
        model.save_weights(folder / f"new-{name}", overwrite=True)
        (folder / f"new-{name}").replace(folder / name)
        self.run.write_json("checkpoints/state.json", {"weights": name, "rows": self.rows})
        self.run.write_history(self.rows)
        for path in old:
            if path.name != name:
                path.unlink(missing_ok=True)


class Lines(keras.callbacks.Callback):
    """Tell an epoch in one line on stderr, and on a terminal the steps in between."""

    def __init__(self, epochs, stream=None):
        super().__init__()
        self.epochs = epochs
        self.stream = stream or sys.stderr
        self.epoch = 0
        self.shown = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.shown > 0.2:
            self.shown = now
            steps = self.params["steps"]
            bar = ("#" * (24 * (batch + 1) // steps)).ljust(24, ".")
            place = f"epoch {self.epoch + 1}/{self.epochs}  step {batch + 1}/{steps}"
            redraw(f"{place}  [{bar}]", self.stream)

    def on_epoch_end(self, epoch, logs=None):
        redraw("", self.stream)
        validation = ""
        if "val_loss" in logs:
            validation = (
                f"validation: loss {logs['val_loss']:.4f}  AUROC {logs['val_auroc']:.3f}  "
                f"balanced accuracy {logs['val_balanced_accuracy']:.3f}  "
            )
        self.stream.write(
            f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.4f}  "
            f"AUROC {logs['auroc']:.3f}  {validation}{logs['seconds']:.1f} s\n"
        )
        self.stream.flush()


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


class Interrupt(keras.callbacks.Callback):
    """Make Ctrl-C stop the training also where Python swallows it.

    An interrupt that comes while an object is being destroyed, or a library's C code
    calls back, is printed as ignored and lost. So it is noted, and raised again after
    the step. A signal that asks to leave (`stm_keras.signals`) waits for the step too: the
    epoch that just ended is kept whole. Of several processes all stop at the same step, or
    one would wait for ever.
    """

    def __init__(self, team=ALONE):
        super().__init__()
        self.team = team
        self.every = 1 if team.world == 1 else EVERY
        self.asked = False
        self._former = None

    def on_train_begin(self, logs=None):
        notice.deferred = True
        self._former = signal.getsignal(signal.SIGINT)
        if raises(self._former):
            with contextlib.suppress(ValueError):  # not the main thread: nothing comes
                signal.signal(signal.SIGINT, self._note)

    def close(self):
        """Give the signals back to whoever had them."""
        notice.deferred = False
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._former)

    def on_train_batch_end(self, batch, logs=None):
        if batch % self.every == 0:
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._stop()

    def on_train_end(self, logs=None):
        self._stop()

    def _note(self, number, frame):
        self.asked = True
        if self.team.world == 1:
            raise KeyboardInterrupt

    def _stop(self):
        agreed = self.team.agree(signal.SIGINT if self.asked else notice.number)
        if agreed == signal.SIGINT:
            raise KeyboardInterrupt
        if agreed:
            raise Preempted(signal.Signals(agreed).name)

"""What happens after every step and epoch: measure, check, keep, report, stop."""

import contextlib
import math
import signal
import time

import keras
import numpy as np

from stm_keras.data.preprocess import standardise_lines
from stm_keras.errors import TrainingError, require
from stm_keras.evaluation.metrics import epoch_scores
from stm_keras.inference.keras_predictor import predict_logits
from stm_keras.inference.verdict import softmax
from stm_keras.layers.resident import RESIDENT
from stm_keras.progress import progress
from stm_keras.signals import Preempted, notice, raises
from stm_keras.training import parallel
from stm_keras.training.finished import best_epoch, should_stop
from stm_keras.training.optimizer import inner, plateau_scale
from stm_keras.training.parallel import SINGLE

SCORE_BATCH = 64  # scans that are predicted at a time after an epoch
ADVICE = (
    "Start anew in another --output with a lower `train.learning_rate` or a smaller "
    "`train.clip_norm`; the epochs before are kept."
)


class SetEpoch(keras.callbacks.Callback):
    """Set data and dropout to the state of an epoch, so that a restart repeats nothing.

    The counters of dropout are not in the weights file; they are set from seed and
    epoch instead. Under torch, Keras' dropout draws from torch's own generator, and each
    process drops something else.
    """

    def __init__(self, batches, seed, strategy=SINGLE):
        super().__init__()
        self.batches = batches
        self.seed = seed
        self.strategy = strategy

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.set_epoch(epoch)
        generators = [v for v in self.model.variables if "seed_generator" in v.path]
        # the network drops the same wherever the scans live
        generators.sort(key=lambda each: each.path.startswith(f"{RESIDENT}/"))
        for index, variable in enumerate(generators):
            state = np.random.SeedSequence((self.seed, epoch, index)).generate_state(2)
            variable.assign((state >> 1).astype("uint32"))  # torch wants them below 2^31
        if keras.config.backend() == "torch":
            own = (self.strategy.rank,) if self.strategy.rank else ()
            state = np.random.SeedSequence((self.seed, epoch, *own)).generate_state(1)
            keras.utils.set_random_seed(int(state[0]))


class AverageLogs(keras.callbacks.Callback):
    """Average the logs over processes where each has those of its own rows.

    Comes before every callback that reads the logs: all processes must decide alike.
    """

    def __init__(self, strategy):
        super().__init__()
        self.strategy = strategy

    def on_train_batch_end(self, batch, logs=None):
        if batch % parallel.CHECK_EVERY == 0:
            logs.update(self.strategy.mean(logs))

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.strategy.mean(logs))


class FiniteLoss(keras.callbacks.Callback):
    """Stop, and say where, when the loss is not finite.

    The loss in the logs is the mean since the epoch began, so a check in every `CHECK_EVERY`
    steps misses nothing and costs no wait for the device at the others.
    """

    epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if batch % parallel.CHECK_EVERY == 0:
            self._check(logs, f"step {batch + 1} of epoch {self.epoch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        self._check(logs, f"epoch {epoch + 1}")

    def _check(self, logs, when):
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(f"The loss is {loss} by {when}. {ADVICE}")


class EpochScores(keras.callbacks.Callback):
    """Add macro one-vs-rest AUROC and balanced accuracy to the logs of an epoch.

    Measured on scans as they are, without augmentation, on validation and on some
    training scans: the gap between them is over-fitting and nothing else. `parts` is a dict
    of prefix ("", and "val_" where scans are kept for it) to indices into `images` and
    labels. `network` is what takes them; the model that `fit` trains may have more in front.
    """

    def __init__(self, images, parts, network, prepare=standardise_lines, strategy=SINGLE):
        super().__init__()
        self.images = images
        self.parts = parts
        self.network = network
        self.prepare = prepare
        self.strategy = strategy

    def on_epoch_end(self, epoch, logs=None):
        with averaged(self.model):
            scores = self.strategy.run_on_copy(self._measure, self.network)
        if scores is None:
            raise TrainingError(
                f"The model gives values that are not finite after epoch {epoch + 1}. "
                f"{ADVICE}"
            )
        logs.update(scores)

    def _measure(self, model):
        """Return scores by name, or None where a logit is not finite."""
        scores = {}
        for prefix, (indices, labels) in self.parts.items():
            chosen = {"indices": indices, "prepare": self.prepare}
            logits = predict_logits(model, self.images, SCORE_BATCH, **chosen)
            if not np.isfinite(logits).all():
                return None
            of_part = epoch_scores(labels, softmax(logits), prefix)
            if not prefix:
                del of_part["loss"]  # `fit` logs that of the training
            scores |= of_part
        return scores


@contextlib.contextmanager
def averaged(model):
    """Lend the model the moving average of its weights, if its optimizer keeps one."""
    optimizer = inner(model.optimizer)
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


class Checkpoint(keras.callbacks.Callback):
    """Write the history and the weights of every epoch so that nothing gets lost.

    The weights come first under a new name, then `state.json` names them: a kill
    between the two leaves the state of the epoch before. The best model by
    validation AUROC (with `keep` "last" the latest) is written before either by
    `save_best(network, row)`, and again when its epoch is repeated. `rows` are the epochs done
    before; new ones are appended.
    """

    def __init__(self, run, rows, save_best, network, keep="best", strategy=SINGLE):
        super().__init__()
        self.run = run
        self.rows = rows
        self.save_best = save_best
        self.network = network
        self.keep = keep
        self.strategy = strategy

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        # read in every process: under JAX they fetch the weights together
        rate = inner(self.model.optimizer).learning_rate
        row = {"epoch": epoch + 1, **{key: float(value) for key, value in logs.items()}}
        row["learning_rate"] = float(keras.ops.convert_to_numpy(rate))
        row["seconds"] = time.perf_counter() - self.start
        row = self.strategy.run_on_first(lambda: row)  # other clocks differ
        # Keras' own callbacks, such as `ModelCheckpoint`, add the epoch themselves
        logs.update({key: value for key, value in row.items() if key != "epoch"})
        best = None if self.keep == "last" else best_epoch(self.rows)
        if best is None or row["val_auroc"] > best["val_auroc"]:
            with averaged(self.model):
                self.strategy.run_on_copy(lambda m: self.save_best(m, row), self.network)
        self.rows.append(row)
        self.strategy.run_on_first(lambda: self._write(epoch))

    def _write(self, epoch):
        folder = self.run.file("checkpoints")
        folder.mkdir(exist_ok=True)
        old = [path for path in folder.iterdir() if path.name != "state.json"]
        name = f"epoch-{epoch + 1:05d}.weights.h5"
        self.network.save_weights(folder / f"new-{name}", overwrite=True)
        (folder / f"new-{name}").replace(folder / name)
        self.run.write_json("checkpoints/state.json", {"weights": name, "rows": self.rows})
        self.run.write_history(self.rows)
        for path in old:
            if path.name != name:
                path.unlink(missing_ok=True)


class Plateau(keras.callbacks.Callback):
    """Lower the learning rate when validation AUROC no longer rises, see `plateau_scale`.

    The schedule holds the factor as a plain number, so the compiled step is made
    anew when it changes: a few times in a run.
    """

    def __init__(self, rows, factor, patience, start):
        super().__init__()
        self.rows = rows
        self.arguments = (factor, patience, start)

    def on_train_begin(self, logs=None):
        self.on_epoch_end(0)  # epochs before a restart may have lowered the rate

    def on_epoch_end(self, epoch, logs=None):
        # the property `learning_rate` gives a number, not the schedule
        schedule = inner(self.model.optimizer)._learning_rate
        scale = plateau_scale([row["val_auroc"] for row in self.rows], *self.arguments)
        if scale != schedule.scale:
            schedule.scale = scale
            self.model.make_train_function(force=True)


class EarlyStopping(keras.callbacks.Callback):
    """End training when validation AUROC has not risen for `patience` epochs.

    Keras' own forgets over a restart what the best epoch was.
    """

    def __init__(self, rows, patience):
        super().__init__()
        self.rows = rows
        self.patience = patience

    def on_epoch_end(self, epoch, logs=None):
        if should_stop(self.rows, self.patience):
            self.model.stop_training = True


class ProgressLines(keras.callbacks.Callback):
    """Print a line for each epoch on a stream, and on a terminal the steps in between."""

    def __init__(self, stream, show=progress):
        super().__init__()
        self.stream = stream
        self.show = show
        self.title = ""  # "epoch 2/60"

    def on_epoch_begin(self, epoch, logs=None):
        self.title = f"epoch {epoch + 1}/{self.params['epochs']}"
        self.step = (
            self.show(self.title) if self.stream.isatty() else None
        )  # no log of steps

    def on_train_batch_end(self, batch, logs=None):
        if self.step is not None:
            self.step(batch + 1, self.params["steps"])

    def on_epoch_end(self, epoch, logs=None):
        validation = ""
        if "val_loss" in logs:
            validation = (
                f"validation: loss {logs['val_loss']:.4f}  AUROC {logs['val_auroc']:.3f}  "
                f"balanced accuracy {logs['val_balanced_accuracy']:.3f}  "
            )
        self.stream.write(
            f"{self.title}  loss {logs['loss']:.4f}  AUROC {logs['auroc']:.3f}  "
            f"{validation}{logs['seconds']:.1f} s\n"
        )
        self.stream.flush()


class TensorBoard(keras.callbacks.Callback):
    """Write the logs of every epoch for TensorBoard, on every backend: Keras' own takes TensorFlow.

    An epoch that is repeated after a restart takes the place of the former.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder, rows):
        super().__init__()
        self.library = require("tensorboardX", "tensorboard")
        self.folder = folder
        self.rows = rows

    def on_train_begin(self, logs=None):
        first = len(self.rows) + 1
        self.writer = self.library.SummaryWriter(str(self.folder), purge_step=first)

    def on_epoch_end(self, epoch, logs=None):
        for name, value in logs.items():
            self.writer.add_scalar(name, float(value), epoch + 1)
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()


class Interrupt(keras.callbacks.Callback):
    """Make Ctrl-C stop the training also where Python swallows it.

    An interrupt that comes while an object is being destroyed, or a library's C code
    calls back, is printed as ignored and lost. So it is noted, and raised again after
    the step. A signal that ends the process (`stm_keras.signals`) waits for the step too:
    the epoch that just ended is kept whole. Of several processes all stop at the same step,
    or one would wait for ever.
    """

    def __init__(self, strategy=SINGLE):
        super().__init__()
        self.strategy = strategy
        self.every = 1 if strategy.world == 1 else parallel.CHECK_EVERY
        self.pressed = False
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
        self.pressed = True
        if self.strategy.world == 1:
            raise KeyboardInterrupt

    def _stop(self):
        own = signal.SIGINT if self.pressed else notice.number
        number = max(self.strategy.exchange(int(own)))
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        if number:
            raise Preempted(signal.Signals(number).name)

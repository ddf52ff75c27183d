"""Stop a training when somebody asks."""

import contextlib
import signal

import keras

from stm_keras.signals import Preempted, notice, raises
from stm_keras.training.team import ALONE, EVERY


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
        notice.patient = True
        self._former = signal.getsignal(signal.SIGINT)
        if raises(self._former):
            with contextlib.suppress(ValueError):  # not the main thread: nothing comes
                signal.signal(signal.SIGINT, self._note)

    def close(self):
        """Give the signals back to whoever had them."""
        notice.patient = False
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

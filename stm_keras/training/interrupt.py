"""Stop a training when somebody asks."""

import contextlib
import signal

import keras

from stm_keras.leave import notice


class Interrupt(keras.callbacks.Callback):
    """Make Ctrl-C stop the training also where Python swallows it.

    An interrupt that comes while an object is being destroyed, or a library's C code
    calls back, is printed as ignored and lost. So it is noted, and raised again after
    the step. A signal that asks to leave (`stm_keras.leave`) waits for the step too: the
    epoch that just ended is kept whole.
    """

    def __init__(self):
        super().__init__()
        self.asked = False
        self._former = None

    def on_train_begin(self, logs=None):
        notice.patient = True
        self._former = signal.getsignal(signal.SIGINT)
        if self._former is signal.default_int_handler:
            with contextlib.suppress(ValueError):  # not the main thread: nothing comes
                signal.signal(signal.SIGINT, self._note)

    def close(self):
        """Give the signal back to whoever had it."""
        notice.patient = False
        if signal.getsignal(signal.SIGINT) == self._note:
            signal.signal(signal.SIGINT, self._former)

    def on_train_batch_end(self, batch, logs=None):
        self._stop()

    def on_epoch_end(self, epoch, logs=None):
        self._stop()

    def _note(self, number, frame):
        self.asked = True
        raise KeyboardInterrupt

    def _stop(self):
        if self.asked:
            raise KeyboardInterrupt
        notice.check()

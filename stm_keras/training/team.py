"""What processes that train together have in common: who they are, word, logs, the end.

Each process computes its own rows of every batch. What follows from all rows is the same
in all of them, and the first alone scores, writes and goes on after the last epoch.
"""

import contextlib
import json
import platform
import sys
import threading
import traceback

import keras
import numpy as np

from stm_keras.errors import StmKerasError, TrainingError
from stm_keras.signals import end_process

EVERY = 10  # steps from one question to all processes to the next: each waits for all
GOODBYE = 10.0  # seconds that a process which fails waits for others that end as well


class Team:
    """The processes and devices that train a model together; here only one.

    Attributes:
        rank: int. Number of this process; the first is 0.
        world: int. Number of processes.
        replicas: int. Devices of all processes, among which a batch is shared.
        copy: `keras.Model` of one device that the first process scores and saves with,
            or None where the trained model itself will do.
        own_logs: bool. The logs of a process are those of its own rows.
    """

    rank, world, replicas = 0, 1, 1
    copy = None
    own_logs = False

    def scope(self):
        """Return a context in which the model must be made."""
        return contextlib.nullcontext()

    def apart(self):
        """Return a context in which Keras knows of one device only."""
        return contextlib.nullcontext()

    def prepare(self, model):
        """Have the steps of a compiled model count the rows of all devices."""

    def leave(self):
        """Part from the others; each goes on, or ends, for itself."""

    def gather(self, row):
        """Collect a uint8 array of each process: `(world, len(row))`."""
        return row[None]

    def agree(self, flag):
        """Return the largest flag of any process, 0 for none.

        All must ask at the same step, and all get the same answer.

        Args:
            flag: bool or int below 256, such as the number of a signal.
        """
        return int(self.gather(np.array([flag], np.uint8)).max())

    def mean(self, values):
        """Average a dict of float over the processes, which must have the same keys."""
        row = np.array([float(value) for value in values.values()])
        means = self.gather(row.view(np.uint8)).view(np.float64).mean(0)
        return dict(zip(values, means.tolist(), strict=True))

    def hosts(self):
        """Return the name of the machine of each process: list of str."""
        name = np.frombuffer(platform.node().encode()[:64].ljust(64, b"\0"), np.uint8)
        rows = self.gather(name.copy())
        return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in rows]

    def once(self, work):
        """Do something in the first process only, on one device; all get what it gives.

        Even to save weights Keras makes variables, which under JAX all would have to make.

        Args:
            work: callable without arguments, that returns something JSON-ready.

        Raises:
            TrainingError: In the others, where it fails in the first.
        """
        told, failed = None, None
        if self.rank == 0:
            try:
                with self.apart():
                    told = {"value": work()}
            except Exception as error:  # any: the others wait for word
                told, failed = {"error": str(error)}, error
        if self.world > 1:
            told = self._tell(told)
        if failed:
            raise failed
        if "error" in told:
            raise TrainingError(f"The first process stopped: {told['error']}")
        return told["value"]

    def _tell(self, told):
        """Send something JSON-ready from the first process to all."""
        text = np.frombuffer(json.dumps(told).encode(), np.uint8)
        sizes = self.gather(np.array([len(text)], np.int64).view(np.uint8))
        row = np.zeros(sizes.view(np.int64)[0, 0], np.uint8)
        if self.rank == 0:
            row[:] = text
        return json.loads(self.gather(row)[0].tobytes())

    def alone(self, work, model):
        """Have the first process do something with the model as it is now, on one device.

        All processes must call it, and `model` must be read in each: under JAX they fetch
        its weights together.

        Args:
            work: callable of a `keras.Model`, that returns something JSON-ready.
            model: `keras.Model` that is trained.

        Returns:
            What `work` gives, in each process.
        """

        def begin():
            if self.copy is None:
                return work(model)
            self.copy.set_weights(model.get_weights())
            return work(self.copy)

        return self.once(begin)


ALONE = Team()


@contextlib.contextmanager
def ending_together(team):
    """End this process at once when it fails, for the others wait for it in vain.

    A process that fails would be kept by JAX for minutes until all others end as well.
    The first one tells of the error, as the command line does.
    """
    try:
        yield
    except BaseException as error:
        if team.world == 1:
            raise
        if not hasattr(error, "exit_code"):
            traceback.print_exc()
        elif isinstance(error, StmKerasError) and team.rank == 0:
            print("Error: " + " ".join(str(error).split()), file=sys.stderr)
        goodbye = threading.Thread(target=team.leave, daemon=True)
        goodbye.start()
        goodbye.join(GOODBYE)
        end_process(getattr(error, "exit_code", 1))


class Average(keras.callbacks.Callback):
    """Make the logs of each process those of all rows, where it knows only its own.

    Comes before whatever looks at the logs: all must decide alike.
    """

    def __init__(self, team):
        super().__init__()
        self.team = team

    def on_train_batch_end(self, batch, logs=None):
        if batch % EVERY == 0:
            logs.update(self.team.mean(logs))

    def on_epoch_end(self, epoch, logs=None):
        logs.update(self.team.mean(logs))

"""Feed scans to `fit`: every batch a function of seed, epoch and number alone."""

import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from stm_keras.data.augment import augment_batch
from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import INPUTS
from stm_keras.training.own_parts import vary


class Batches(keras.utils.PyDataset):
    """Batches of model input, targets and weights, in an order of our own.

    The order, the augmentation and so every pixel follow from (seed, pass, batch):
    the same on every backend and after every restart. Keras' own workers mix up the
    first epoch under JAX and torch, so threads of our own prepare what comes next.

    All batches are of the same size, or XLA would compile twice: the last one is
    filled up from the start of the pass' order.

    A pass shows each scan once. An epoch is a pass, or with `steps` so many batches: the
    next epoch goes on where it ended, so that one can stop and resume within a pass.

    Of several processes each makes its own rows. It draws the random numbers of all, so a
    scan looks the same whichever process makes it, and reads and augments only its own.

    Args:
        batch_size: Scans of a batch, those of `auxiliary` included.
        augment: `AugmentConfig`, or None for scans as they are.
        input: Name of what turns heights into model input, a key of `INPUTS`.
        heads: Names of the heads that answer after every line, each with targets of its own;
            empty for a model that answers once a scan.
        late: Weight of late lines over early ones, see `TrainingSet.line_targets`.
        auxiliary: Pairs of `TrainingSet` and the share of every batch that its scans fill,
            drawn at random.
        steps: Batches of an epoch, or None for a whole pass.
        rank: Which of `world` equal shares of every batch to make.
        devices: Batches are filled up to a multiple of it with rows of weight 0, and the
            weights of the others rise by as much as the mean over rows falls.
        own: A user's function that varies a scan before `augment`, see `OwnParts`.
    """

    def __init__(
        self,
        scans,
        batch_size,
        seed,
        augment=None,
        input="standardised",
        heads=(),
        late=0.0,
        auxiliary=(),
        threads=2,
        steps=None,
        rank=0,
        world=1,
        devices=1,
        own=None,
    ):
        super().__init__()
        self.scans = scans
        self.own_augment = own
        self.auxiliary = [(each, max(round(p * batch_size), 1)) for each, p in auxiliary]
        extra = sum(count for _, count in self.auxiliary)
        self.own = max(min(batch_size - extra, len(scans)), 1)  # rows from `scans`
        self.seed = seed
        self.augment = augment
        self.input = input
        self.prepare = INPUTS[input]
        self.heads = tuple(heads)
        self.late = late
        self.pass_steps = -(-len(scans) // self.own)  # batches of a pass
        self.steps = steps or self.pass_steps
        self._orders = {}
        self.waited = 0.0  # seconds in which training had to wait for data
        # `row` holds this process' rows of the filled batch; beyond `size` it starts over,
        # and what comes twice is made once: `_rows` are made, `_copies` puts them in place
        size = self.own + extra
        filled = -(-size // devices) * devices
        row = np.arange(filled).reshape(world, -1)[rank]
        self._rows, self._copies = np.unique(row % size, return_inverse=True)
        self._factor = np.where(row < size, filled / size, 0).astype(np.float32)
        self._whole = filled == len(self._rows) == size
        self._ahead = 2 * threads
        self._pool = ThreadPoolExecutor(threads, "batches")
        self.set_epoch(0)

    def __len__(self):
        return self.steps

    def __getitem__(self, number):
        start = time.perf_counter()
        pending = self._pending
        for following in range(number, min(number + 1 + self._ahead, len(self))):
            if following not in pending:
                arguments = self.locate(self.epoch * self.steps + following)
                pending[following] = self._pool.submit(self.make, *arguments)
        batch = pending.pop(number).result()
        self.waited += time.perf_counter() - start
        return batch

    def set_epoch(self, epoch):
        """Choose the epoch that the next batches belong to."""
        self.epoch = epoch
        self._pending = {}
        self.order(epoch * self.steps // self.pass_steps)

    def order(self, number):
        """Return the order of a pass: int array of indices into the scans.

        It takes 8 bytes a scan; all but this and the order before it are forgotten.
        """
        if number not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k == number - 1}
            rng = np.random.default_rng((self.seed, number))
            order = rng.permutation(len(self.scans))
            self._orders[number] = np.resize(order, self.pass_steps * self.own)
        return self._orders[number]

    def locate(self, step):
        """Return the arguments of `make` for a step, counted from the first of the training."""
        passed, number = divmod(step, self.pass_steps)
        return passed, self.order(passed), number

    def make(self, passed, order, number):
        """Prepare batch `number` of a pass: inputs, targets and weights."""
        rng = np.random.default_rng((self.seed, passed, number))
        chosen = order[number * self.own : (number + 1) * self.own]
        parts = [self._part(self.scans, chosen, rng, 0)]
        start = self.own
        for scans, count in self.auxiliary:
            chosen = rng.integers(0, len(scans), count)
            parts.append(self._part(scans, chosen, rng, start))
            start += count
        batch = parts[0]
        if self.auxiliary:
            batch = keras.tree.map_structure(lambda *each: np.concatenate(each), *parts)
        return batch if self._whole else self._filled(batch)

    def _part(self, scans, chosen, rng, start):
        """Prepare the rows of a batch from `start` on that one `TrainingSet` fills."""
        fixed = None if scans.fixed is None else scans.fixed[chosen]
        if fixed is not None and not fixed.any():
            fixed = None
        own = slice(None)
        if not self._whole:
            own = self._rows[(self._rows >= start) & (self._rows < start + len(chosen))]
            own = own - start
            rng = OwnRows(rng, len(chosen), own)
        chosen = chosen[own]
        inputs, lines = self._inputs(
            scans, chosen, rng, None if fixed is None else fixed[own]
        )
        if self.heads:
            by_head = scans.line_targets(chosen, lines, self.late)
            return inputs, *({name: part[name] for name in self.heads} for part in by_head)
        return inputs, scans.state[chosen], scans.weight[chosen]

    def _inputs(self, scans, chosen, rng, fixed):
        """Return inputs of some rows of a `TrainingSet`, and their lines: not 0 if there."""
        heights = read_images(scans.images, scans.indices[chosen])
        if self.own_augment is not None:
            heights = vary(heights, self.own_augment, rng)
        if self.augment is None:
            inputs = self.prepare(heights)
        else:
            inputs = augment_batch(heights, self.augment, rng, self.prepare, fixed)
        return inputs, inputs

    def _filled(self, batch):
        """Put rows where they belong, some twice, and weigh them so that each counts once."""
        tree = keras.tree.map_structure
        inputs, targets, weights = tree(lambda array: array[self._copies], batch)
        weights = tree(lambda array: (array.T * self._factor).T.astype(np.float32), weights)
        return inputs, targets, weights

    def close(self):
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


class OwnRows:
    """Draw the random numbers of a whole batch, and hand out those of some rows.

    Its methods are those of `numpy.random.Generator` that augmentation uses. Their `size`
    counts the rows handed out, of the `batch` that are drawn.
    """

    def __init__(self, rng, batch, rows):
        self.rng = rng
        self.batch = batch
        self.rows = rows

    def _size(self, size):
        return (self.batch, *np.atleast_1d(size)[1:])

    def random(self, size):
        return self.rng.random(self._size(size))[self.rows]

    def uniform(self, low, high, size):
        return self.rng.uniform(low, high, self._size(size))[self.rows]

    def integers(self, low, high, size):
        return self.rng.integers(low, high, self._size(size))[self.rows]

    def standard_normal(self, size, dtype):
        return self.rng.standard_normal(self._size(size), dtype)[self.rows]

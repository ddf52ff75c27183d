"""Feed scans to `fit`: every batch a function of seed, epoch and number alone."""

import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from stm_keras.data.augment import augment_batch
from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import standardise_lines


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
    scan looks the same whichever process makes it, and reads and varies only its own.

    Args:
        lessons: `Lessons`.
        batch_size: int. Scans of a batch, those of `beside` included.
        seed: int.
        augment: A `stm_keras.settings.AugmentConfig`, or None for scans as they are.
        prepare: callable that turns heights into model input.
        heads: sequence of str. What the model answers after every line, each with targets
            of its own; empty for one that answers once a scan.
        late: float. Weight of late lines over early ones, see `Lessons.line_targets`.
        beside: sequence of pairs of `Lessons` and the share of every batch that they
            fill, drawn at random.
        threads: int. Threads that prepare batches.
        steps: int. Batches of an epoch, or None for a whole pass.
        rank: int. Which of `world` equal shares of every batch to make.
        world: int.
        devices: int. Batches are filled up to a multiple of it with rows of weight 0, and
            the weights of the others rise by as much as the mean over rows falls.
    """

    def __init__(
        self,
        lessons,
        batch_size,
        seed,
        augment=None,
        prepare=standardise_lines,
        heads=(),
        late=0.0,
        beside=(),
        threads=2,
        steps=None,
        rank=0,
        world=1,
        devices=1,
    ):
        super().__init__()
        self.lessons = lessons
        self.beside = [
            (others, max(round(share * batch_size), 1)) for others, share in beside
        ]
        more = sum(count for _, count in self.beside)
        self.own = max(min(batch_size - more, len(lessons)), 1)
        self.seed = seed
        self.augment = augment
        self.prepare = prepare
        self.heads = tuple(heads)
        self.late = late
        self.passing = -(-len(lessons) // self.own)  # batches of a pass
        self.steps = steps or self.passing
        self._orders = {}
        self.waited = 0.0  # seconds in which training had to wait for data
        size = self.own + more
        filled = -(-size // devices) * devices
        share = np.arange(filled).reshape(world, -1)[rank]
        self._rows, self._places = np.unique(share % size, return_inverse=True)
        self._factor = np.where(share < size, filled / size, 0).astype(np.float32)
        self._whole = filled == len(self._rows) == size
        self._ahead = 2 * threads
        self._pool = ThreadPoolExecutor(threads, "batches")
        self.set_epoch(0)

    def __len__(self):
        return self.steps

    def set_epoch(self, epoch):
        """Choose the epoch that the next batches belong to."""
        self.epoch = epoch
        self._coming = {}
        self.order(epoch * self.steps // self.passing)

    def order(self, number):
        """Return the order of a pass: int array of places in the lessons.

        It takes 8 bytes a scan; that of the pass before is forgotten.
        """
        if number not in self._orders:
            self._orders = {k: v for k, v in self._orders.items() if k == number - 1}
            rng = np.random.default_rng((self.seed, number))
            order = rng.permutation(len(self.lessons))
            self._orders[number] = np.resize(order, self.passing * self.own)
        return self._orders[number]

    def place(self, step):
        """Return what `make` needs for a step, counted from the first of the training."""
        passed, number = divmod(step, self.passing)
        return passed, self.order(passed), number

    def make(self, passed, order, number):
        """Prepare batch `number` of a pass: inputs, targets and weights."""
        rng = np.random.default_rng((self.seed, passed, number))
        chosen = order[number * self.own : (number + 1) * self.own]
        parts = [self._part(self.lessons, chosen, rng, 0)]
        begin = self.own
        for lessons, count in self.beside:
            chosen = rng.integers(0, len(lessons), count)
            parts.append(self._part(lessons, chosen, rng, begin))
            begin += count
        batch = _join(parts)
        return batch if self._whole else self._filled(batch)

    def _part(self, lessons, chosen, rng, begin):
        own = slice(None)
        fixed = None if lessons.fixed is None else lessons.fixed[chosen]
        if fixed is not None and not fixed.any():
            fixed = None
        if not self._whole:
            own = self._rows[(self._rows >= begin) & (self._rows < begin + len(chosen))]
            own = own - begin
            rng = OwnRows(rng, len(chosen), own)
        chosen = chosen[own]
        heights = read_images(lessons.images, lessons.indices[chosen])
        if self.augment is None:
            inputs = self.prepare(heights)
        else:
            fixed = None if fixed is None else fixed[own]
            inputs = augment_batch(heights, self.augment, rng, self.prepare, fixed)
        if self.heads:
            told = lessons.line_targets(chosen, inputs, self.late)
            return inputs, *({name: part[name] for name in self.heads} for part in told)
        return inputs, lessons.state[chosen], lessons.weight[chosen]

    def _filled(self, batch):
        """Put rows where they belong, some twice, and weigh them so that each counts once."""
        inputs, targets, weights = keras.tree.map_structure(
            lambda array: array[self._places], batch
        )
        return (
            inputs,
            targets,
            keras.tree.map_structure(
                lambda array: (array.T * self._factor).T.astype(np.float32), weights
            ),
        )

    def __getitem__(self, number):
        begin = time.perf_counter()
        coming = self._coming
        for following in range(number, min(number + 1 + self._ahead, len(self))):
            if following not in coming:
                place = self.place(self.epoch * self.steps + following)
                coming[following] = self._pool.submit(self.make, *place)
        batch = coming.pop(number).result()
        self.waited += time.perf_counter() - begin
        return batch

    def close(self):
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


class OwnRows:
    """Draw the random numbers of a whole batch, and hand out those of some rows.

    Args:
        rng: `numpy.random.Generator`.
        batch: int. Rows of the whole batch.
        rows: int array. Those to hand out.
    """

    def __init__(self, rng, batch, rows):
        self.rng = rng
        self.batch = batch
        self.rows = rows

    def _size(self, size):
        return (self.batch, *np.atleast_1d(size)[1:])

    def random(self, size):
        """Draw as `Generator.random`; `size` counts the rows handed out, here and below."""
        return self.rng.random(self._size(size))[self.rows]

    def uniform(self, low, high, size):
        """Draw as `Generator.uniform`."""
        return self.rng.uniform(low, high, self._size(size))[self.rows]

    def integers(self, low, high, size):
        """Draw as `Generator.integers`."""
        return self.rng.integers(low, high, self._size(size))[self.rows]

    def standard_normal(self, size, dtype):
        """Draw as `Generator.standard_normal`."""
        return self.rng.standard_normal(self._size(size), dtype)[self.rows]


def _join(parts):
    """Put parts of a batch together, arrays or dicts of them."""
    if len(parts) == 1:
        return parts[0]
    return tuple(
        {name: np.concatenate([each[name] for each in items]) for name in items[0]}
        if isinstance(items[0], dict)
        else np.concatenate(items)
        for items in zip(*parts, strict=True)
    )

"""Feed scans to `fit`: every batch a function of seed, epoch and number alone."""

import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np

from stm_keras.data.augment import augment_batch
from stm_keras.data.dataset import read_images
from stm_keras.data.preprocess import standardise_lines


class Batches(keras.utils.PyDataset):
    """Batches of model input and one-hot classes, in an order of our own.

    The order, the augmentation and so every pixel follow from (seed, epoch, batch):
    the same on every backend and after every restart. Keras' own workers mix up the
    first epoch under JAX and torch, so threads of our own prepare what comes next.

    All batches are of the same size, or XLA would compile twice: the last one is
    filled up from the start of the epoch's order.

    Args:
        images: array-like of shape `(scans, lines, pixels)`. Heights.
        labels: int array of shape `(scans,)`.
        indices: int array. The scans to take; read when they are needed.
        num_classes: int.
        batch_size: int.
        seed: int.
        augment: A `stm_keras.config.AugmentConfig`, or None for scans as they are.
        threads: int. Threads that prepare batches.
    """

    def __init__(
        self,
        images,
        labels,
        indices,
        num_classes,
        batch_size,
        seed,
        augment=None,
        threads=2,
    ):
        super().__init__()
        self.images = images
        self.indices = indices
        self.targets = np.eye(num_classes, dtype=np.float32)[labels[indices]]
        self.batch_size = min(batch_size, len(indices))
        self.seed = seed
        self.augment = augment
        self.waited = 0.0  # seconds in which training had to wait for data
        self._ahead = 2 * threads
        self._pool = ThreadPoolExecutor(threads, "batches")
        self.set_epoch(0)

    def __len__(self):
        return -(-len(self.targets) // self.batch_size)

    def set_epoch(self, epoch):
        """Choose the epoch that the next batches belong to."""
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.targets))
        self.epoch = epoch
        self.order = np.resize(order, len(self) * self.batch_size)
        self._coming = {}

    def make(self, epoch, order, number):
        """Prepare batch `number` of an epoch: inputs and one-hot targets."""
        chosen = order[number * self.batch_size : (number + 1) * self.batch_size]
        heights = read_images(self.images, self.indices[chosen])
        if self.augment is None:
            inputs = standardise_lines(heights)
        else:
            rng = np.random.default_rng((self.seed, epoch, number))
            inputs = augment_batch(heights, self.augment, rng)
        return inputs, self.targets[chosen]

    def __getitem__(self, number):
        begin = time.perf_counter()
        coming = self._coming
        for following in range(number, min(number + 1 + self._ahead, len(self))):
            if following not in coming:
                coming[following] = self._pool.submit(
                    self.make, self.epoch, self.order, following
                )
        batch = coming.pop(number).result()
        self.waited += time.perf_counter() - begin
        return batch

    def close(self):
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


def balanced_weights(labels, num_classes):
    """Weight each class by its inverse frequency, so that classes count alike.

    Args:
        labels: int array of shape `(scans,)`.
        num_classes: int.

    Returns:
        dict of int class to float, as `fit` wants it: `scans / (classes * count)`.

    Raises:
        ValueError: A class has no scan; Keras would silently give it 1.
    """
    counts = np.bincount(labels, minlength=num_classes)
    if len(counts) != num_classes or not counts.all():
        raise ValueError(
            f"Every class needs a scan. Received: {num_classes} classes with counts "
            f"{counts.tolist()}."
        )
    return {i: float(w) for i, w in enumerate(len(labels) / (num_classes * counts))}

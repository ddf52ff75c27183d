"""Dropout whose mask is a hash under JAX, where random numbers are dear."""

import keras
import numpy as np
from keras import ops

BITS = 2.0**32
MIX = (0x9E3779B1, 0x7FEB352D, 0x846CA68B)  # odd, of Knuth and of lowbias32


@keras.saving.register_keras_serializable(package="stm_keras")
class HashedDropout(keras.layers.Dropout):
    """Keras' `Dropout`, but that under JAX the mask is a hash of the place and the seed.

    Threefry, by which JAX draws, costs 14 ns a number of a processor, more than the rest of a
    small layer; a hash costs 1. Under TensorFlow and torch it is Keras' own.

    Reference:
        lowbias32, https://nullprogram.com/blog/2018/07/31/.
    """

    def call(self, inputs, training=False):
        hashed = keras.config.backend() == "jax" and self.noise_shape is None
        if not (hashed and training and self.rate > 0):
            return super().call(inputs, training=training)
        key = ops.cast(self.seed_generator.next(), "uint32")
        size = int(np.prod(inputs.shape))
        place = ops.reshape(ops.arange(size, dtype="uint32"), inputs.shape)
        kept = mixed(place, key) >= np.uint32(self.rate * BITS)
        return ops.where(kept, inputs / (1 - self.rate), ops.zeros_like(inputs))


def mixed(place, key):
    """Hash a uint32 tensor with a key `(2,)`: uint32 of the same shape, evenly spread."""
    first, second, third = (np.uint32(each) for each in MIX)
    value = ops.bitwise_xor(place, key[0]) * first + key[1]
    value = ops.bitwise_xor(value, ops.right_shift(value, np.uint32(16))) * second
    value = ops.bitwise_xor(value, ops.right_shift(value, np.uint32(15))) * third
    return ops.bitwise_xor(value, ops.right_shift(value, np.uint32(16)))

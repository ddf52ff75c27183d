"""The optimizer, and how its learning rate rises and falls."""

import math

import keras
from keras import ops

from stm_keras.backend import global_norm

UNDECAYED = ("bias", "gamma", "beta", "class_token", "position_embedding")


@keras.saving.register_keras_serializable(package="stm_keras")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """Rise linearly, then fall as half a cosine or stay.

    Args:
        peak: float. Learning rate after warm-up.
        warmup_steps: int. Steps from `start` to `peak`.
        total_steps: int. Steps until the cosine reaches 0.
        start: float. Learning rate of the first step.
        decay: str. "cosine" or "constant".
        scale: float. Factor on everything; the plateau callback lowers it.

    Call arguments:
        step: int or int tensor. Steps done.

    Returns:
        float32 tensor, the learning rate.

    Reference:
        Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983, eq. 5.
    """

    def __init__(
        self, peak, warmup_steps, total_steps, start=1e-6, decay="cosine", scale=1.0
    ):
        super().__init__()
        if decay not in ("cosine", "constant"):
            raise ValueError(
                f'`decay` must be "cosine" or "constant". Received: decay={decay}.'
            )
        if not 0 <= warmup_steps <= total_steps:
            raise ValueError(
                "`warmup_steps` must be between 0 and `total_steps`. Received: "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}."
            )
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.start = start
        self.decay = decay
        self.scale = scale

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rise = self.start + (self.peak - self.start) * step / max(self.warmup_steps, 1)
        fall = self.peak
        if self.decay == "cosine":
            left = max(self.total_steps - self.warmup_steps, 1)
            done = ops.clip((step - self.warmup_steps) / left, 0.0, 1.0)
            fall = 0.5 * self.peak * (1.0 + ops.cos(math.pi * done))
        return self.scale * ops.where(step < self.warmup_steps, rise, fall)

    def get_config(self):
        names = ("peak", "warmup_steps", "total_steps", "start", "decay", "scale")
        return {name: getattr(self, name) for name in names}


# Under torch Keras makes another class of it, which takes all variables at once. Under JAX nothing
# may be made while this is imported: processes join before they compute.
_torch = keras.config.backend() == "torch"
_AdamW = type(keras.optimizers.AdamW()) if _torch else keras.optimizers.AdamW


@keras.saving.register_keras_serializable(package="stm_keras")
class ClippedAdamW(_AdamW):
    """AdamW that clips the global norm of the gradients in few operations.

    Keras makes three for each variable; where nothing is compiled, that is a fifth of a
    training step of a small network.
    """

    def _clip_gradients(self, grads):
        if not self.global_clipnorm or not _torch:
            return super()._clip_gradients(grads)
        norm = global_norm(grads)
        # NaN where the norm is not finite, as of Keras
        scale = self.global_clipnorm / ops.maximum(norm, self.global_clipnorm)
        scale = scale + (norm - norm)
        return [gradient * scale for gradient in grads]


@keras.saving.register_keras_serializable(package="stm_keras")
class LayerwiseAdamW(keras.optimizers.AdamW):
    """AdamW whose learning rate has a factor for each variable.

    `factors` is a dict of the path of a variable to its factor, 1 where it is not named.
    """

    def __init__(self, *args, factors=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.factors = dict(factors or {})
        self._by_index = []

    def build(self, variables):
        self._by_index = [self.factors.get(variable.path, 1.0) for variable in variables]
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow hands over a variable of its own, which has no path
        factor = self._by_index[self._get_variable_index(variable)]
        super().update_step(gradient, variable, learning_rate * factor)

    def get_config(self):
        return {**super().get_config(), "factors": self.factors}


def make_optimizer(config, steps_per_epoch, factors=None):
    """Make AdamW with warm-up, as a `TrainConfig` asks for.

    Biases, norms, positions and the class token do not decay. Keras forgets that list
    when an optimizer is saved, so it is always made anew. Under float16 it is in a
    `LossScaleOptimizer`. `factors` are those of `learning_rate_factors`, or None.
    """
    total = config.epochs * steps_per_epoch
    schedule = WarmUp(
        config.learning_rate,
        min(round(config.warmup_epochs * steps_per_epoch), total),
        total,
        config.start_learning_rate,
        "cosine" if config.schedule == "cosine" else "constant",
    )
    own = {"factors": factors} if factors else {}
    optimizer = (LayerwiseAdamW if factors else ClippedAdamW)(
        schedule,
        weight_decay=config.weight_decay,
        global_clipnorm=config.clip_norm,
        use_ema=config.ema is not None,
        ema_momentum=config.ema or 0.99,
        **own,
    )
    optimizer.exclude_from_weight_decay(var_names=list(UNDECAYED))
    if config.precision == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def inner(optimizer):
    """Return the optimizer that a `LossScaleOptimizer` wraps, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def plateau_scale(values, factor, patience, start=0):
    """Return the factor on the learning rate after a history of a score.

    It falls by `factor` each time the score has not risen for `patience` epochs. A
    function of the history alone, so it survives a restart; Keras' own callback
    forgets, and refuses a schedule besides. The first `start` epochs (warm-up) do not count
    as waiting.
    """
    scale, best, waited = 1.0, -math.inf, 0
    for epoch, value in enumerate(values):
        if value > best:
            best, waited = value, 0
        elif epoch >= start:
            waited += 1
        if waited >= patience:
            scale, waited = scale * factor, 0
    return scale

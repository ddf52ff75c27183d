"""The networks, by name.

Each takes `num_classes`, `pixels` of a line, `max_lines` of a scan, and the settings of its
class in `stm_keras.settings.models.MODEL_CONFIGS`, where they are described and have their
defaults; tests/models compares the keyword defaults here with those.
"""

from stm_keras.errors import UsageError
from stm_keras.models.cnn import cnn, cnn_small
from stm_keras.models.lrcn import lrcn
from stm_keras.models.sequential import sequential
from stm_keras.models.vit import vit

MODELS = {
    "cnn": cnn,
    "cnn_small": cnn_small,
    "lrcn": lrcn,
    "sequential": sequential,
    "vit": vit,
}

__all__ = ["MODELS", "build_model", "cnn", "cnn_small", "lrcn", "sequential", "vit"]


def build_model(config, num_classes, pixels=128, max_lines=128):
    """Build the network that a `ModelConfig` asks for.

    Args:
        config: A section of `stm_keras.settings.models.MODEL_CONFIGS`.
        pixels: int. Pixels of a line.
        max_lines: int. The most lines of a scan.

    Returns:
        A `keras.Model` from `(batch, lines, pixels)` to logits `(batch, classes)`; one
        that answers after every line gives a dict of "state"
        `(batch, lines, classes)` and maybe "change" `(batch, lines, 1)`.

    Raises:
        UsageError: It is a network of the user's own.
    """
    if config.name not in MODELS:
        raise UsageError(
            f"`model.name`: {config.name} is a network of your own, which only `stm-keras train "
            "--trust-code` and `stm_keras.train` build."
        )
    arguments = config.model_dump(exclude={"name"})
    return MODELS[config.name](
        num_classes=num_classes, pixels=pixels, max_lines=max_lines, **arguments
    )

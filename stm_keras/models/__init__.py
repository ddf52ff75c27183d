"""The networks, by name."""

from stm_keras.models.cnn import cnn_small
from stm_keras.models.vit import vit

MODELS = {"cnn_small": cnn_small, "vit": vit}

__all__ = ["MODELS", "build_model", "cnn_small", "vit"]


def build_model(config, num_classes, pixels=128, max_lines=128):
    """Build the network that a `ModelConfig` asks for.

    Args:
        config: `stm_keras.config.CnnSmallConfig` or `VitConfig`.
        num_classes: int.
        pixels: int. Pixels of a line.
        max_lines: int. The most lines of a scan.

    Returns:
        A `keras.Model` from `(batch, lines, pixels)` to logits `(batch, classes)`.
    """
    arguments = config.model_dump(exclude={"name"})
    return MODELS[config.name](
        num_classes=num_classes, pixels=pixels, max_lines=max_lines, **arguments
    )

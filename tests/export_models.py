"""Tiny models of each kind that tests write in every format."""

from streaming import FACTS, shaken, tiny_stream

from stm_keras.inference.predictor import Predictor
from stm_keras.models import MODELS

LINES, PIXELS = 8, 16
SIZES = {
    "vit": {"layers": 1, "heads": 2, "dim": 8, "mlp_dim": 12},
    "cnn_small": {"width": 2},
}


def tiny_model(name):
    """Return a `Predictor`: "vit", "cnn_small", or "gru" or "attention" of `sequential`."""
    facts = {**FACTS, "max_lines": LINES, "pixels": PIXELS}
    if name not in SIZES:
        return Predictor(tiny_stream(name, pixels=PIXELS).model, facts)
    model = shaken(MODELS[name](3, PIXELS, LINES, **SIZES[name]))
    return Predictor(model, {**facts, "input": "standardised"})

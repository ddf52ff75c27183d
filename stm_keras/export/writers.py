"""Write a model as a TensorFlow SavedModel: a folder that TensorFlow runs without Keras."""

import json

from stm_keras.export.common import fixed_network, in_batches

FACTS = "stm_keras.json"


def write(predictor, path, facts):
    """Write the folder; see `formats.Format`."""
    model, spec = fixed_network(predictor)
    model.export(path, format="tf_saved_model", verbose=False, input_signature=spec)
    (path / FACTS).write_text(
        json.dumps(facts, indent=1, allow_nan=False), encoding="utf-8"
    )


def read(path):
    """Load it as a callable; see `formats.Format`."""
    import tensorflow

    loaded = tensorflow.saved_model.load(str(path))

    def run(scans):
        out = loaded.serve(tensorflow.constant(scans))
        return {name: each.numpy() for name, each in out.items()}

    return lambda scans: in_batches(run, scans)

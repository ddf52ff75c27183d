"""Write a model as a LiteRT file (.tflite), for small computers."""

import json
import zipfile

from stm_keras.export.common import fixed_network, in_batches

FACTS = "stm_keras.json"


def write(predictor, path, facts):
    """Write the file; see `formats.Format`.

    LiteRT's own metadata put files of their own into a zip archive behind the network,
    which LiteRT does not look at; so do we.
    """
    model, spec = fixed_network(predictor, batch=1)
    model.export(path, format="litert", verbose=False, input_signature=spec)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(FACTS, json.dumps(facts, indent=1, allow_nan=False))


def read(path):
    """Load it as a callable; see `formats.Format`."""
    from ai_edge_litert.interpreter import Interpreter

    loaded = Interpreter(str(path), num_threads=1)
    serve = loaded.get_signature_runner("serving_default")

    def run(scans):
        return serve(lines=scans)

    return lambda scans: in_batches(run, scans, 1)

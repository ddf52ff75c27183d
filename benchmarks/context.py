"""Write into model files how scans follow each other, so that they judge with the scans before.

    python benchmarks/context.py models/h_si100.keras models/h_si100.onnx --data scans.h5

What `stm-keras train` does for new models (`inference/context.py`), for those that are there
already: from the votes on all sessions of the data, which must be what they were trained on. All
else in the files stays as it is, so their answers stay the same to the bit.
"""

import argparse
import json
from pathlib import Path
from zipfile import ZipFile

import numpy as np

from stm_keras.data.load import load_dataset
from stm_keras.errors import StmKerasError
from stm_keras.files import atomic
from stm_keras.inference.context import fit_context
from stm_keras.inference.find_model import METADATA, read_metadata


def add_context(path, dataset):
    """Write "context" into the metadata of a `.keras` or `.onnx` file, and return it.

    Raises:
        StmKerasError: The model was trained on other data, or nobody knows which scan of
            these came before which.
    """
    metadata = read_metadata(path)
    trained = metadata["training"]["environment"]["dataset"]["sha256"]
    if trained != dataset.digest():
        raise StmKerasError(f"{path}: was trained on other data. Give that.")
    context = None
    if dataset.session is not None:
        context = fit_context(dataset, np.unique(dataset.session))
    if context is None:
        raise StmKerasError(
            f"{dataset.source}: too few scans are known to follow another of their run."
        )
    metadata["context"] = context
    write = _write_onnx if path.suffix == ".onnx" else _write_keras
    with atomic(path, overwrite=True) as temporary:
        write(path, temporary, metadata)
    return context


def _write_keras(path, temporary, metadata):
    with ZipFile(path) as before, ZipFile(temporary, "w") as after:
        for entry in before.infolist():
            content = before.read(entry)
            if entry.filename == METADATA:
                content = json.dumps(metadata, indent=1, allow_nan=False)
            after.writestr(entry, content)


def _write_onnx(path, temporary, metadata):
    import onnx

    from stm_keras.export.onnx_graph import put_facts, whole_of

    network = onnx.load(path)
    put_facts(network, metadata, whole_of(network))
    onnx.save(network, temporary)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--data", required=True)
    given = parser.parse_args()
    scans = load_dataset(given.data)
    for model in given.models:
        print(model, json.dumps(add_context(model, scans)))

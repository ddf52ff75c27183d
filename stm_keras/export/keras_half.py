"""A `.keras` file of half the size: weights in float16, which Keras reads as float32."""

import io
import json
import zipfile

import numpy as np

from stm_keras.inference.model_file import FACTS

WEIGHTS = "model.weights.h5"


def halve(path, facts=None):
    """Round the weights of a `.keras` file to float16 and pack the archive.

    The network says what it said: layers still compute in float32, and loading turns the
    weights back. What float16 cannot hold stays as it is.

    Args:
        path: `Path` of a `.keras` file, which is replaced.
        facts: dict, JSON-ready. What the file shall say of itself; None for what it says.
    """
    parts = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            parts[name] = archive.read(name)
    parts[WEIGHTS] = _halved(parts[WEIGHTS])
    if facts is not None:
        parts[FACTS] = json.dumps(facts, indent=1, allow_nan=False).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def _halved(data):
    """Copy an HDF5 file with its float32 arrays in float16: bytes in, bytes out."""
    import h5py

    copy = io.BytesIO()
    with h5py.File(io.BytesIO(data)) as source, h5py.File(copy, "w") as target:

        def take(name, item):
            if isinstance(item, h5py.Dataset):
                made = target.create_dataset(name, data=_rounded(item[()]))
            else:
                made = target.require_group(name)
            made.attrs.update(item.attrs)

        source.visititems(take)
        target.attrs.update(source.attrs)
    return copy.getvalue()


def _rounded(values):
    largest = np.finfo(np.float16).max
    if values.dtype != np.float32 or np.abs(values).max(initial=0) > largest:
        return values
    return values.astype(np.float16)

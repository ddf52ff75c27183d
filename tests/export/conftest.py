"""Tiny models of each kind of network, and their files in every format."""

from shutil import copyfile

import pytest
from export_models import output_file, tiny_model

from stm_keras.export import common, export_model, writers


@pytest.fixture(scope="session")
def predictors():
    """One tiny predictor of each kind of network. Read only."""
    return {name: tiny_model(name) for name in ("vit", "cnn_small", "attention")}


@pytest.fixture(autouse=True)
def few_scans(monkeypatch):
    """Compare on some scans, not on 100."""
    monkeypatch.setattr(common, "NUM_SCANS", 6)


@pytest.fixture(scope="session")
def exported(predictors, tmp_path_factory):
    """Return the file of a network in a format, what was told of it, and what runs it.

    It is written once, and loaded once: what runs it is what the export compared.
    OpenVINO converts ONNX, which takes long to write: it gets what was written already.
    """
    kept = {}

    def write(model, kind):
        path = output_file(tmp_path_factory.mktemp(model), kind)
        with pytest.MonkeyPatch.context() as patch:
            if kind == "openvino":
                onnx_file, *_ = export(model, "onnx-scan")
                patch.setattr(
                    writers.onnx_scan, "write", lambda *given: copyfile(onnx_file, given[1])
                )
            write_file, read = writers.WRITERS[kind]
            runs = []

            def keep(file):
                runs.append(read(file))
                return runs[-1]

            patch.setitem(writers.WRITERS, kind, (write_file, keep))
            told = export_model(predictors[model], path, kind)
            return path, told, runs[-1]

    def export(model, kind):
        if (model, kind) not in kept:
            kept[model, kind] = write(model, kind)
        return kept[model, kind]

    return export

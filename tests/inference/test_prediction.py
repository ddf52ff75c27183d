"""A folder becomes scans and predictions, from Python."""

import numpy as np
import pytest
from helpers import ONCE
from scan_files import sxm

import stm_keras
from stm_keras.errors import InputError, UsageError

pytest.importorskip("onnxruntime")
pytestmark = ONCE  # no backend changes what is tested here


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, lines in (("a", 64), ("b", 40)):
        path = tmp_path / f"night {name}" / f"{name}.sxm"
        path.parent.mkdir()
        image = rng.normal(size=(lines, 48)).cumsum(1) * 1e-11
        if name == "b":
            image[30:] = np.nan
        path.write_bytes(sxm({"Z": ("m", image, None)}, size=(1e-8, 2e-8)))
    (tmp_path / "notes.txt").write_text("a good night\n")
    return tmp_path


def test_all_scans_of_a_folder_are_read_and_judged_as_one_by_one(folder):
    scans = stm_keras.load_scans(folder)
    assert [scan.heights.shape for scan in scans] == [(64, 48), (40, 48)]
    predictions = stm_keras.predict(folder)
    model = stm_keras.load_onnx(stm_keras.shipped_path().with_suffix(".onnx"))
    for scan, prediction in zip(scans, predictions, strict=True):
        expected = stm_keras.verdict_of(model, scan)
        assert prediction.record() == {"path": scan.path, "index": 0, **expected}
        assert prediction.probabilities == expected["probabilities"]
    (one,) = stm_keras.predict(scans[0], model)
    assert one.record() == predictions[0].record()


def test_what_cannot_be_read_is_a_warning_and_alone_an_error(folder):
    cut = folder / "night b" / "b.sxm"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"b\.sxm: is cut short"):
        assert len(stm_keras.load_scans(folder)) == 1
    with pytest.raises(InputError, match=r"b\.sxm: is cut short"):
        stm_keras.load_scans(cut)


def test_a_model_is_named_as_for_the_command_and_the_way_to_one_of_keras_is_told(folder):
    scans = stm_keras.load_scans(folder)
    model = stm_keras.load_onnx(
        stm_keras.shipped_path("h_si100_small").with_suffix(".onnx")
    )
    named = stm_keras.predict(scans, "h_si100_small")
    assert [each.record() for each in named] == [
        each.record() for each in stm_keras.predict(scans, model)
    ]
    run = folder / "run"
    run.mkdir()
    (run / "config.toml").touch()
    (run / "best.keras").touch()
    with pytest.raises(UsageError) as told:
        stm_keras.predict(scans, run)
    assert f"load_predictor({str(run / 'best.keras')!r})" in str(told.value)
    with pytest.raises(InputError, match=r"^net\.keras: no such file\. "):
        stm_keras.predict([], "net.keras")


def test_scans_and_predictions_are_shown_in_one_line_and_as_pictures(folder):
    from io import BytesIO

    from PIL import Image

    scan = stm_keras.load_scans(folder / "night b")[0]
    shown = repr(scan)
    assert shown.endswith(
        "b.sxm', 40 x 48, Z in m, forward, 10 x 20 nm, -1.5 V, 10 lines missing)"
    )
    picture = Image.open(BytesIO(scan._repr_png_()))
    assert picture.size == (256, 512)
    (prediction,) = stm_keras.predict(scan)
    assert repr(prediction).startswith(f"Prediction({scan.path!r}, ")
    page = prediction._repr_html_()
    assert page.count("<meter") == 4
    assert "data:image/png;base64,iVBOR" in page

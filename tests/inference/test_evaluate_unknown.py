"""Scans of other surfaces from files: read, and scored after their last line."""

import h5py
import numpy as np
import pytest
from helpers import ONCE, SHARED, made_up_dataset

from stm_keras.errors import DatasetError, InputError, MismatchError
from stm_keras.inference import evaluate_unknown as subject
from stm_keras.inference.evaluate_unknown import (
    read_unknown,
    score_sources,
    score_unknown_scans,
)

pytestmark = ONCE  # no backend changes what is tested here


class Oracle:
    """Calls a scan the stranger the higher its first pixel; asks for more at the end."""

    every_line = True
    metadata = {
        "pixels": 128,
        "max_lines": 128,
        "unknown": {"lines": [1, 128], "thresholds": [0.2, 0.5]},
    }

    def heads(self, images):
        return {"unknown": np.broadcast_to(images[:, :1, 0], images.shape[:2])}


def scans(shares, lines=128, seed=0):
    """Return scans of 128 lines whose first pixels are `shares`, empty after `lines`."""
    images = np.random.default_rng(seed).random((len(shares), 128, 128))
    images[:, lines:] = 0
    images[:, 0, 0] = shares
    return images


def saved(path, images):
    np.save(path, images)
    return path


def known(shares):
    return made_up_dataset(len(shares), 2, images=scans(shares))


def test_each_file_is_told_from_the_known_scans(tmp_path):
    gold = saved(tmp_path / "gold.npy", scans([0.9, 0.8, 0.4]))
    steps = saved(tmp_path / "steps.npy", scans([0.05]))
    part = known([0.1, 0.2, 0.3, 0.6])
    found = score_unknown_scans(Oracle(), part, read_unknown([gold, steps, gold], Oracle()))
    assert list(found["kinds"]) == ["gold.npy", "steps.npy"]  # the same file once
    assert found["kinds"]["gold.npy"] == {
        "auroc": pytest.approx(11 / 12),
        "found": pytest.approx(2 / 3),
        "n": 3,
    }
    assert found["kinds"]["steps.npy"] == {"auroc": 0.0, "found": 0.0, "n": 1}
    assert found["found"] == 0.5
    assert found["false_alarms"] == 0.25
    assert found["auroc"] == pytest.approx(11 / 16)


def test_a_scan_that_ended_early_is_compared_with_known_scans_after_as_many_lines():
    part = known([0.1, 0.2, 0.3, 0.4])

    class Doubtful(Oracle):
        """Finds all scans stranger while it has seen few lines."""

        def heads(self, images):
            doubt = 0.4 * (np.arange(images.shape[1]) < 64)
            return {"unknown": super().heads(images)["unknown"] + doubt}

    found = {"early": scans([0.25], lines=20), "whole": scans([0.25])}
    rows = score_unknown_scans(Doubtful(), part, found)["kinds"]
    assert rows["early"]["auroc"] == rows["whole"]["auroc"] == 0.5
    assert rows["early"]["found"] == 1  # threshold() says so too
    assert rows["whole"]["found"] == 0
    stranger = score_unknown_scans(Doubtful(), part, {"early": scans([0.5], lines=20)})
    assert stranger["auroc"] == 1
    brief = score_unknown_scans(Oracle(), part, {"early": scans([0.25], lines=1)})
    assert brief["found"] == 1  # 0.2 are enough after one line, at the end 0.5
    assert brief["false_alarms"] == 0


def test_many_scans_are_judged_a_part_at_a_time(tmp_path, monkeypatch):
    part, shares = known([0.1, 0.2, 0.3, 0.6]), np.linspace(0.1, 0.9, 7)
    found = read_unknown([saved(tmp_path / "gold.npy", scans(shares))], Oracle())
    at_once = score_unknown_scans(Oracle(), part, found)
    monkeypatch.setattr(subject, "CHUNK", 3)
    assert score_unknown_scans(Oracle(), part, found) == at_once


def test_files_of_one_name_are_told_by_their_paths(tmp_path):
    paths = [tmp_path / "a" / "gold.npy", tmp_path / "b" / "gold.npy"]
    for path in paths:
        path.parent.mkdir()
        saved(path, scans([0.9]))
    assert list(read_unknown(paths, Oracle())) == [str(path) for path in paths]


def test_a_file_that_names_sources_is_scored_by_source_and_kind(tmp_path):
    path = tmp_path / "others.h5"
    images = np.concatenate([scans([0.9, 0.8, 0.05]), scans([0.25], lines=1)])
    with h5py.File(path, "w") as file:
        file["images"] = images
        for key, values in (("source", "aabb"), ("kind", "xyxx"), ("licence", "MMGG")):
            file.create_dataset(key, data=list(values), dtype=h5py.string_dtype())
    part = known([0.1, 0.2, 0.3, 0.6])
    plain = saved(tmp_path / "gold.npy", scans([0.9]))
    told = score_sources(
        Oracle(), part, [path, plain], np.array([0, 0, 1, 1]), line_counts=(8,)
    )
    assert list(told) == ["others.h5"]
    last = told["others.h5"]["lines"]["128"]
    whole = {"scans": 2, "sources": 1, "auroc": 1, "found": 1}
    assert last["by_source"]["a"] == {**whole, "licence": "M"}
    # 0.25 ended after one line, where 0.2 are enough
    assert last["by_source"]["b"]["found"] == 0.5
    assert last["by_source"]["b"]["auroc"] == pytest.approx(0.25)
    assert last["found"] == 0.75
    assert last["false_alarms"] == 0.25
    assert last["by_kind"]["x"]["scans"] == 3
    assert told["others.h5"]["taught"] == 0
    knows = Oracle()
    knows.metadata = {**Oracle.metadata}
    knows.metadata["unknown"] = {**Oracle.metadata["unknown"], "taught_by": {"a": {}}}
    assert score_sources(knows, part, [path])["others.h5"]["taught"] == 2


def test_what_cannot_be_scored_is_told(tmp_path):
    missing = tmp_path / "missing.sxm"
    with pytest.raises(InputError, match="missing.sxm"):
        read_unknown([missing], Oracle())
    with pytest.raises(DatasetError, match="empty.npy"):
        read_unknown([saved(tmp_path / "empty.npy", np.zeros((0, 128, 128)))], Oracle())
    mute = Oracle()
    mute.metadata = {"pixels": 128, "max_lines": 128}
    with pytest.raises(MismatchError, match="does not say whether it knows a surface"):
        read_unknown([saved(tmp_path / "gold.npy", scans([0.9]))], mute)


@pytest.mark.skipif(not (SHARED / "spm").exists(), reason="the shared scans are not here")
@pytest.mark.filterwarnings("ignore")
def test_the_shipped_model_knows_neither_silicon_7x7_nor_molecules_on_metal():
    pytest.importorskip("onnxruntime")
    from stm_keras.data.load import load_dataset
    from stm_keras.inference.find_model import shipped_path
    from stm_keras.inference.model_file import load_predictor

    predictor = load_predictor(shipped_path("h_si100").with_suffix(".onnx"))
    dataset = load_dataset(SHARED / "nottingham.h5")
    part = dataset.take(np.flatnonzero(dataset.single_class())[::30])
    names = ("Si_7x7_051.sxm", "A170315.172707-00393.sxm", "A200621.161352.dat")
    paths = [SHARED / "spm" / name for name in names]
    found = score_unknown_scans(predictor, part, read_unknown(paths, predictor))
    assert len(found["kinds"]) == 3
    assert found["found"] == 1
    assert found["auroc"] > 0.95
    assert found["false_alarms"] < 0.1

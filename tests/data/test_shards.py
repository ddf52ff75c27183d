"""A sharded dataset is the dataset, read scan by scan."""

import json
import multiprocessing
import pickle
import shutil
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from helpers import SHARED

from stm_keras.data import shards
from stm_keras.data.dataset import CLASSES, SIX_CLASSES, Dataset, read_images
from stm_keras.data.load import load_dataset, save_dataset
from stm_keras.data.shard_index import verify_shards
from stm_keras.data.shard_writer import save_shards
from stm_keras.data.shards import load_shards
from stm_keras.data.summary import summary
from stm_keras.errors import DatasetError, InputError

SHAPE = (3, 5)
HOSTILE = SHARED.parent / "cases" / "hostile"
SCANS = 11


def made_up(dtype="f4", count=SCANS, classes=CLASSES, **changes):
    rng = np.random.default_rng(1)
    labels = np.arange(count) % len(classes)
    line_labels = np.repeat(labels[:, None], SHAPE[0], 1).astype(np.int8)
    line_labels[1, 2] = -1
    known = {
        "images": rng.integers(0, 255, (count, *SHAPE)).astype(dtype),
        "labels": labels,
        "classes": classes,
        "lines": np.where(np.arange(count) == 1, 2, SHAPE[0]),
        "session": np.array([f"day {i // 3}" for i in range(count)]),
        "line_labels": line_labels,
        "change_line": np.where(np.arange(count) == 4, 2, -1),
        "parameters": {
            "angle_deg": rng.uniform(0, 180, count),
            "asym": rng.normal(size=(count, 2)),
            "step": np.arange(count) % 3 == 0,
        },
        "source": "made up",
    }
    return Dataset(**{**known, **changes})


@pytest.fixture
def folder(tmp_path):
    save_shards(made_up(), tmp_path / "shards", shard_size=4)
    return tmp_path / "shards"


def check_same(one, two):
    for field in fields(Dataset):
        ours, theirs = getattr(one, field.name), getattr(two, field.name)
        if field.name == "parameters":
            assert ours.keys() == theirs.keys()
            for key in ours:
                np.testing.assert_array_equal(ours[key], theirs[key])
        else:
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_shards_hold_what_one_file_holds(tmp_path, dtype):
    # noise in every byte, which takes more room when it is packed
    noise = np.random.default_rng(2).integers(
        0, 256, (SCANS, 3, 5 * np.dtype(dtype).itemsize)
    )
    images = noise.astype("u1").view(dtype)
    if dtype != "u1":
        images = np.where(np.abs(images) < 1e19, images, 1)  # not what is not believed
    dataset = made_up(images=images)
    save_shards(dataset, tmp_path / "shards", shard_size=4)
    save_dataset(dataset, tmp_path / "scans.h5")
    loaded = load_dataset(tmp_path / "shards", shape=SHAPE)
    check_same(loaded, load_dataset(tmp_path / "scans.h5", shape=SHAPE))
    assert loaded.images.dtype == np.dtype(dtype)


def test_each_shard_is_a_dataset(folder):
    whole = made_up()
    for number, scans in enumerate((slice(0, 4), slice(4, 8), slice(8, 11))):
        alone = load_dataset(folder / f"shard-{number:06}.h5", shape=SHAPE)
        check_same(alone, whole.take(np.arange(SCANS)[scans]))


@pytest.mark.parametrize(
    "index",
    [
        slice(None),
        slice(9, 1, -2),
        [4],
        [10, 2, 2, -1, 5],
        np.zeros(0, int),
        np.arange(SCANS) % 3 == 0,
        -2,
        (slice(1, 9), 2),
        (5, slice(None), 1),
    ],
    ids=str,
)
def test_indexing_is_that_of_an_array(folder, index):
    dataset, plain = load_shards(folder), made_up()
    np.testing.assert_array_equal(dataset.images[index], plain.images[index])
    if not isinstance(index, tuple):
        np.testing.assert_array_equal(dataset.line_labels[index], plain.line_labels[index])
        asym = dataset.parameters["asym"]
        np.testing.assert_array_equal(asym[index], plain.parameters["asym"][index])


def test_taking_scans_reads_none(folder, monkeypatch):
    dataset = load_shards(folder)
    monkeypatch.setattr(shards.ShardFiles, "read", None)
    part = dataset.take([9, 2, 5]).take([2, 0])
    monkeypatch.undo()
    check_same(part, made_up().take([5, 9]))
    assert part.digest() != dataset.digest()


def test_rows_far_apart_and_close_together_are_the_same(folder, monkeypatch):
    dataset = load_shards(folder)
    for gap in (0, 6, 1000):
        monkeypatch.setattr(shards, "GAP", gap)
        chosen = np.array([7, 0, 3, 10, 4, 0])
        np.testing.assert_array_equal(
            dataset.line_labels[chosen], made_up().line_labels[chosen]
        )


def test_few_files_are_open_at_a_time(folder, monkeypatch):
    monkeypatch.setattr(shards, "MOST_OPEN", 2)
    dataset = load_shards(folder)
    order = np.random.default_rng(0).permutation(SCANS)
    for scan in order:
        np.testing.assert_array_equal(dataset.images[scan], made_up().images[scan])
    assert dataset.images.files._file.cache_info().currsize == 2


def test_threads_read_at_the_same_time(folder, monkeypatch):
    monkeypatch.setattr(shards, "MOST_OPEN", 1)
    images = load_shards(folder).images
    wanted = made_up().images
    orders = [np.random.default_rng(n).integers(0, SCANS, 40) for n in range(50)]
    with ThreadPoolExecutor(8) as pool:
        for order, found in zip(orders, pool.map(images.__getitem__, orders), strict=True):
            np.testing.assert_array_equal(found, wanted[order])


def _read_in_child(images):
    return np.asarray(images[[8, 1]])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_another_process_reads_as_well(folder, method):
    images = load_shards(folder).images
    images[3]  # open already
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.apply(_read_in_child, (images,))
    np.testing.assert_array_equal(found, made_up().images[[8, 1]])
    assert len(pickle.dumps(images)) < 10_000


def test_lines_that_were_not_recorded_may_hold_anything(tmp_path):
    images = made_up().images
    images[1, 2, 3] = np.nan
    save_shards(made_up(images=images), tmp_path / "shards", shard_size=4)
    loaded = load_shards(tmp_path / "shards")
    assert loaded.images[1, 2, 3] == 0
    images[1, 0, 3] = np.inf
    with pytest.raises(DatasetError, match="holds NaN or inf in recorded lines of scan 1"):
        save_shards(made_up(images=images), tmp_path / "bad", shard_size=4)


def test_heights_that_cannot_be_are_found_by_what_the_index_says(tmp_path, monkeypatch):
    images = made_up().images
    images[6, 0, 3] = 1e30
    with monkeypatch.context() as patch:  # as version 0.2 wrote them
        patch.setattr("stm_keras.data.hdf5.COUNTS", np.inf)
        save_shards(made_up(images=images), tmp_path / "shards", shard_size=4)
    with pytest.raises(DatasetError, match="1 of 11 scans hold heights .* is scan 6"):
        load_shards(tmp_path / "shards")


def test_six_classes_are_merged_as_in_one_file(tmp_path):
    votes = np.eye(6, dtype="f4")[np.arange(SCANS) % 6]
    dataset = made_up(classes=SIX_CLASSES, votes=votes, unanimous=np.ones(SCANS, bool))
    save_shards(dataset, tmp_path / "shards", shard_size=4)
    save_dataset(dataset, tmp_path / "scans.h5")
    for merge in (True, False):
        loaded = load_dataset(tmp_path / "shards", merge=merge, shape=SHAPE)
        check_same(loaded, load_dataset(tmp_path / "scans.h5", merge=merge, shape=SHAPE))


def test_a_summary_says_the_same(folder, tmp_path):
    save_dataset(made_up(), tmp_path / "scans.h5")
    ours = summary(load_shards(folder))
    theirs = summary(load_dataset(tmp_path / "scans.h5", shape=SHAPE))
    assert {**ours, "digest": ""} == {**theirs, "digest": ""}


def test_the_digest_is_that_of_scans_and_labels(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    dataset = load_shards(folder)
    assert load_shards(tmp_path / "copy").digest() == dataset.digest()
    save_shards(made_up(images=made_up().images + 1), tmp_path / "other", shard_size=4)
    assert load_shards(tmp_path / "other").digest() != dataset.digest()
    assert replace(dataset, labels=dataset.labels[::-1]).digest() != dataset.digest()


def test_memory_does_not_grow_with_what_is_read(tmp_path):
    count, shape = 600, (64, 64)  # 2.5 MB, 9.8 MB as float32
    rng = np.random.default_rng(0)
    images = rng.integers(0, 9, (count, *shape)).astype("f4")
    dataset = Dataset(images, np.arange(count) % 4, CLASSES, np.full(count, 64))
    save_shards(dataset, tmp_path / "shards", shard_size=50)
    del images, dataset
    tracemalloc.start()
    loaded = load_shards(tmp_path / "shards")
    after_loading = tracemalloc.get_traced_memory()[0]
    for _ in range(3):
        order = rng.permutation(count)
        for start in range(0, count, 8):
            read_images(loaded.images, order[start : start + 8])
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after_loading < 300_000
    assert now - after_loading < 100_000
    assert peak < 1_500_000


def begin(folder, *rows):
    """Make of a finished dataset one that was interrupted."""
    settings = json.loads((folder / "shards.json").read_text())["settings"]
    lines = [json.dumps(line) for line in (settings, *rows)]
    (folder / "shards.part").write_text("\n".join(lines) + "\n")
    (folder / "shards.json").unlink()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def damaged(folder):
    flip(folder)


def cut(folder):
    path = folder / "shard-000001.h5"
    path.write_bytes(path.read_bytes()[:-100])


def of_another_length(folder):
    save_dataset(made_up(count=3), folder / "shard-000001.h5", overwrite=True)


def of_another_program(folder):
    with h5py.File(folder / "shard-000001.h5", "w") as file:
        file["images"] = made_up(count=4).images


@pytest.mark.parametrize("spoil", [damaged, cut, of_another_length, of_another_program])
def test_only_a_shard_that_is_not_whole_is_written_again(folder, spoil):
    before = contents(folder)
    begin(folder)
    spoil(folder)
    index, kept = save_shards(made_up(), folder, shard_size=4)
    assert kept == 7
    assert index.scans == SCANS
    assert contents(folder) == before


def test_what_an_earlier_version_began_goes_on(folder):
    before = contents(folder)
    index = json.loads(before["shards.json"])
    facts = {key: index[key] for key in ("shape", "dtype", "classes", "fields", "source")}
    begin(folder, *({"facts": facts, **shard} for shard in index["shards"][:2]))
    (folder / "shard-000002.h5").unlink()
    assert save_shards(made_up(), folder, shard_size=4)[1] == 8
    assert contents(folder) == before


# what is wrong, in one line


def edit(folder, **changes):
    path = folder / "shards.json"
    table = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(table))


def fails(folder, *phrases, error=DatasetError):
    with pytest.raises(error) as caught:
        load_dataset(folder, shape=SHAPE)
    text = str(caught.value)
    assert "\n" not in text
    for phrase in phrases:
        assert phrase in text, text


def test_an_index_of_another_version_is_refused(folder):
    edit(folder, version=2)
    fails(
        folder, "shards.json: was written in version 2", "reads version 1. Update stm-keras"
    )


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"format": "tar"}, "is not an index of shards"),
        ({"scans": 12}, "is damaged (its shards do not add up). Copy or make it again."),
        ({"shards": []}, "is damaged (`shards`: list should have at least 1 item"),
        ({"shards": [{"file": "a"}]}, "is damaged ("),
        ({"classes": 5}, "is damaged (`classes`: input should be a valid list"),
        ({"classes": ["one", "one"]}, "is damaged (a name is there twice)"),
        ({"shape": [3, 1 << 40]}, "is damaged (`shape.1`: "),
        ({"dtype": "O"}, "is damaged (`dtype`: "),
        ({"fields": ["../images"]}, "is damaged (`fields.0`: "),
        ({"parameters": ["a/../b"]}, "is damaged (`parameters.0`: "),
        ({"settings": 5}, "is damaged (`settings`: "),
        ({"classes": ["one"]}, "must be two or more different names"),
    ],
)
def test_an_index_that_is_none_is_refused(folder, changes, phrase):
    edit(folder, **changes)
    fails(folder, phrase)


def test_an_index_that_leads_out_of_its_folder_is_refused(folder):
    shards = json.loads((folder / "shards.json").read_text())["shards"]
    for name in (
        "../shard-000000.h5",
        "/dev/zero",
        "a\0b",
        "..",
        ".",
        "",
        "x\\y",
        "n" * 300,
    ):
        edit(folder, shards=[{**shards[0], "file": name}, *shards[1:]])
        fails(
            folder, "is damaged (`shards.0.file`: is not the name of a file in this folder)"
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "n" * 64},
        {"sha256": 5},
        {"scans": -1},
        {"scans": 1 << 40},
        {"scans": True},
        {"bytes": 0},
        {"heights": [0.0]},
        {"heights": ["low", "high"]},
        {"file": None},
    ],
)
def test_what_the_index_says_of_a_shard_is_looked_at(folder, changes):
    shards = json.loads((folder / "shards.json").read_text())["shards"]
    edit(folder, shards=[{**shards[0], **changes}, *shards[1:]])
    fails(folder, "shards.json: is damaged (`shards.0")


@pytest.mark.skipif(not HOSTILE.is_dir(), reason="the shared cases are not here")
@pytest.mark.parametrize("name", ["shards_classes_n", "shards_file_nul", "shards_sha"])
def test_the_hostile_indices_that_were_seen_are_refused(tmp_path, name):
    (tmp_path / "shards.json").write_bytes((HOSTILE / f"{name}.json").read_bytes())
    fails(tmp_path, "shards.json: is damaged (`")


def test_what_a_later_version_adds_to_the_index_does_no_harm(folder):
    shards = json.loads((folder / "shards.json").read_text())["shards"]
    edit(folder, colour=1, shards=[{**shard, "mood": "blue"} for shard in shards])
    assert len(load_dataset(folder, shape=SHAPE)) > 0


def test_an_index_that_is_no_json_is_refused(folder):
    (folder / "shards.json").write_text("{")
    fails(folder, "shards.json: is damaged (", "Copy or make it again.")


def test_a_missing_shard_is_named(folder):
    (folder / "shard-000001.h5").unlink()
    fails(folder, "shard-000001.h5: is missing, one of 3 shards. Copy it again.")


def test_a_shard_that_is_cut_short_is_named(folder):
    path = folder / "shard-000001.h5"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-7])
    told = f"has {size - 7} bytes, and shards.json says {size}. It is cut short"
    fails(folder, "shard-000001.h5: ", told)


def resize(folder, name):
    """Let the index tell the size that a shard has."""
    shards = json.loads((folder / "shards.json").read_text())["shards"]
    for shard in shards:
        if shard["file"] == name:
            shard["bytes"] = (folder / name).stat().st_size
    edit(folder, shards=shards)


def test_a_shard_with_another_number_of_scans_is_named(folder):
    save_dataset(made_up(count=5), folder / "shard-000001.h5", overwrite=True)
    resize(folder, "shard-000001.h5")
    fails(
        folder,
        "shard-000001.h5: holds float32 images of shape (5, 3, 5), and shards.json says "
        "float32 of (4, 3, 5). It is of another dataset: copy the right one.",
    )


def test_a_shard_with_other_arrays_is_named(folder):
    save_dataset(made_up(count=4, session=None), folder / "shard-000001.h5", overwrite=True)
    resize(folder, "shard-000001.h5")
    fails(folder, "shard-000001.h5: differs from shards.json in what it holds: session.")


def test_a_shard_that_somebody_else_wrote_is_refused(folder):
    path = folder / "shard-000001.h5"
    with h5py.File(path, "a") as file:
        del file["images"]
        file.create_dataset("images", data=made_up(count=4).images, chunks=(2, *SHAPE))
    resize(folder, path.name)
    fails(folder, "shard-000001.h5: keeps its scans in another way", "stm-keras convert")
    save_dataset(made_up(count=4), path, overwrite=True)
    with h5py.File(path, "a") as file:  # one scan that is not packed, as HDF5 allows
        raw = made_up(count=4).images[2].tobytes()
        file["images"].id.write_direct_chunk((2, 0, 0), raw, filter_mask=3)
    resize(folder, path.name)
    fails(folder, "shard-000001.h5: keeps its scans in another way", "stm-keras convert")
    path.write_bytes(b"no HDF5")
    resize(folder, path.name)
    fails(folder, "shard-000001.h5: is damaged, cut short or compressed in an unknown way")
    with h5py.File(path, "w") as file:
        file["images"] = 1
    resize(folder, path.name)
    fails(folder, "shard-000001.h5: is not a shard that stm-keras wrote.")


def flip(folder):
    """Change one byte within the packed first scan of a shard."""
    path = folder / "shard-000001.h5"
    with h5py.File(path) as file:
        place = file["images"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place + 4] ^= 255
    path.write_bytes(content)


def test_a_damaged_scan_is_named_when_it_is_read(folder):
    flip(folder)
    images = load_shards(folder).images
    np.testing.assert_array_equal(images[5], made_up().images[5])
    with pytest.raises(
        DatasetError, match=r"shard-000001.h5: scan 0 is damaged \(.*--verify"
    ):
        images[4]


def test_verifying_finds_what_sizes_do_not_tell(folder):
    seen = []
    assert len(verify_shards(folder, lambda *told: seen.append(told)).shards) == 3
    assert seen[-1][0] == seen[-1][1] > 0
    flip(folder)
    with pytest.raises(
        DatasetError, match="shard-000001.h5: is damaged: its SHA-256 is not"
    ):
        verify_shards(folder)


def test_a_shard_that_changes_or_goes_while_it_is_used_is_named(folder):
    images = load_shards(folder).images
    (folder / "shard-000002.h5").write_bytes(b"")
    with pytest.raises(DatasetError, match="shard-000002.h5: changed since it was loaded"):
        images[9]
    (folder / "shard-000000.h5").unlink()
    with pytest.raises(
        DatasetError, match=r"shard-000000.h5: cannot be read \(No such file"
    ):
        images[0]
    images[5]
    (folder / "shard-000001.h5").write_bytes(b"short")
    with pytest.raises(DatasetError, match="shard-000001.h5: is cut short"):
        images[5]


def test_shards_that_were_not_all_written_are_no_dataset(folder):
    (folder / "shards.json").rename(folder / "shards.part")
    fails(folder, "were not all written. Run the command that began it", error=InputError)


def test_scans_of_another_size_are_refused_as_anywhere(folder):
    with pytest.raises(DatasetError, match=r"`images` must have shape \(scans, 128, 128\)"):
        load_dataset(folder)

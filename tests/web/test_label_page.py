"""What the page of `stm-keras label` is told, and tells."""

import json

import pytest
from helpers import ONCE
from labelling.test_labelling import desk, say, write_scans

pytest.importorskip("nicegui")

from fastapi import FastAPI  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402

from stm_keras.data.label_records import read_records  # noqa: E402
from stm_keras.inference.find_files import find_files  # noqa: E402
from stm_keras.labelling.marks import read_marks  # noqa: E402
from stm_keras.labelling.pile import Pile  # noqa: E402
from stm_keras.web import label_page  # noqa: E402

pytestmark = ONCE


@pytest.fixture
def table(tmp_path):
    write_scans(tmp_path / "scans", 5)
    pile = Pile(find_files([tmp_path / "scans"]), tmp_path)
    yield desk(pile, tmp_path / "labels")
    pile.close()


def client(table):
    app = FastAPI()
    label_page.add_routes(app, table)
    return TestClient(app)


def test_a_picture_is_told_and_what_is_said_of_it_is_kept(table, tmp_path):
    asked = client(table)
    progress = asked.get("/api/progress").json()
    assert [mark["key"] for mark in progress["marks"]] == ["1", "2"]
    assert (progress["position"], progress["total"]) == (0, 5)
    picture = asked.get("/api/pictures/0").json()
    assert picture["shape"] == [24, 24]
    assert picture["said"] is picture["model"] is None  # blind to all others
    answer = asked.post("/api/pictures/0", json=say("blunt")).json()
    assert (answer["position"], answer["done"]) == (1, 1)
    assert asked.get("/api/pictures/0").json()["said"]["marks"] == ["blunt"]
    assert len(read_records(tmp_path / "labels")[0]) == 1


def test_the_rule_of_the_paper_is_told_of_its_marks_alone(table):
    assert client(table).get("/api/progress").json()["rule"] == ""
    table.marks = tuple(read_marks())
    assert "is a feature" in client(table).get("/api/progress").json()["rule"]


@pytest.mark.parametrize(
    ("position", "body", "status"),
    [
        (0, say(), 400),
        (0, [1], 400),
        (0, "{", 400),
        (9, say("blunt"), 400),
        (0, "x" * (1 << 17), 413),
    ],
)
def test_nonsense_is_answered_with_its_reason(table, tmp_path, position, body, status):
    text = body if isinstance(body, str) else json.dumps(body)
    answer = client(table).post(f"/api/pictures/{position}", content=text)
    assert answer.status_code == status
    assert answer.json()["detail"]
    assert not list((tmp_path / "labels").glob("*.jsonl"))


def test_a_full_disk_is_said_and_nothing_counts_as_saved(table, monkeypatch):
    def full(path, line):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table.file._appended, "write", full)
    answer = client(table).post("/api/pictures/0", json=say("blunt"))
    assert answer.status_code == 507
    assert "No space left" in answer.json()["detail"]
    assert table.position == 0

"""What programs may ask a running watch, and the page of it without a browser."""

import asyncio
import json

import pytest
from helpers import ONCE
from live.test_board import Told
from web.watching import PATIENCE

pytest.importorskip("nicegui")
pytestmark = ONCE

from fastapi import FastAPI  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from nicegui.testing.user_simulation import user_simulation  # noqa: E402

from stm_keras.web import watch_api  # noqa: E402
from stm_keras.web.watch_page import News, WatchView  # noqa: E402


@pytest.fixture
def told():
    told = Told()
    told.push("run", source="simulated", settings={"bad": []})
    told.scan(3, name="one")
    told.line(3, 0)
    return told


def client(board, ended=lambda: True):
    app = FastAPI()
    watch_api.add_routes(app, board, ended)
    return TestClient(app)


def events(text):
    """Return the records of a stream of server-sent events, and check their form."""
    found = []
    for block in text.strip().split("\n\n")[1:]:
        number, name, data = block.split("\n")
        record = json.loads(data.removeprefix("data: "))
        assert number == f"id: {record['seq']}"
        assert name == f"event: {record['event']}"
        found.append(record)
    return found


@pytest.mark.smoke
def test_the_state_is_what_the_board_says(told):
    answer = client(told.board).get("/api/state")
    assert answer.headers["content-type"] == "application/json"
    said, known = answer.json(), told.board.state()
    said.pop("last_line"), known.pop("last_line")
    assert said == json.loads(json.dumps(known))
    assert said["tip"]["verdict"] == "atoms"


def test_events_begin_with_the_run_and_the_scan_that_runs(told):
    answer = client(told.board).get("/api/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text.startswith("retry: 1000\n\n")
    assert [each["event"] for each in events(answer.text)] == ["run", "scan"]


def test_events_go_on_where_a_program_left_off(told):
    told.line(3, 1)
    answer = client(told.board).get("/api/events", headers={"Last-Event-ID": "2"})
    assert [each.get("line") for each in events(answer.text)] == [0, 1]


def test_new_records_come_as_they_are_written_and_each_once(told):
    async def listen():
        stream = watch_api._events(told.board, None, lambda: False)
        heard = [await anext(stream) for _ in range(3)]  # retry, run, scan
        waiting = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        told.line(3, 1)
        told.push("note", text="line\nbreak \u2028 and é")
        heard += [await waiting, await anext(stream)]
        await stream.aclose()
        return heard

    heard = [json.loads(each.split(b"data: ")[1]) for each in asyncio.run(listen())[1:]]
    assert [each["event"] for each in heard] == ["run", "scan", "line", "note"]
    assert heard[-1]["text"] == "line\nbreak \u2028 and é"


def test_a_listener_that_left_is_forgotten(told):
    async def leave():
        stream = watch_api._events(told.board, None, lambda: False)
        await anext(stream)
        assert len(told.board._listeners) == 1
        await stream.aclose()

    asyncio.run(leave())
    assert told.board._listeners == []


def test_a_program_of_another_log_hears_what_is_new(told):
    async def listen():
        stream = watch_api._events(told.board, 999, lambda: False)
        heard = [await anext(stream) for _ in range(3)]  # retry, run, scan
        told.line(3, 1)
        heard.append(await asyncio.wait_for(anext(stream), PATIENCE))
        await stream.aclose()
        return heard

    assert b"event: line" in asyncio.run(listen())[-1]


def test_a_program_that_never_reads_is_cut_off_and_forgotten(told, monkeypatch):
    monkeypatch.setattr(watch_api, "PATIENCE", 0.01)
    streams = set()
    sent = []

    async def send(message):
        sent.append((message["type"], len(streams)))
        if len(sent) > 1:
            await asyncio.Event().wait()  # for ever, as nobody reads

    async def receive():
        await asyncio.Event().wait()

    async def stream():
        events = watch_api._events(told.board, None, lambda: False)
        answer = watch_api.EventStream(events, streams)
        await asyncio.wait_for(answer({"type": "http"}, receive, send), PATIENCE)

    asyncio.run(stream())
    assert sent == [("http.response.start", 1), ("http.response.body", 1)]
    assert streams == set()
    assert told.board._listeners == []


def test_more_programs_than_can_be_told_in_time_are_refused(told, monkeypatch):
    monkeypatch.setattr(watch_api, "MOST_LISTENERS", 0)
    answer = client(told.board).get("/api/events")
    assert answer.status_code == 503
    assert "0 programs hear events already" in answer.json()["detail"]


def test_scans_are_told_by_number(told):
    asked = client(told.board)
    assert [each["number"] for each in asked.get("/api/scans").json()] == [3]
    scan = asked.get("/api/scans/3").json()
    assert (scan["scan"]["name"], len(scan["lines"])) == ("one", 1)
    assert asked.get("/api/scans/4").status_code == 404
    assert asked.get("/api/scans/3.png").status_code == 404
    from stm_keras.live.day import thumbnail

    told.push("end", scan=3, reason="complete", picture=thumbnail([[0.0, 1.0], [1.0, 0.0]]))
    answer = asked.get("/api/scans/3.png")
    assert answer.headers["content-type"] == "image/png"
    assert answer.content.startswith(b"\x89PNG")


def on_page(board, act):
    """Open the page of a board without a browser; return what `act(news, user, view)` does."""
    news = News(board)

    async def look():
        async with user_simulation(root=news.show) as user:
            await news.begin()
            await user.open("/")
            with user:
                (view,) = news._views
                sent = []

                def send(name, text):
                    sent.append(
                        (name, json.loads(text.encode()) if name == "push" else text)
                    )

                view.run_method = send
                result = await act(news, view, sent)
            await news.end()
            return result

    return asyncio.run(look())


async def soon(condition):
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def test_a_tab_gets_each_line_in_messages_that_are_numbered_in_turn(told):
    async def act(news, view, sent):
        start = news.view()
        for number in range(1, 6):
            told.line(3, number)
            await asyncio.sleep(0)
        await soon(lambda: sum(len(each["lines"]) for _, each in sent) == 5)
        return start, [each for _, each in sent]

    start, messages = on_page(told.board, act)
    assert (start["scan"], len(start["lines"])) == (3, 1)
    assert start["run"]["source"] == "simulated"
    numbers = [each["number"] for each in messages]
    assert numbers == list(range(start["number"] + 1, start["number"] + 1 + len(numbers)))
    lines = [line for each in messages for line in each["lines"]]
    assert [(line["scan"], line["line"]) for line in lines] == [(3, n) for n in range(1, 6)]
    assert messages[-1]["state"]["scan"]["lines_done"] == 6
    json.dumps([start, messages], allow_nan=False)


def test_a_tab_hears_from_the_program_though_nothing_happens(told):
    async def act(news, view, sent):
        await soon(lambda: len(sent) >= 2)
        return sent

    assert [len(each["lines"]) for _, each in on_page(told.board, act)][:2] == [0, 0]


def test_a_scan_that_begins_is_told_with_its_row(told):
    async def act(news, view, sent):
        told.scan(4)
        await soon(lambda: any(each["events"] for _, each in sent))
        return sent[-1][1]

    message = on_page(told.board, act)
    assert [each["event"] for each in message["events"]] == ["scan"]
    assert [each["number"] for each in message["scans"]] == [4]


def test_half_a_character_in_a_name_does_not_blind_a_tab(told):
    async def act(news, view, sent):
        told.scan(4, name="gr\udcfcn.sxm")
        told.line(4, 0)
        await soon(lambda: any(each["lines"] for _, each in sent))
        return sent

    messages = [each for _, each in on_page(told.board, act)]
    assert messages[-1]["state"]["scan"]["name"] == "gr\udcfcn.sxm"


def test_a_page_that_never_connects_is_sent_nothing(told):
    async def act(news, view, sent):
        tab, view.client.tab_id = view.client.tab_id, None
        told.line(3, 1)
        before = news.number
        await soon(lambda: news.number > before)
        none = list(sent)
        view.client.tab_id = tab
        await soon(lambda: sent)
        return none

    assert on_page(told.board, act) == []


def test_who_disagrees_is_heard_and_nonsense_is_refused(told):
    async def act(news, view, sent):
        heard = next(iter(view._event_listeners.values())).handler
        from types import SimpleNamespace

        heard(SimpleNamespace(args={"scan": 3, "class": "rows", "who": "Ada"}))
        for nonsense in ({"scan": 3, "class": "x"}, {}, None, [1], "a"):
            heard(SimpleNamespace(args=nonsense))
        return [name for name, *_ in sent if name == "refuse"]

    assert len(on_page(told.board, act)) == 5
    assert told.board.said() == [{"who": "Ada", "scan": 3, "class": "rows"}]


def test_the_page_is_built_by_one_element_of_our_own(told):
    async def act(news, view, sent):
        return type(view), sorted(each.type for each in view._event_listeners.values())

    assert on_page(told.board, act) == (WatchView, ["label"])

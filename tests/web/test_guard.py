"""The guard in front of pages: who may look, over http and over websockets."""

import pytest
from helpers import ONCE

from stm_keras.web.guard import COOKIE

pytest.importorskip("starlette")
pytestmark = ONCE

from starlette.applications import Starlette  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import Route, WebSocketRoute  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402
from starlette.websockets import WebSocketDisconnect  # noqa: E402

from stm_keras.web.guard import Guard  # noqa: E402

PORT = 8765
OWN = f"127.0.0.1:{PORT}"
TOKEN = "sixteen-letters-or-more"
REFUSED = [
    {"host": "evil.example"},
    {"host": f"evil.example:{PORT}"},
    {"host": "127.0.0.1:80"},
    {"host": f"127.0.0.1.evil.example:{PORT}"},
    {"host": f"{OWN}@evil.example"},
    {"host": ""},
    {"host": OWN, "origin": "http://evil.example"},
    {"host": OWN, "origin": "null"},
    {"host": OWN, "origin": f"https://{OWN}"},
    {"host": OWN, "origin": f"http://localhost:{PORT}"},
    {"host": OWN, "origin": "http://127.0.0.1:3000"},
    {"host": OWN, "sec-fetch-site": "cross-site", "sec-fetch-dest": "image"},
    {"host": OWN, "sec-fetch-site": "same-site", "sec-fetch-dest": "empty"},
    {
        "host": OWN,
        "sec-fetch-site": "cross-site",
        "sec-fetch-mode": "navigate",
        "sec-fetch-dest": "iframe",
    },
]
ANSWERED = [
    {"host": OWN},
    {"host": f"LOCALHOST:{PORT}"},
    {"host": OWN, "origin": f"http://{OWN}"},
    {"host": OWN, "sec-fetch-site": "same-origin", "sec-fetch-dest": "empty"},
    {"host": OWN, "sec-fetch-site": "cross-site", "sec-fetch-dest": "document"},
]


async def page(request):
    return PlainTextResponse("the tip is bad")


async def talk(socket):
    await socket.accept()
    await socket.send_text("the tip is bad")
    await socket.close()


def client(token=None):
    app = Starlette(routes=[Route("/", page), WebSocketRoute("/socket", talk)])
    guard = Guard(app, PORT, token)
    return TestClient(guard, base_url=f"http://{OWN}", follow_redirects=False)


def hears(client, headers):
    """Tell whether a websocket with these headers hears something."""
    try:
        with client.websocket_connect("/socket", headers=headers) as socket:
            return socket.receive_text() == "the tip is bad"
    except WebSocketDisconnect:
        return False


@pytest.mark.parametrize("headers", REFUSED, ids=str)
def test_a_foreign_host_or_origin_is_refused(headers):
    answer = client().get("/", headers=headers)
    assert answer.status_code == 403
    assert "tip" not in answer.text
    assert not hears(client(), headers)


@pytest.mark.parametrize("headers", ANSWERED, ids=str)
def test_the_page_itself_is_answered(headers):
    assert client().get("/", headers=headers).text == "the tip is bad"
    assert hears(client(), headers)


def test_two_hosts_are_refused():
    headers = [("host", OWN), ("host", "evil.example")]
    assert client().get("/", headers=headers).status_code == 403


@pytest.mark.smoke
def test_a_page_loads_nothing_from_elsewhere_and_is_framed_by_nobody():
    policy = client().get("/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self' ")
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize("given", [None, "", TOKEN[:-1], TOKEN + "x", "ä" * 20])
def test_without_the_token_nobody_is_answered(given):
    headers = {"host": f"lab-pc:{PORT}"}
    if given is not None:
        headers["cookie"] = f"{COOKIE}={given}".encode()
    assert client(TOKEN).get("/", headers=headers).status_code == 403
    assert client(TOKEN).get(f"/?token={given}", headers=headers).status_code == 403
    assert not hears(client(TOKEN), headers)


def test_the_token_in_the_address_becomes_a_cookie_and_is_seen_no_more():
    host = {"host": f"lab-pc:{PORT}"}
    answer = client(TOKEN).get(f"/?token={TOKEN}", headers=host)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    with_cookie = {**host, "cookie": cookie.partition(";")[0]}
    assert client(TOKEN).get("/", headers=with_cookie).text == "the tip is bad"
    assert hears(client(TOKEN), with_cookie)
    foreign = {**with_cookie, "origin": "http://evil.example"}
    assert client(TOKEN).get("/", headers=foreign).status_code == 403
    assert not hears(client(TOKEN), foreign)


def test_an_address_with_the_token_leads_to_this_computer_whatever_it_holds():
    host = {"host": f"lab-pc:{PORT}"}
    path = "/%5Cevil.example/%0D%0Ax:%C3%A9"
    answer = client(TOKEN).get(f"{path}?token={TOKEN}&scan=3", headers=host)
    assert answer.headers["location"] == f"{path.replace('x:', 'x%3A')}?scan=3"


def test_a_program_gives_the_token_as_a_header():
    headers = {"host": f"lab-pc:{PORT}", "authorization": f"Bearer {TOKEN}"}
    assert client(TOKEN).get("/", headers=headers).text == "the tip is bad"

"""Who may look: a guard in front of every page and socket, as a browser lets anybody knock.

Any web site that is open in a browser can send requests to this computer, and a name that its
owner points here (DNS rebinding) makes them look like its own. So a request is refused unless
`Host` is one that we serve, and `Origin`, where there is one, is the page itself; for http and
for websockets alike. Where other computers may connect, a token is needed as well.
"""

import hmac
import re
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

LOCAL = ("127.0.0.1", "localhost")
COOKIE = "stm_keras_token"
FORBIDDEN = 403
HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,255}")
# nothing is fetched from elsewhere, even by mistake, and no other page may show this one
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
        b"frame-ancestors 'none'; form-action 'self'; base-uri 'self'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Guard:
    """An ASGI application that hands on what may be answered, and refuses the rest.

    Args:
        app: the ASGI application that is guarded.
        port: int. At which it is served.
        token: str. That who connects must know; then any `Host` is served that leads here.
            None: this computer alone is served.
    """

    def __init__(self, app: Any, port: int, token: str | None = None):
        self.app, self.port, self.token = app, port, token

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answer a request, or open a websocket."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        reason = self._refusal(scope, headers)
        if reason is None and self.token is not None and not self._knows(headers):
            if self._asks(scope):
                await _admit(scope, send, self.token)
                return
            reason = "This page needs a token: open the address that the program printed."
        if reason is not None:
            await _refuse(scope, receive, send, reason)
            return

        async def send_safely(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, send_safely)

    def _refusal(self, scope, headers):
        """Return why a request is refused, or None."""
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        host = headers.get(b"host", "").lower()
        if len(hosts) != 1 or not HOST.fullmatch(host) or not self._serves(host):
            return "This address is not served here."
        origin = headers.get(b"origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return "Other pages may not look at this one."
        # of pictures and frames, which a browser asks for without an origin; a link may lead here
        site, kind = (headers.get(name) for name in (b"sec-fetch-site", b"sec-fetch-dest"))
        if site in ("cross-site", "same-site") and kind != "document":
            return "Other pages may not look at this one."
        return None

    def _serves(self, host):
        if self.token is not None:
            return True
        return host in {f"{name}:{self.port}" for name in LOCAL} or (
            self.port == 80 and host in LOCAL
        )

    def _knows(self, headers):
        """Tell whether a request has the token, as a cookie or as a header of a program."""
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
        except CookieError:
            cookie = None
        said = headers.get(b"authorization", "").removeprefix("Bearer ")
        given = (said, cookie.value if cookie else "")
        return any(_is_same(each, self.token) for each in given)

    def _asks(self, scope):
        """Tell whether a page is opened by an address that holds the token."""
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        return (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and _is_same(query.get("token", [""])[0], self.token)
        )


def _is_same(given, token):
    return hmac.compare_digest(given.encode(), token.encode())


async def _admit(scope, send, token):
    """Have a browser keep the token as a cookie, and open the address without it."""
    query = parse_qs(scope["query_string"].decode("latin-1"))
    query.pop("token")
    place = "/" + quote(scope["path"].lstrip("/"))
    place += "?" + urlencode(query, True) if query else ""
    cookie = f"{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict"
    await _answer(
        send,
        303,
        [(b"location", place.encode()), (b"set-cookie", cookie.encode())],
        b"",
    )


async def _refuse(scope, receive, send, reason):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": reason})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await _answer(send, FORBIDDEN, headers, reason.encode() + b"\n")


async def _answer(send, status, headers, body):
    length = (b"content-length", str(len(body)).encode())
    headers = [*headers, length, *HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

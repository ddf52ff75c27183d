"""Verdicts by HTTP on scans that other programs hold in memory: `/info` and `/classify`.

The contract is that of rusty-tip, a Rust program that prepares tips (github.com/
kronberger-droid/rusty-tip: `src/classifier/http.rs` and `src/frame.rs` at 4fef5e8,
`python/classifier_server.py` at 12d34ab, read and not copied):

- `GET /info` is answered with {"name", "version"}, once, when the program begins.
- `POST /classify` has an NPY file as its body (version 1.0, `<f4`, C order, rows x columns,
  NaN where nothing was scanned) and JSON in the header `X-Payload-Meta`: `channel_name`, `rows`,
  `cols`, `direction_up`, and `geometry`, null or {"center": {"x", "y"}, "width_m",
  "height_m", "angle_deg"}. Its answer is any JSON: each program says what it wants of it.
- The rows are in the order in which the controller sends them. Of Nanonis, row 0 is the upper
  edge in both directions, and so it is taken here.
- A status other than 200 is a broken classifier to it, no connection an absent one. Neither
  is a verdict, so whatever cannot be judged here has such a status, with {"error": one line}.

The verdict is that of `stm-keras predict --json` on the same scan in a file.
"""

import asyncio
import math
import re
from collections.abc import Callable

import fastapi
import numpy as np
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from stm_keras import __version__
from stm_keras.errors import InputError, StmKerasError
from stm_keras.inference.judge import verdict_of
from stm_keras.inference.predictor import Predictor
from stm_keras.readers.units import channel_of, check_heights, si_unit
from stm_keras.scan import Scan
from stm_keras.terminal import one_line
from stm_keras.untrusted import parse_json

META = "X-Payload-Meta"
MOST_META = 8 << 10  # characters of that header
MOST_BODY = 64 << 20  # bytes: a frame of 4096 x 4096
SLOWEST = 30.0  # s for which a body is awaited
MOST_WAITING = 4  # requests at a time: each holds a body
HEADER = re.compile(  # of an NPY file of version 1.0, as rusty-tip and NumPy write it
    rb"\x93NUMPY\x01\x00(?P<length>..)\{\s*'descr': *'<f4', *'fortran_order': *False, *"
    rb"'shape': *\((?P<rows>\d{1,6}), *(?P<columns>\d{1,6})\),? *\} *\n",
    re.DOTALL,
)
NPY = "an .npy file of version 1.0, of '<f4' in C order, (rows, columns)"


class Refused(Exception):
    """A request has no verdict.

    Args:
        status: int. Of HTTP.
        reason: str. One line.
    """

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status = status


def add_routes(
    app: fastapi.FastAPI,
    predictor: Predictor,
    name: Callable[[], str] = lambda: "stm-keras",
) -> None:
    """Serve the two addresses.

    One scan is judged at a time, in a thread of its own: neither the page nor the watching
    waits for it.

    Args:
        app: `fastapi.FastAPI`.
        predictor: `Predictor`, also one that goes through the lines of the watch meanwhile.
        name: callable that returns what the programs write down as the model: str.
    """
    judging = asyncio.Lock()
    waiting = 0

    async def info() -> dict:
        return {"name": name(), "version": __version__}

    async def classify(request: fastapi.Request) -> JSONResponse:
        nonlocal waiting
        waiting += 1
        try:
            if waiting > MOST_WAITING:
                raise Refused(503, f"{MOST_WAITING} scans are waiting. Ask again later.")
            meta = request.headers.get(META)
            body = await _body(request)
            async with judging:
                status, told = await asyncio.to_thread(_answer, predictor, meta, body)
        except Refused as refused:
            status, told = refused.status, {"error": str(refused)}
        finally:
            waiting -= 1
        # what was not read of a body would be taken for the next request
        closing = {"Connection": "close"} if status != 200 else None
        return JSONResponse(told, status, closing)

    app.add_api_route("/info", info, methods=["GET"])
    app.add_api_route("/classify", classify, methods=["POST"], response_model=None)


def scan_of(meta: str | None, body: bytes) -> Scan:
    """Read a scan.

    Args:
        meta: str. The header `X-Payload-Meta`, None without one.
        body: bytes. The NPY file.

    Returns:
        `Scan`, of which NaN and infinity were not recorded.

    Raises:
        InputError: One of the two is not what it must be, they do not agree, or nothing was
            recorded.
    """
    told = _meta(meta)
    heights = _heights(body)
    shape = told.get("rows"), told.get("cols")
    if shape != heights.shape:
        raise InputError(
            f"`rows` and `cols` of {META} are the shape of the body. Received: "
            f"{shape[0]} and {shape[1]}, and a body of {heights.shape}."
        )
    title = told["channel_name"]
    written = re.search(r"\(([^()]*)\) *$", title)
    factor, unit = si_unit(written[1] if written else "")
    heights *= factor
    valid = np.isfinite(heights)
    if not valid.any():
        raise InputError("The body holds nothing that was scanned.")
    check_heights("the body", f"`{one_line(title)}`", heights[valid], unit)
    return Scan(
        heights,
        valid,
        channel=channel_of(title)[0],
        unit=unit,
        slow="up" if told["direction_up"] else "down",
        size=_size(told.get("geometry")),
    )


def _answer(predictor, meta, body):
    """Judge a scan: tuple of the status and what is told."""
    try:
        told = verdict_of(predictor, scan_of(meta, body))
    except InputError as error:
        return 400, {"error": one_line(error)}
    except StmKerasError as error:
        return 500, {"error": one_line(error)}
    except Exception as error:  # whatever it is, it must not look like a verdict
        return 500, {"error": f"The scan cannot be judged: {one_line(repr(error)[:200])}"}
    if told["class"] is None:
        return 422, {"error": f"The scan is not judged: {told['error']}."}
    return 200, told


async def _body(request):
    """Read a body, as long as it may be."""
    body, too_long = bytearray(), f"The body has at most {MOST_BODY >> 20} MiB."
    announced = request.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced[:12]) > MOST_BODY:
        raise Refused(413, too_long)
    try:
        async with asyncio.timeout(SLOWEST):
            async for piece in request.stream():
                body += piece
                if len(body) > MOST_BODY:
                    raise Refused(413, too_long)
    except TimeoutError:
        raise Refused(408, f"The body did not come within {SLOWEST:g} s.") from None
    except ClientDisconnect:
        raise Refused(400, "The body did not come to its end.") from None
    return bytes(body)


def _meta(text):
    """Return what is told of a scan, as it must be: dict."""
    if text is None:
        raise InputError(f"The header {META} is missing: JSON that tells of the scan.")
    if len(text) > MOST_META:
        raise InputError(f"The header {META} has at most {MOST_META >> 10} KiB.")
    told = parse_json(
        text.encode("latin-1"), f"The header {META}", form="{} is not JSON ({})."
    )
    if not isinstance(told, dict):
        raise InputError(f"The header {META} is a JSON object.")
    _check(isinstance(told.get("channel_name"), str), "channel_name", "a text")
    _check(isinstance(told.get("direction_up"), bool), "direction_up", "true or false")
    return told


def _size(geometry):
    """Return width and height of the frame in m, None where nobody says."""
    if geometry is None:
        return None
    _check(isinstance(geometry, dict), "geometry", "an object, or null")
    size = geometry.get("width_m"), geometry.get("height_m")
    _check(all(map(_is_length, size)), "geometry", "with `width_m` and `height_m`, in m")
    return tuple(map(float, size))


def _is_length(value):
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _check(fine, key, wanted):
    if not fine:
        raise InputError(f"`{key}` of {META} is {wanted}.")


def _heights(body):
    """Return the array of an NPY file: float64 `(rows, columns)`. NumPy reads no header."""
    header = HEADER.match(body)
    if header is None or header.end() != 10 + int.from_bytes(header["length"], "little"):
        raise InputError(f"The body is {NPY}. Received: something else.")
    shape = int(header["rows"]), int(header["columns"])
    wanted = 4 * math.prod(shape)
    if len(body) - header.end() != wanted:
        raise InputError(
            f"The body is {NPY}. Received: {len(body) - header.end()} bytes of numbers where "
            f"{shape[0]} x {shape[1]} need {wanted}."
        )
    numbers = np.frombuffer(body, "<f4", offset=header.end())
    return numbers.reshape(shape).astype(np.float64)

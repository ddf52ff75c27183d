"""Read once how a Nanonis controller behaves where no document says it, for users to send.

Nothing is asked but the commands of `nanonis_codec`, all of which read. Heights, the path of the
session, the names of files, the comment and the name of the computer stay out of the report.
"""

import json
import math
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack

from stm_keras import __version__
from stm_keras.live.connect_asked import LONGEST, Asked, plain, without_host
from stm_keras.live.connect_lines import LineWatch, compare_directions, describe_frame
from stm_keras.live.nanonis_channel import find_channels
from stm_keras.live.nanonis_client import Client
from stm_keras.live.nanonis_codec import NanonisError, RefusedError
from stm_keras.terminal import one_line

PORTS = (6501, 6502, 6503, 6504)
NOWHERE = 9999  # channel that no release has: asked for to see what an error looks like
MOST_OTHERS = 4  # channels grabbed beside those that may be judged, to see the numbering
LISTEN = 90.0  # s in which lines are waited for
REST = 5.0  # s for what is asked after them
PERIODS = 0.02, 30.0  # s of a line both ways that are believed
NUMBERINGS = {  # of channels, as the report and as people read it
    "signals": "by signal",
    "slots": "by slot",
    "either": "by signal or by slot, which are the same here",
    "neither": "neither by signal nor by slot, as these are told",
    "not known": "not known",
}
SETTINGS = {  # what is asked once, and what its values are; further ones are left out
    "Util.VersionGet": ("product", "version", "host_release", "rt_release"),
    "Scan.StatusGet": ("running",),
    "Scan.BufferGet": ("channels", "pixels", "lines"),
    "Scan.FrameGet": ("x", "y", "width", "height", "angle"),
    "Scan.SpeedGet": ("forward", "backward", "time", "time_back", "constant", "ratio"),
    "Scan.PropsGet": ("continuous", "bouncy", "autosave"),
    "Signals.NamesGet": ("names",),
    "Signals.InSlotsGet": ("names", "signals"),
    "Bias.Get": ("bias",),
    "ZCtrl.SetpntGet": ("setpoint",),
    "ZCtrl.OnOffGet": ("on",),
}


def read_controller(
    host: str,
    ports: tuple[int, ...] = PORTS,
    tell: Callable[[str], object] = lambda text: None,
    listen: float = LISTEN,
) -> dict:
    """Read a controller for up to two minutes, whether a scan runs or not.

    Args:
        host: str. Name or address.
        ports: tuple of int. Those to try; the last two that answer are used.
        tell: callable of a str, told what is being done.
        listen: float. How long lines are waited for, in s.

    Returns:
        dict that JSON can hold; docs/live.md names its parts. What could not be had is in
        `missing`, each with the reason.

    Raises:
        NanonisError: No port answers.
    """
    begun = time.monotonic()
    report: dict = {
        "report": "stm-keras connect",
        "schema": 1,
        "versions": {"stm_keras": __version__, "python": platform.python_version()},
        "date": time.strftime("%Y-%m-%d"),
        "ports": [],
        "settings": {},
        "running_after": None,
        "numbering": "not known",
        "judged": None,
        "channels": [],
        "lines": [],
        "frames": [],
        "unscanned": [],
        "directions": None,
        "error": None,
        "missing": {},
        "exchanges": [],
    }
    with ExitStack() as stack:
        connections = _try_ports(stack, host, ports, report, begun, tell)
        tell("Reading settings and names.")
        grabs = connections[-1]
        settings = report["settings"] = _read_settings(grabs, report["missing"])
        tell("Grabbing each channel that may be the one to judge.")
        number = _read_channels(grabs, settings, report)
        _read_error(grabs, report)
        waits = connections[0] if len(connections) > 1 else None
        if number is not None:
            _watch_lines(grabs, waits, number, report, begun, tell, listen)
        else:
            report["missing"]["lines"] = "No channel could be grabbed."
        report["running_after"] = _ask(grabs, "Scan.StatusGet")
    return report


def summary(report: dict) -> list[str]:
    """Return what a report says, in a few lines of text for people."""
    settings, missing = report["settings"], report["missing"]
    version = settings["Util.VersionGet"] or {}
    answering = [str(each["port"]) for each in report["ports"] if each["answers"]]
    silent = [str(each["port"]) for each in report["ports"] if not each["answers"]]
    ended = [each for each in report["lines"] if not each["timed_out"]]
    judged = report["judged"]
    channel = f"{judged['name']} (channel {judged['number']})" if judged else "none"
    lines = {
        "controller": " ".join(map(str, version.values())) or "its version is not told",
        "ports": f"{_listed(answering)} answer, not: {_listed(silent)}",
        "numbering": NUMBERINGS[report["numbering"]],
        "channel": f"watch would judge {channel}",
        "lines": f"{len(ended)} ends of lines told, {len(report['frames'])} frames read",
        "unscanned": f"rows not reached hold {', '.join(report['unscanned']) or '?'}",
    }
    rows = [f"{name:<11} {one_line(text)}" for name, text in lines.items()]
    return rows + [f"missing     {name}: {one_line(why)}" for name, why in missing.items()]


def as_text(report: dict) -> str:
    """Return a report as JSON that people can read: one line for each thing that happened."""
    parts = []
    for name, value in report.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            rows = ",\n".join(f"  {json.dumps(each, allow_nan=False)}" for each in value)
            parts.append(f' "{name}": [\n{rows}\n ]')
        else:
            parts.append(f' "{name}": {json.dumps(value, allow_nan=False)}')
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _try_ports(stack, host, ports, report, begun, tell):
    """Ask at each port for the version, the last one first.

    The first two that answer stay connected, which are the last ones: other programs take the
    first ports.

    Returns:
        list of one or two `Asked`.
    """
    kept: list[Asked] = []
    failure = None
    for port in reversed(ports):
        entry = {"port": port, "answers": False}
        report["ports"].insert(0, entry)
        start = time.monotonic()
        try:
            client = Client(host, port)
        except NanonisError as error:
            failure = failure or error
            entry["reason"] = without_host(error, host)
            tell(f"Port {port} cannot be reached.")
            continue
        stack.callback(client.close)
        asked = Asked(client, report["exchanges"], begun)
        try:
            asked.ask("Util.VersionGet")
        except RefusedError:
            pass
        except NanonisError as error:
            if asked.lost:  # else an answer came, if an odd one
                failure = error
                entry["reason"] = without_host(error, host)
                client.close()
                tell(f"Port {port} takes the connection and does not answer.")
                continue
        entry |= {"answers": True, "seconds": round(time.monotonic() - start, 3)}
        tell(f"Port {port} answers.")
        if len(kept) < 2:
            kept.append(asked)
        else:
            client.close()
    if not kept:
        raise failure
    return kept


def _read_settings(asked, missing):
    """Return the values of `SETTINGS` by their names, None for what is not told."""
    settings = {}
    for command, names in SETTINGS.items():
        try:
            values = asked.ask(command)
        except NanonisError as error:
            settings[command] = None
            missing[command] = without_host(error, asked.host)
        else:
            settings[command] = dict(zip(names, map(plain, values), strict=False))
    return settings


def _read_channels(asked, settings, report):
    """Grab channels, compare their names with both readings, and return the one to follow."""
    told = {name: settings[name] or {} for name in SETTINGS}
    numbers = told["Scan.BufferGet"].get("channels", [])
    signals = told["Signals.NamesGet"].get("names", [])
    slots = told["Signals.InSlotsGet"].get("names", [])
    feedback = told["ZCtrl.OnOffGet"].get("on")
    candidates: tuple = ()
    if not numbers:
        report["missing"]["judged"] = "It is not told what is recorded."
        return None
    try:
        candidates = find_channels(numbers, signals, slots, None, feedback == 0)
    except NanonisError as error:
        report["missing"]["judged"] = str(error)
    likely = [number for number, _ in candidates]
    others = [number for number in numbers if number not in likely and number >= 0]
    for number in dict.fromkeys(likely + others[:MOST_OTHERS]):
        channel = {
            "number": number,
            "as_signal": _at(signals, number),
            "as_slot": _at(slots, number),
        }
        report["channels"].append(channel)
        try:
            name, frame, up = asked.grab(number)
        except NanonisError as error:
            channel["error"] = without_host(error, asked.host)
            continue
        channel |= {"name": plain(name), "up": bool(up), **describe_frame(frame)}
    report["numbering"] = _numbering(report["channels"])
    there = {
        each["number"]: each["name"] for each in report["channels"] if each.get("rows")
    }
    matching = [(n, name) for n, name in candidates if there.get(n) == name]
    if matching:
        report["judged"] = {"number": matching[0][0], "name": matching[0][1]}
    elif candidates:
        report["missing"]["judged"] = "No grabbed frame has the name of its channel."
    return matching[0][0] if matching else next(iter(there), None)


def _numbering(channels):
    """Tell which reading of the numbers gives the names that were returned."""
    named = [each for each in channels if "name" in each]
    fits = {
        kind: all(each[key] == each["name"] for each in named)
        for kind, key in (("signals", "as_signal"), ("slots", "as_slot"))
    }
    fitting = [kind for kind, whole in fits.items() if whole]
    if not named:
        return "not known"
    return fitting[0] if len(fitting) == 1 else "either" if fitting else "neither"


def _read_error(asked, report):
    """See what an error looks like, by a grab of a channel that is not there."""
    try:
        _, frame, _ = asked.grab(NOWHERE)
    except NanonisError as error:
        asked_last = report["exchanges"][-1]
        if asked_last["values"] == (NOWHERE, 1):
            report["error"] = asked_last
        else:  # as the connection was lost before
            report["missing"]["error"] = without_host(error, asked.host)
    else:
        report["missing"]["error"] = f"There is a channel {NOWHERE}: {len(frame)} rows."


def _watch_lines(grabs, waits, number, report, begun, tell, listen):
    settings, missing = report["settings"], report["missing"]
    running = (settings["Scan.StatusGet"] or {}).get("running")
    end = min(time.monotonic() + listen, begun + LONGEST - REST)
    watch = LineWatch(grabs, waits, number, _period(settings["Scan.SpeedGet"]), end)
    tell(f"Watching lines, for {listen:.0f} s at most.")
    watch.run(running != 0, tell)
    report |= {"lines": watch.lines, "frames": watch.frames}
    report["unscanned"] = sorted(watch.unscanned)
    missing |= watch.missing
    if running == 0:
        for part in ("lines", "unscanned"):
            missing.setdefault(part, "No scan runs. Start one, and connect again.")
    elif not watch.unscanned:
        missing["unscanned"] = "No row changed that had others after it."
    if running != 0 and all(each["timed_out"] for each in watch.lines):
        missing.setdefault("lines", "No line ended while they were waited for.")
    try:
        _, backward, _ = grabs.grab(number, backward=True)
    except NanonisError as error:
        missing["directions"] = without_host(error, grabs.host)
    else:
        report["directions"] = compare_directions(watch.last, backward)
        if report["directions"] is None:
            missing["directions"] = "No row is complete both forward and backward."


def _period(speed):
    """Return the time of a line both ways in s."""
    times = [speed["time"], speed["time_back"]] if speed else []
    period = sum(each for each in times if isinstance(each, float)) or 1.0
    return min(max(period, PERIODS[0]), PERIODS[1]) if math.isfinite(period) else 1.0


def _ask(asked, command):
    try:
        return plain(asked.ask(command)[0])
    except NanonisError:
        return None


def _at(names, number):
    return names[number] if 0 <= number < len(names) else None


def _listed(words):
    return ", ".join(words) or "none"

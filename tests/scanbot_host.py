"""Scanbot 4.5.1 as its hook meets it: its own `survey` and `classify`, or a twin of both.

Scanbot itself (52 MB, numpy below 2, OpenCV) is not installed for the tests. Where
STM_KERAS_SCANBOT names the folder of an unpacked wheel, its functions are run as they are:

    pip download --no-deps scanbot==4.5.1 && unzip scanbot-4.5.1-*.whl -d scanbot
    STM_KERAS_SCANBOT=scanbot python -m pytest tests/test_scanbot.py
"""

import ast
import os
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np

REAL = os.environ.get("STM_KERAS_SCANBOT")
CHANGES = 9  # tip changes that its own classifier finds in every scan: all are bad to it


def survey_twin(hook, scans, say):
    """Do what `survey` of scanbot/server/scanbot.py, lines 213 to 320, does with its hook."""
    history = []
    for path, data in scans:
        try:
            record = hook.run(data, path, history)
        except Exception as error:
            say(f"Warning: Call to survey hook hk_classifier.py failed: {error}")
            record = classify_twin(data, path, history)
        history.append(record)
        if record["tipShape"] == 1:
            return True
    return False


def classify_twin(data, filename, history):
    """Do what `classify` of scanbot/server/utilities.py, lines 349 to 400, does."""
    nan, bad, shape = np.isnan(data).any(), 0, 0
    for record in history[::-1]:
        if record["nan"]:
            continue
        if record["tipChanges"] > 5:
            bad += 1
        if bad > 3:
            shape = 1
            break
        if record["tipChanges"] <= 5:
            break
    return {"tipChanges": CHANGES, "nan": nan, "tipShape": shape}


def survey_real(hook, scans, say):
    """Run Scanbot's own `survey` on scans, in the order in which Nanonis would give them."""
    server = Path(REAL) / "scanbot" / "server"
    tools = _functions(server / "utilities.py", ["classify"], {"np": np})
    tools["findTipChanges"] = lambda data: CHANGES
    todo = iter(scans)
    now = []

    def next_scan(**_):
        now[:] = next(todo)
        return 0, None, now[0]

    def nothing(*_, **__):
        return None

    nanonis = SimpleNamespace(
        FrameGet=lambda: (0, 0, 1e-8, 1e-8, 0),
        PropsGet=lambda: (0, 0, 0, "series"),
        PropsSet=nothing,
        FrameSet=nothing,
        Action=nothing,
        WaitEndOfScan=next_scan,
        FrameDataGrab=lambda *_: (None, now[1].copy(), None),
    )
    known = {
        "np": np,
        "time": SimpleNamespace(sleep=nothing),
        "hk_classifier": hook,
        "Scan": lambda _: nanonis,
        "Piezo": lambda _: SimpleNamespace(RangeGet=lambda: (1, 1, 1)),
        "utilities": SimpleNamespace(classify=tools["classify"]),
        "global_": SimpleNamespace(running=SimpleNamespace(clear=nothing)),
        "print": nothing,
    }
    survey = _functions(server / "scanbot.py", ["survey"], known)["survey"]
    interface = SimpleNamespace(
        topoBasename="",
        cloudPath="",
        sendPNG=nothing,
        sendReply=lambda text, **_: say(text),
    )
    scanbot = SimpleNamespace(
        currentAction={},
        autoInitSet=True,
        autoInitDemo=False,
        focusChannel="Z (m)",
        zchannel="Z (m)",
        interface=interface,
        connect=lambda: (None, None),
        disconnect=nothing,
        plotChannel=nothing,
        getChannelIndex=lambda _: 14,
        checkEventFlags=lambda: False,
        makePNG=lambda data, *_, **__: ("scan.png", data),
    )
    size = round(len(scans) ** 0.5)
    assert size**2 == len(scans), "a survey is a square grid"
    return survey(
        scanbot,
        *("-default", size, 1, "test", 1e-8, 1e-8, "-default", 0, 0, 0, 1, 1),
        iamauto=True,
    )


def _functions(path, names, namespace):
    """Compile functions or methods of a file, without what it imports."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
            exec(textwrap.dedent("\n".join(lines)), namespace)
    return namespace

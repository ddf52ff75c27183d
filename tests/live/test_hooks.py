"""What is told when the tip is bad, and that it can do no harm."""

import io
import json
import os
import re
import sys
import threading
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import ONCE

from stm_keras.errors import InputError, UsageError
from stm_keras.live import hooks as hooks_module
from stm_keras.live.hooks import MOST_WAITING, Hooks
from stm_keras.live.log import EventLog, read_log

pytestmark = ONCE
ALARM = {
    "schema": 1,
    "seq": 5,
    "t": "2026-11-29T12:00:00+01:00",
    "mono": 1.5,
    "event": "alarm",
    "rule": "bad tip",
    "class": "generic defects",
    "p": 0.75,
    "scan": 3,
    "line": None,
}


@pytest.fixture
def program(tmp_path):
    """Write a program, and return the command that runs it."""

    def write(code, *words):
        path = tmp_path / "a program.py"
        path.write_text(f"import json, os, sys, time\n{code}\n", encoding="utf-8")
        return " ".join([f'"{sys.executable}" -S "{path}"', *words])

    return write


def wait(check, seconds=20.0):
    """Wait until something holds, and return it."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
    return found


def called(hooks, record=ALARM):
    """Push a record and return what became of it."""
    hooks.push(record)
    (result,) = wait(hooks.results)
    return result


@contextmanager
def served(*codes, location=None, slow=0.0):
    """Serve answers with these codes, the last for ever; yield address and requests."""
    got, answers = [], list(codes)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), body))
            if slow:
                for byte in b"HTTP/1.0 200 OK" + b" " * 9999:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                    time.sleep(slow)
            self.send_response(answers.pop(0) if len(answers) > 1 else answers[0])
            if location:
                self.send_header("Location", location)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_):
            pass

        def handle(self):
            with suppress(OSError):
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(hooks_module, "TIME_OUT", 0.3)
    monkeypatch.setattr(hooks_module, "PAUSE", 0.01)


@pytest.mark.smoke
def test_a_command_gets_the_record_as_words_variables_and_json(tmp_path, program):
    out = tmp_path / "out.json"
    code = (
        "stm = {k: v for k, v in os.environ.items() if k.startswith('STM_')}\n"
        f"with open({str(out)!r}, 'w') as file:\n"
        "    json.dump([sys.argv[1:], stm, json.load(sys.stdin)], file)"
    )
    hooks = Hooks(program(code, '"it is {class}" {p}:{line} "{}" $HOME;'))
    result = called(hooks)
    assert (result["kind"], result["target"], result["status"]) == (
        "command",
        sys.executable,
        "ok",
    )
    assert result["ms"] > 0
    assert "stderr" not in result
    words, variables, record = json.loads(out.read_text(encoding="utf-8"))
    assert words == ["it is generic defects", "0.75:", "{}", "$HOME;"]
    assert {"STM_CLASS": "generic defects", "STM_P": "0.75", "STM_LINE": ""}.items() <= (
        variables.items()
    )
    assert record == ALARM
    assert hooks.close() == []


def test_a_class_is_one_word_and_no_code(tmp_path, program):
    code = f"open({str(tmp_path / 'out')!r}, 'w').write(repr(sys.argv[1:]))"
    evil = "a b\"; touch x '$(y) \0{p}"
    called(Hooks(program(code, "{class}")), ALARM | {"class": evil})
    written = (tmp_path / "out").read_text(encoding="utf-8")
    safe = re.sub('["%&|<>^!]', "_", evil) if os.name == "nt" else evil
    assert written == repr([safe.replace("\0", "")])


def test_of_what_a_command_says_no_more_than_the_beginning_is_kept():
    kept = []
    hooks_module._read_some(io.BytesIO(b"x" * 100_000), kept)
    assert list(map(len, kept)) == [hooks_module.KEPT]


def test_only_a_bad_tip_calls(program):
    hooks = Hooks(program(""))
    for changed in ({"event": "clear"}, {"rule": "tip change"}, {"event": "line"}):
        hooks.push(ALARM | changed)
    assert hooks.close() == []


def test_what_a_command_says_as_it_fails_is_logged_escaped_and_short(tmp_path, program):
    code = (
        "sys.stderr.buffer.write(b'\\xff\\x1b[31m first\\n\\n' + b'y' * 900 + b'\\n3\\n4\\n')\n"
        "sys.exit(3)"
    )
    result = called(Hooks(program(code)))
    assert result["status"] == "exit code 3"
    assert result["stderr"] == ["\ufffd\\x1b[31m first", "y" * 200, "3"]
    with EventLog(tmp_path, "simulated") as log:
        log.write("hook", **result)
    (record,) = read_log(log.path())
    assert list(record)[5:] == ["kind", "target", "status", "ms", "stderr"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_command_that_writes_for_ever_is_ended(stream, program, impatient):
    result = called(Hooks(program(f"while True: sys.{stream}.write('x' * 9999)")))
    assert result["status"] == "ended after 0.3 s"
    assert sum(map(len, result.get("stderr", []))) <= 600


@pytest.mark.skipif(os.name == "nt", reason="asks for a process by its number")
def test_a_command_that_hangs_is_ended_with_all_that_it_started(
    tmp_path, program, impatient
):
    started = tmp_path / "started"
    code = (
        "import subprocess\n"
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(started)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    hooks_module.TIME_OUT = 2.0  # put back by `impatient`
    assert called(Hooks(program(code)))["status"] == "ended after 2 s"
    number = int(started.read_text(encoding="utf-8"))

    def is_gone():
        try:
            stat = Path(f"/proc/{number}/stat").read_text(encoding="utf-8")
            return stat.split()[2] == "Z"
        except FileNotFoundError:
            return True

    wait(is_gone)


def test_a_child_that_holds_standard_error_holds_nobody_up(program):
    code = (
        "import subprocess\n"
        "subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(5)'])"
    )
    hooks = Hooks(program(code))
    assert called(hooks)["status"] == "ok"
    assert called(hooks)["status"] == "ok"


def test_a_program_that_is_removed_or_crashes_ends_nothing(tmp_path, program):
    if os.name != "nt":
        tool = tmp_path / "tool"
        tool.write_text("#!/bin/sh\nkill -9 $$\n", encoding="utf-8")
        tool.chmod(0o700)
        hooks = Hooks(str(tool))
        assert called(hooks)["status"] == "exit code -9"
        tool.unlink()
        assert called(hooks)["status"] == "failed (No such file or directory)"
        assert called(hooks, ALARM | {"class": "\udc80"})["status"].startswith("failed")


def test_a_busy_hook_delays_nobody_and_loses_the_oldest(tmp_path, program):
    go, out = tmp_path / "go", tmp_path / "out"
    code = (
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        f"open({str(out)!r}, 'a').write(os.environ['STM_SEQ'] + ' ')"
    )
    hooks, most = Hooks(program(code)), MOST_WAITING
    hooks.push(ALARM | {"seq": 0})
    wait(lambda: hooks._workers[0]._calling)
    began = time.monotonic()
    for seq in range(1, most + 4):
        hooks.push(ALARM | {"seq": seq})
    assert time.monotonic() - began < 1
    go.touch()
    results = []
    wait(lambda: results.extend(hooks.results()) or len(results) == most + 1, 60)
    kept = [0, *range(4, most + 4)]
    assert out.read_text(encoding="utf-8").split() == list(map(str, kept))
    assert [result.get("dropped") for result in results[:3]] == [None, 3, None]


def test_at_the_end_hooks_get_a_moment_and_no_more(tmp_path, program):
    hooks = Hooks(program(f"open({str(tmp_path / 'out')!r}, 'w').write('x')"))
    hooks.push(ALARM)
    assert [result["status"] for result in hooks.close(20)] == ["ok"]
    assert (tmp_path / "out").exists()
    hooks = Hooks(program("time.sleep(60)"))
    hooks.push(ALARM)
    hooks.push(ALARM)
    wait(lambda: hooks._workers[0]._calling)
    began = time.monotonic()
    results = hooks.close(0.1)
    assert time.monotonic() - began < 5
    assert {result["status"] for result in results} <= {
        "ended: the watching ended",
        "1 not done: the watching ended",
        "2 not done: the watching ended",
    }
    assert results
    wait(lambda: not hooks._workers[0]._thread.is_alive(), 5)
    hooks = Hooks(program("time.sleep(60)"))
    hooks.push(ALARM)
    wait(lambda: hooks._workers[0]._calling)
    assert len(hooks.close(0.1)) == 1


def test_a_url_gets_the_record_and_the_secret_which_nobody_else_sees(
    tmp_path, monkeypatch, program
):
    (tmp_path / "token").write_text("Bearer s3cret\n", encoding="utf-8")
    monkeypatch.setenv("STATION", "stm2")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    headers = [f"Authorization: file:{tmp_path / 'token'}", "X-Station:env:STATION"]
    with served(204) as (address, got):
        result = called(Hooks(url=f"{address}/path?key=hidden", headers=headers))
    ((path, sent, body),) = got
    assert path == "/path?key=hidden"
    assert (sent["Authorization"], sent["X-Station"]) == ("Bearer s3cret", "stm2")
    assert sent["Content-Type"] == "application/json"
    assert json.loads(body) == ALARM
    assert result | {"ms": 0} == {"kind": "url", "target": address, "status": "ok", "ms": 0}


def test_a_url_may_stand_in_a_file_or_variable(monkeypatch):
    with served(200) as (address, got):
        monkeypatch.setenv("HOOK", f"{address}?token=1")
        result = called(Hooks(url="env:HOOK"))
    assert result["target"] == address
    assert got[0][0] == "/?token=1"


@pytest.mark.parametrize(
    ("codes", "tries", "status"),
    [
        ((500, 429, 200), 3, "ok"),
        ((503,), 3, "HTTP status 503"),
        ((404,), 1, "HTTP status 404"),
        ((307,), 1, "HTTP status 307"),
    ],
)
def test_a_url_is_tried_three_times_and_no_redirect_is_followed(
    codes, tries, status, impatient
):
    with (
        served(200) as (other, elsewhere),
        served(*codes, location=other) as (address, got),
    ):
        assert called(Hooks(url=address))["status"] == status
    assert len(got) == tries
    assert not elsewhere


def test_a_url_that_nobody_serves_or_that_drips_is_given_up(impatient):
    with served(200) as (address, _):
        pass
    assert "refused" in called(Hooks(url=address))["status"]
    with served(200, slow=0.02) as (address, got):
        began = time.monotonic()
        assert called(Hooks(url=address))["status"].startswith("failed")
    assert len(got) == 3
    assert time.monotonic() - began < 15


def test_command_and_url_do_not_wait_for_one_another(program):
    with served(200) as (address, _):
        hooks = Hooks(program("time.sleep(60)"), address)
        assert called(hooks)["kind"] == "url"
        hooks.close(0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"command": "no-such-program {class}"}, "there is no program 'no-such-program'"),
        ({"command": "  "}, "there is no program ''"),
        ({"command": 'a "b'}, "No closing quotation"),
        ({"command": "a {colour}"}, "an alarm has no 'colour'. Choose of: class, rule, p"),
        ({"url": "ftp://a/b"}, "must begin with http:// or https:// and a host"),
        ({"url": "http:///b"}, "must begin with"),
        ({"url": "http://a:99999/b"}, "must begin with"),
        ({"url": "http://a/b c"}, "must begin with"),
        ({"url": "https://me:s3cret@a/b"}, "holds a name or password"),
        ({"url": "env:NOT_THERE"}, "`--on-bad-url`: env:NOT_THERE is empty"),
        ({"url": "http://a", "headers": ["A: s3cret"]}, "from a file or a variable"),
        ({"url": "http://a", "headers": ["A b: env:B"]}, "must read"),
        ({"url": "http://a", "headers": ["A: env:BROKEN"]}, "more than one line"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_watched(
    arguments, message, monkeypatch
):
    monkeypatch.setenv("BROKEN", "s3cret\nX: s3cret")
    with pytest.raises(UsageError) as refused:
        Hooks(**arguments)
    assert message in str(refused.value)
    assert "s3cret" not in str(refused.value)


def test_a_file_of_a_secret_must_be_there(tmp_path):
    with pytest.raises(InputError, match="none: does not exist"):
        Hooks(url="http://a", headers=[f"A: file:{tmp_path / 'none'}"])

"""The channel is found by its name, whatever its number means, and checked by a grab."""

import pytest
from helpers import ONCE
from live.controller import SIGNALS, SLOTS, Controller
from live.watched import Watched, check_lines, hurry, scan, watching

from stm_keras.live.events import Note
from stm_keras.live.nanonis import NanonisSource
from stm_keras.live.nanonis_channel import ChannelError, find_channels, unit_of

pytestmark = ONCE
SLOT_NAMES = [SIGNALS[number] for number in SLOTS]


def test_a_name_is_looked_up_among_signals_and_slots():
    assert find_channels([0, 30], SIGNALS, SLOT_NAMES, None) == ((30, "Z (m)"),)
    assert find_channels([0, 2], SIGNALS, SLOT_NAMES, None) == ((2, "Z (m)"),)
    assert find_channels([0, 30], SIGNALS, [], None) == ((30, "Z (m)"),)
    assert find_channels([0, 2], [], SLOT_NAMES, None) == ((2, "Z (m)"),)
    both = [*SIGNALS[:14], "Z (m)", *SIGNALS[15:]], [*SLOT_NAMES[:20], "Z (m)"]
    assert find_channels([14, 20], *both, None) == ((14, "Z (m)"), (20, "Z (m)"))


def test_slots_of_which_nobody_tells_the_names_may_each_be_it():
    assert find_channels([2, 7], SIGNALS, [], "z") == ((2, "Z (m)"), (7, "Z (m)"))
    assert find_channels([0, 7], SIGNALS, [], None, True) == (
        (0, "Current (A)"),
        (7, "Current (A)"),
    )
    assert find_channels([2, 7], [], [], None) == ((2, "Z (m)"), (7, "Z (m)"))
    with pytest.raises(ChannelError):
        find_channels([2, 7], SIGNALS, [], "I")  # Input 2 (V), or another


def test_at_constant_height_the_current_is_meant():
    assert find_channels([0, 30], SIGNALS, [], None, True) == ((0, "Current (A)"),)
    assert find_channels([0, 30], SIGNALS, [], "Z", True) == ((30, "Z (m)"),)
    with pytest.raises(
        ChannelError, match=r"'Current \(A\)' is recorded \(the feedback is off"
    ):
        find_channels([30], SIGNALS, [], None, True)


@pytest.mark.parametrize("wanted", ["Z (m)", "Z", "z", "Z ("])
def test_a_channel_may_be_named_by_its_beginning(wanted):
    names = ["Z (m)", "Zx (m)", "Current (A)"]
    assert find_channels([0, 1, 2], names, [], wanted)[0] == (0, "Z (m)")
    assert find_channels([0, 1, 2], names, [], "cur")[0] == (2, "Current (A)")


def test_a_beginning_of_several_names_is_refused():
    names = ["LI X (V)", "LI Y (V)", "LI X2\x1b (V)"]
    with pytest.raises(
        ChannelError, match=r"'LI' may be 'LI X \(V\)', 'LI Y \(V\)', 'LI X2"
    ):
        find_channels([0, 1, 2], names, [], "LI")
    assert find_channels([0, 1, 2], names, [], "LI X")[0] == (0, "LI X (V)")


def test_a_missing_channel_says_which_there_are():
    with pytest.raises(ChannelError) as caught:
        find_channels([0, 24], SIGNALS, SLOT_NAMES, None)
    assert str(caught.value) == (
        "No channel 'Z (m)' is recorded. These are: 'Current (A)', 'Bias (V)'. Add it to the "
        "channels of Scan Control in Nanonis, or name another one with --channel."
    )
    for numbers, signals in (([200], SIGNALS), ([-1], SIGNALS), ([24], [])):
        with pytest.raises(ChannelError, match="Their names are not told"):
            find_channels(numbers, signals, [], None)
    with pytest.raises(ChannelError, match="No channel 'z \\(m\\)' is"):
        find_channels([], ["Z (m)"], [], "z (m)")


def test_only_the_exact_name_is_the_height():
    with pytest.raises(ChannelError):
        find_channels([0, 1, 2, 3], ["Z (m) ", "Z", "z (m)", "Z2 (m)"], [], None)


def test_units_are_in_names():
    units = [unit_of(name) for name in ("Z (m)", "LI (demod) X (V)", "Counts", "a) b", "(")]
    assert units == ["m", "V", "", "", ""]


@pytest.mark.parametrize("errors", ["alone", "zeros"])
@pytest.mark.parametrize(
    "moods",
    [
        {"numbers": "signals", "channels": (0, 30), "slots_told": False},
        {"numbers": "signals", "channels": (0, 30), "slots_told": True},
        {"numbers": "slots", "channels": (0, 2), "slots_told": True},
        {"numbers": "slots", "channels": (0, 2), "slots_told": False},
    ],
)
def test_slots_and_signals_are_told_apart(monkeypatch, moods, errors):
    hurry(monkeypatch)
    with Controller(errors=errors, **moods) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(12)
        watched.until_ended()
        check_lines(watched.lines(), scan(1))
        assert watched.scans()[0][0].channel == "Z (m)"


def test_a_number_that_both_could_mean_is_settled_by_a_grab(monkeypatch):
    hurry(monkeypatch)
    signals, slots = list(SIGNALS), list(SLOTS)
    signals[14] = "Z (m)"
    slots[14], slots[20], signals[30] = 5, 14, "Input 30 (V)"
    moods = {"signals": signals, "slots": slots, "channels": (14, 20), "numbers": "slots"}
    with Controller(**moods) as controller, watching(controller) as watched:
        for turn in range(2):
            controller.start(scan(turn))
            controller.step(12)
            watched.until_ended(turn + 1)
            check_lines(watched.scans()[turn][1], scan(turn))
        assert not watched.of(Note)
        asked = [
            each.body[:4] for each in controller.log if each.name == "Scan.FrameDataGrab"
        ]
        assert asked.count(b"\0\0\0\x0e") == 1


def test_slots_that_are_assigned_anew_are_found_again(monkeypatch):
    hurry(monkeypatch)
    moods = {"numbers": "slots", "channels": (0, 2, 7)}
    with Controller(**moods) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(12)
        watched.until_ended(1)
        controller.stop()
        controller.moods.slots[2], controller.moods.slots[7] = 7, 30
        controller.start(scan(2))
        controller.step(12)
        watched.until_ended(2)
        check_lines(watched.scans()[1][1], scan(2))


def test_slots_that_are_assigned_anew_in_mid_scan_are_found_again(monkeypatch):
    hurry(monkeypatch)
    moods = {"numbers": "slots", "channels": (0, 2, 7)}
    with Controller(**moods) as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(4)
        watched.until(lambda: len(watched.lines("backward")) == 2)
        controller.moods.slots[2], controller.moods.slots[7] = 7, 30
        controller.step(8)
        watched.until_ended(1)
        check_lines(watched.lines(), scan(1))
        (note,) = watched.of(Note)
        assert "'Z (m)', and gives a frame of 'Input 7 (V)'" in note.text


def test_a_channel_that_is_recorded_no_more_is_told_once_a_scan(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        controller.start(scan(1))
        controller.step(12)
        watched.until_ended(1)
        controller.stop()
        controller.moods.channels = (0, 24)
        controller.start(scan(2))
        controller.step(12)
        watched.until(lambda: watched.of(Note))
        controller.stop()
        controller.moods.channels = (30,)
        controller.wait(lambda: controller.names()[-1] == "Scan.StatusGet")
        controller.start(scan(3))
        controller.step(12)
        watched.until_ended(2)
        check_lines(watched.scans()[1][1], scan(3))
        (note,) = watched.of(Note)
        assert "These are: 'Current (A)', 'Bias (V)'" in note.text


def test_constant_height_is_seen_when_a_scan_begins(monkeypatch):
    hurry(monkeypatch)
    with Controller() as controller, watching(controller) as watched:
        for turn, (feedback, name, unit) in enumerate(
            [(0, "Current (A)", "A"), (1, "Z (m)", "m")]
        ):
            controller.moods.feedback = feedback
            controller.start(scan(turn))
            controller.step(12)
            watched.until_ended(turn + 1)
            frame = watched.scans()[turn][0]
            assert (frame.channel, frame.unit) == (name, unit)


def failure(controller, **options):
    """Return the error with which a source begins."""
    watched = Watched(NanonisSource("127.0.0.1", controller.ports[2:], every=0, **options))
    watched.thread.join(10)
    watched.source.close()
    assert watched.events == []
    return str(watched.error)


def test_a_wrong_channel_is_an_error_at_the_start():
    with Controller(channels=(0, 24)) as controller:
        assert (
            "No channel 'Z (m)' is recorded. These are: 'Current (A)', 'Bias (V)'"
            in failure(controller)
        )
        assert "No channel 'Phase' is recorded" in failure(controller, channel="Phase")
        assert controller.grabs == 0


def test_what_is_in_slots_that_nobody_tells_is_said_at_the_start():
    moods = {"numbers": "slots", "channels": (0, 1, 7), "slots_told": False}
    with Controller(**moods) as controller:
        names = ", ".join(f"'{SLOT_NAMES[number]}'" for number in (0, 1, 7))
        assert f"No channel 'Z (m)' is recorded. These are: {names}." in failure(controller)
        assert controller.grabs == 3


def test_a_frame_of_another_channel_is_an_error_at_the_start():
    moods = {"channels": (2,), "numbers": "signals", "slots_told": True}
    with Controller(**moods) as controller:
        assert failure(controller) == (
            "Nanonis names channel 2 'Z (m)', and gives a frame of 'Input 2 (V)' with 6 lines for "
            "it. Check the channels of Scan Control in Nanonis, or name another one with --channel."
        )


def test_a_name_in_latin_1_is_a_name(monkeypatch):
    hurry(monkeypatch)
    signals = list(SIGNALS)
    signals[30] = "Zr\xe9 (m)"
    with (
        Controller(signals=signals) as controller,
        watching(controller, channel="zr\xe9") as watched,
    ):
        controller.start(scan(1))
        controller.step(12)
        watched.until_ended()
        check_lines(watched.lines(), scan(1))
        assert watched.scans()[0][0].channel == "Zr\xe9 (m)"

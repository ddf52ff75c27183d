"""Which channel of a Nanonis controller is judged, and the settings of its scan.

The numbers of channels count the 128 signals in some releases and the 24 slots of the Signals
Manager in others, and a wrong one gives another input without an error. So both readings are
looked up by name, and what is grabbed must return the name (`nanonis_grab`). Some controllers
count slots and do not tell what is in them: then each is grabbed to see it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stm_keras.live.events import Frame
from stm_keras.live.nanonis_codec import NanonisError, RefusedError
from stm_keras.terminal import one_line

HEIGHT, CURRENT = "Z (m)", "Current (A)"
SLOTS = 24  # of the Signals Manager
Ask = Callable[..., tuple]  # of a client: name of a command, its values


class ChannelError(NanonisError):
    """The channel to judge is not recorded, or nobody can tell which it is."""


@dataclass(frozen=True)
class Recorded:
    """What the controller records, and the settings of its scan.

    Args:
        channels: tuple of (number, name) that may be the one to judge, the likelier first.
        lines: int. Of the frame.
        period: float. Of one line forward and backward, in s.
        frame: `Frame`. The settings, without channel and direction.
        continuous: bool. The next scan begins, perhaps in an empty frame, when this one ends.
    """

    channels: tuple[tuple[int, str], ...]
    lines: int
    period: float
    frame: Frame
    continuous: bool = False


class Optional:
    """Ask what a release may not know, each only once a scan if it does not.

    Args:
        ask: callable. `Client.ask`.
    """

    def __init__(self, ask: Ask):
        self.ask = ask
        self.unknown: set[str] = set()

    def __call__(self, name: str, *arguments: int) -> tuple | None:
        """Return the values of a command, None if the controller refuses it."""
        if name in self.unknown:
            return None
        try:
            return self.ask(name, *arguments)
        except RefusedError:
            self.unknown.add(name)
            return None


def read_recorded(ask: Ask, optional: Optional, wanted: str | None) -> Recorded:
    """Ask for the channels that are recorded and the settings of the scan.

    Args:
        ask: callable. `Client.ask`.
        optional: `Optional` of the same connection.
        wanted: str. Name of a channel or its beginning; None for the height or, where the
            feedback is off, the current.

    Raises:
        ChannelError: No such channel is recorded, or several are.
    """
    numbers, pixels, lines = ask("Scan.BufferGet")
    signals = (optional("Signals.NamesGet") or ([],))[0]
    slots = (optional("Signals.InSlotsGet") or ([],))[0]
    constant_height = optional("ZCtrl.OnOffGet") == (0,)
    speed = optional("Scan.SpeedGet") or (None,) * 4
    return Recorded(
        find_channels(numbers, signals, slots, wanted, constant_height),
        lines,
        sum(each or 0.0 for each in speed[2:4]) or 1.0,
        Frame(
            pixels,
            lines,
            **read_place(optional),
            line_time=speed[2],
            bias=(optional("Bias.Get") or (None,))[0],
            setpoint=(optional("ZCtrl.SetpntGet") or (None,))[0],
        ),
        continuous=(optional("Scan.PropsGet") or (0,))[0] == 1,
    )


def read_place(optional: Optional) -> dict:
    """Return where the frame lies: `center`, `size` in m and `angle` in degrees."""
    place = optional("Scan.FrameGet")
    if place is None:
        return {}
    return {"center": place[:2], "size": place[2:4], "angle": place[4]}


def find_channels(
    numbers: list[int],
    signals: list[str],
    slots: list[str],
    wanted: str | None,
    constant_height: bool = False,
) -> tuple[tuple[int, str], ...]:
    """Return which recorded channels may be the wanted one: tuple of (number, name).

    Args:
        numbers: list of int. What is recorded, numbered as signals or as slots.
        signals, slots: lists of str. Names of both, [] where they are not told.
        wanted: str. Name or beginning; None for the height, or the current at constant height.
        constant_height: bool. The feedback is off.

    Raises:
        ChannelError: None is it, or several names begin so. Where nobody tells what is in the
            slots, each may be it.
    """
    exact = wanted is None
    wanted = (CURRENT if constant_height else HEIGHT) if wanted is None else wanted
    readings = []
    for names in (signals, slots):
        if names and all(0 <= number < len(names) for number in numbers):
            readings.append([(number, names[number]) for number in numbers])
    found: list[tuple[int, str]] = []
    for reading in readings:
        found += [each for each in _matching(reading, wanted, exact) if each not in found]
    if not slots and all(0 <= number < SLOTS for number in numbers):
        found += [
            each for each in _untold(numbers, signals, wanted, exact) if each not in found
        ]
    if found:
        return tuple(found)
    names = [name for reading in readings for _, name in reading]
    raise ChannelError(none_is(wanted, names, constant_height and exact))


def _matching(reading, wanted, exact):
    """Return the channels of one reading that are meant: those named so, or begin so."""
    names = _meant([name for _, name in reading], wanted, exact)
    if len(names) > 1:
        raise ChannelError(
            f"'{one_line(wanted)}' may be {_listed(names)}. Give the whole name of the channel."
        )
    return [each for each in reading if each[1] in names]


def _meant(names, wanted, exact):
    """Return which names are meant, each once: the one that is so, or those that begin so."""
    names = list(dict.fromkeys(names))
    if exact or wanted in names:
        return [wanted] if wanted in names else []
    lower = wanted.lower()
    whole = [name for name in names if name.partition(" (")[0].lower() == lower]
    return whole or [name for name in names if name.lower().startswith(lower)]


def _untold(numbers, signals, wanted, exact):
    """Return what each number may be if it is that of a slot of which nobody tells the name."""
    names = _meant(signals or [wanted], wanted, exact)
    return [(number, names[0]) for number in numbers] if len(names) == 1 else []


def none_is(wanted: str, names: list[str], constant_height: bool = False) -> str:
    """Say that a channel is not recorded, and which are: `names`."""
    reason = " (the feedback is off, so the current is judged)" if constant_height else ""
    there = f"These are: {_listed(names)}." if names else "Their names are not told."
    return (
        f"No channel '{one_line(wanted)}' is recorded{reason}. {there} Add it to the channels "
        "of Scan Control in Nanonis, or name another one with --channel."
    )


def _listed(names):
    return ", ".join(f"'{one_line(name)}'" for name in dict.fromkeys(names))


def unit_of(channel: str) -> str:
    """Return the unit in the name of a channel: "m" of "Z (m)", "" where there is none."""
    _, found, rest = channel.rpartition("(")
    return rest.rstrip()[:-1] if found and rest.rstrip().endswith(")") else ""

"""What one rater is shown, and says, scan after scan.

desk = Desk(pile, rater_file, read_marks(), sitting(pile.cards, "Ada"))
desk.show(desk.position)
desk.save(desk.position, {"marks": ["rows"], "segments": [], "unsure": False, "seconds": 2.5})
"""

import base64
from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice

from stm_keras.errors import InputError, UsageError
from stm_keras.labelling.marks import Mark
from stm_keras.labelling.pile import Pile
from stm_keras.labelling.rater_file import RaterFile

LONGEST = 1e6  # s that anybody looks at a picture
AHEAD = 2  # pictures that the page fetches before they are asked for
Said = dict[str, object]


class Desk:
    """The pictures of a rater in their order, and what was said of each.

    Args:
        pile: `Pile`.
        file: `RaterFile`, whose records of before count.
        marks: that may be set.
        order: list of int, numbers of cards as `sitting` returns them.
        verdicts: of the model, a text on each card, where raters are to see it; else None.

    Attributes:
        position: int. Place that comes next: the first one of which nothing was said after the
            one that was saved last, else from the start; their number at the end.
        renewed: int. Pictures that come again, as what was said of them has other marks.
        other_marks: list of str. These marks.
    """

    def __init__(
        self,
        pile: Pile,
        file: RaterFile,
        marks: Sequence[Mark],
        order: Sequence[int],
        verdicts: Sequence[str] | None = None,
    ):
        self.pile, self.file, self.marks = pile, file, tuple(marks)
        self.order, self.verdicts = list(order), verdicts
        self._again = [number in order[:place] for place, number in enumerate(order)]
        latest = file.latest()
        keys = [self._key(place) for place in range(len(order))]
        known = {place: latest[key] for place, key in enumerate(keys) if key in latest}
        names = {mark.name for mark in self.marks}
        self._said = {place: said for place, said in known.items() if _set(said) <= names}
        others = [_set(said) - names for said in known.values()]
        self.renewed = sum(map(bool, others))
        self.other_marks = sorted(set().union(*others))
        self.position = next(self._waiting(0), len(self.order))

    def progress(self) -> dict:
        """Return how far the rater is: a dict that is ready for JSON."""
        said = Counter(mark for each in self._said.values() for mark in each.marks)
        return {
            "rater": self.file.rater,
            "position": self.position,
            "ahead": list(islice(self._waiting(self.position), 1, 1 + AHEAD)),
            "total": len(self.order),
            "done": len(self._said),
            "counts": {mark.name: said[mark.name] for mark in self.marks},
        }

    def show(self, position: int) -> dict:
        """Return a picture, and what was said of it before: a dict that is ready for JSON.

        Raises:
            UsageError: There is no such picture.
        """
        card = self.pile.cards[self._number(position)]
        ways = [False, True][: len(card.places)]
        heights = [self.pile.heights(card, backward).astype("<f4") for backward in ways]
        said = self._said.get(position)
        return {
            "position": position,
            "name": card.name,
            "frame": card.frame,
            "lines": card.lines,
            "rows": card.rows,
            "shape": card.shape,
            "ratio": card.ratio,
            "heights": [
                base64.b64encode(each.tobytes()).decode("ascii") for each in heights
            ],
            "said": said
            and {
                "marks": said.marks,
                "segments": [each.model_dump(by_alias=True) for each in said.segments],
                "unsure": said.unsure,
            },
            "model": self.verdicts and self.verdicts[self._number(position)],
        }

    def save(self, position: int, said: Said) -> None:
        """Write down what the rater says of a picture: it is on the disk when this returns.

        Args:
            said: `marks`, a list of names; `segments`, a list of {"from": line, "marks": names}
                where another tip begins in the scan; `unsure`; `seconds` that it took.

        Raises:
            UsageError: There is no such picture.
            InputError: What is said makes no sense.
            OutputError: It cannot be written.
        """
        card = self.pile.cards[self._number(position)]
        record = self.file.append(
            **self._checked(said, card.lines),
            scan=card.scan,
            path=str(card.path),
            index=card.index,
            model_shown=self.verdicts is not None,
            again=self._again[position],
        )
        self._said[position] = record
        self.position = next(self._waiting(position + 1), len(self.order))

    def _checked(self, said, lines):
        choices = [mark.name for mark in self.marks]
        names = set(choices)
        marks, segments = said.get("marks"), said.get("segments", [])
        unsure, seconds = said.get("unsure", False), said.get("seconds")
        if not _are_names(marks, names) or not isinstance(unsure, bool):
            raise InputError(f"The label: `marks` are of {', '.join(sorted(names))}.")
        if not marks and not unsure:
            raise InputError("The label: set a mark, or ? if you are not sure.")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST:
            raise InputError("The label: `seconds` is the time that it took.")
        starts = [each.get("from") for each in segments] if _are_dicts(segments) else [None]
        fine = all(type(start) is int and 0 <= start < lines for start in starts)
        if not fine or starts and (starts[0] != 0 or sorted(set(starts)) != starts):
            raise InputError(
                "The label: `segments` begin at line 0, and then at later lines of the scan."
            )
        if not all(_are_names(each.get("marks"), names) for each in segments):
            raise InputError("The label: each of the `segments` has marks.")
        return {
            "marks": marks,
            "choices": choices,
            "segments": [
                {"from": each["from"], "marks": each["marks"]} for each in segments
            ],
            "unsure": unsure,
            "seconds": round(seconds, 2),
        }

    def _number(self, position):
        if not 0 <= position < len(self.order):
            raise UsageError(
                f"There is no picture {position}: there are {len(self.order)}."
            )
        return self.order[position]

    def _key(self, position):
        return self.pile.cards[self.order[position]].scan, self._again[position]

    def _waiting(self, start):
        """Yield the places of which nothing was said: those from `start` on, then the others."""
        for place in chain(
            range(start, len(self.order)), range(min(start, len(self.order)))
        ):
            if place not in self._said:
                yield place


def _set(record):
    """Return all marks that a record sets, on the scan or on a part of it."""
    return {mark for each in (record, *record.segments) for mark in each.marks}


def _are_names(value, names):
    return (
        isinstance(value, list)
        and all(isinstance(each, str) for each in value)
        and set(value) <= names
        and len(set(value)) == len(value)
    )


def _are_dicts(value):
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)

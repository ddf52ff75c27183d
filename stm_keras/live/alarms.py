"""When is it time to call somebody: alarms that do not flicker.

alarms = Alarms(bad=["generic defects"])
for event, fields in alarms.push(record):
    log.write(event, **fields)
"""

from collections.abc import Iterable

from stm_keras.errors import UsageError
from stm_keras.live.events import BACKWARD
from stm_keras.live.records import scan_of

BAD_TIP, TIP_CHANGE = "bad tip", "tip change"
UNKNOWN, CONNECTION = "unknown surface", "connection lost"
BAD = ("generic defects",)  # classes, unless told otherwise
Told = list[tuple[str, dict]]


class Alarms:
    """Turns records into alarms and all-clears. Pure: no clock, no file, no thread.

    Four rules, all on the tip of now, which is that since the last tip change:

    - *bad tip*: the bad classes together have a probability of `alarm_at` or more for `lines`
      lines in a row. Cleared by the first line on which it is below `release_at` and the
      verdict is a class.
    - *tip change*: a change was called that was not called before. There is no all-clear.
    - *unknown surface*: that is the verdict for `lines` lines in a row. Cleared by as many in
      a row on which it is a class.
    - *connection lost*: at once; cleared when the source is found again.

    A line of another verdict than a class ("unsure", "unknown size") begins the count of bad
    lines anew; one without a verdict, or that was lost, changes nothing. The tip is the same in
    the next scan: what was bad stays bad until it is good again, and is not told twice. The
    lines in a row are of one scan. Of each rule there is one alarm in a scan at most; between
    two scans each outage is told. Backward lines, and scans that are `quiet`, are ignored.

    After `quiet_after` alarms that nobody answered with a label there are no more until somebody
    does; one note says so. All-clears do not count: one lies between any two alarms of a rule.

    Args:
        bad: classes that are bad. None: there is no rule *bad tip*.
        alarm_at, release_at: float. Probabilities.
        lines: int. In a row.
        quiet_after: int, or None.
        classes: of the model, all that there are. None where nobody knows.

    Raises:
        UsageError: An argument is not what it must be.
    """

    def __init__(
        self,
        bad: Iterable[str] = BAD,
        alarm_at: float = 0.7,
        release_at: float = 0.4,
        lines: int = 3,
        quiet_after: int | None = None,
        classes: Iterable[str] | None = None,
    ):
        self.bad = tuple(bad)
        self.alarm_at, self.release_at = alarm_at, release_at
        self.lines, self.quiet_after = lines, quiet_after
        _check(self, None if classes is None else tuple(classes))
        self._active: dict[str, bool] = {}  # rules that are on, and whether that was told
        self._unanswered = 0  # alarms since somebody looked
        self._scan: int | None = None
        self._running = self._quiet = False
        self._last_class: str | None = None
        self._begin()

    def push(self, record: dict) -> Told:
        """Take a record of any event.

        Returns:
            list of pairs of event and its fields: "alarm" and "clear" with `rule`, `class`,
            `p`, `scan`, `line`; "note" with `text`. `class` is that of the tip of now, of a bad
            tip the likeliest bad one; `p` is its probability, of a bad tip that of all bad
            classes together. Each of the last four may be None.
        """
        event = record["event"]
        if event == "scan":
            self._scan, self._quiet = scan_of(record), bool(record.get("quiet"))
            self._running = True
            self._begin()
        elif event == "end":
            self._running = False
        elif event == "label":
            self._unanswered = 0
        elif event == "lost":
            return self._raise(CONNECTION, None, None, None)
        elif event == "found":
            return self._clear(CONNECTION, self._last_class, None, None)
        elif event == "line" and not self._quiet and record.get("direction") != BACKWARD:
            return self._line(record)
        return []

    def _begin(self):
        self._raised: set[str] = set()  # rules that gave an alarm in this scan
        self._bad_lines = self._unknown_lines = self._known_lines = 0
        self._change_line = None

    def _line(self, record):
        line, told = record["line"], []
        now = record.get("since_change") or record
        verdict, name = now.get("verdict"), now.get("class")
        shares = now.get("probabilities") or {}
        changed = record.get("change_line")
        if changed is not None and changed != self._change_line:
            self._change_line = changed
            told += self._raise(TIP_CHANGE, name, shares.get(name), changed, keep=False)
        if record.get("lost") or verdict is None or not shares:
            return told
        known = verdict == name
        if known:
            self._last_class = name
        told += self._unknown_surface(verdict, known, name, shares, line)
        return told + self._bad_tip(known, name, shares, line)

    def _unknown_surface(self, verdict, known, name, shares, line):
        unknown = verdict == UNKNOWN
        self._unknown_lines = self._unknown_lines + 1 if unknown else 0
        self._known_lines = self._known_lines + 1 if known else 0
        if self._unknown_lines >= self.lines:
            return self._raise(UNKNOWN, None, None, line)
        if self._known_lines >= self.lines:
            return self._clear(UNKNOWN, name, shares.get(name), line)
        return []

    def _bad_tip(self, known, name, shares, line):
        if not self.bad:
            return []
        p = sum(shares.get(each, 0.0) for each in self.bad)
        bad = known and p >= self.alarm_at
        self._bad_lines = self._bad_lines + 1 if bad else 0
        if self._bad_lines >= self.lines:
            worst = max(self.bad, key=lambda each: shares.get(each, 0.0))
            return self._raise(BAD_TIP, worst, p, line)
        if known and p < self.release_at:
            return self._clear(BAD_TIP, name, shares.get(name), line)
        return []

    def _raise(self, rule, name, p, line, keep=True):
        """Tell of a rule, unless it is on already, or was told in this scan, or too often."""
        if rule in self._active or self._in_this_scan(rule):
            return []
        quiet = self.quiet_after is not None and self._unanswered >= self.quiet_after
        if keep:
            self._active[rule] = not quiet
        self._raised.add(rule)
        self._unanswered += 1
        if quiet:
            if self._unanswered > self.quiet_after + 1:
                return []
            text = f"Nobody answered {self.quiet_after} alarms: no more until a scan is labelled"
            return [("note", {"text": text})]
        return [("alarm", self._fields(rule, name, p, line))]

    def _in_this_scan(self, rule):
        return rule in self._raised and (self._running or rule != CONNECTION)

    def _clear(self, rule, name, p, line):
        if rule not in self._active:
            return []
        told = self._active.pop(rule)
        return [("clear", self._fields(rule, name, p, line))] if told else []

    def _fields(self, rule, name, p, line):
        return {"rule": rule, "class": name, "p": p, "scan": self._scan, "line": line}


def _check(alarms, classes):
    if not 0 < alarms.alarm_at <= 1:
        raise UsageError(
            f"`alarm_at` is a probability above 0. Received: {alarms.alarm_at}."
        )
    if not 0 <= alarms.release_at <= alarms.alarm_at:
        raise UsageError(
            f"`release_at` lies between 0 and `alarm_at`, {alarms.alarm_at}. "
            f"Received: {alarms.release_at}."
        )
    for name in ("lines", "quiet_after"):
        value = getattr(alarms, name)
        if value is not None and value < 1:
            raise UsageError(f"`{name}` must be 1 or more. Received: {value}.")
    unknown = [name for name in alarms.bad if classes is not None and name not in classes]
    if unknown:
        raise UsageError(
            f"The model has no class {unknown[0]!r}. Choose of: {', '.join(classes)}."
        )

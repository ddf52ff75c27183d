"""Show names and texts that come from files: nothing in them moves the cursor or lies."""

import re

# C0, DEL and C1 controls; marks that turn the direction of text; half characters, which
# stand for bytes of a file name that are not UTF-8.
UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Return a text with `\x1b` and its like in place of what a terminal would obey.

    Tab and newline stay. Bytes of a file name that are not UTF-8 become `\udc80` and so on, so
    that what is returned can always be encoded.
    """
    return UNSEEN.sub(lambda found: _escaped(found[0]), str(text))


def _escaped(character):
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"

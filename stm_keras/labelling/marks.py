"""The marks that raters may set: classes of the shipped model, or one's own.

    marks = read_marks("marks.toml")

A TOML file names them, with the key that sets each, a sentence of help, and example pictures:

    [[mark]]
    name = "atoms"
    key = "1"
    help = "Single atoms are resolved."
    examples = ["atoms.png"]
"""

from dataclasses import dataclass, field
from pathlib import Path

from stm_keras.data.dataset import SIX_CLASSES
from stm_keras.data.validate import canonical
from stm_keras.errors import ConfigError, InputError, UsageError
from stm_keras.terminal import one_line
from stm_keras.untrusted import parse_toml, read_text

KEYS = "123456789"
TAKEN = set("?cbfxh0")  # of the page
HELP = {  # how Gordon et al. (2020) asked for them: by the time that it takes to see something
    "bad/blurry": "Bad or blurry: nothing is seen, or only with effort.",
    "tip change": "Another tip begins in this scan; mark the line with c.",
}
RULE = (  # of the same paper, for these marks alone
    "What is seen at once is a feature; what is seen with effort is a feature and bad; what is not "
    "seen is bad."
)
KNOWN = ("name", "key", "help", "examples")
LARGEST = 1 << 20  # bytes of the file
MOST = 30  # marks


@dataclass(frozen=True)
class Mark:
    """A mark that a rater may set.

    Args:
        name: str.
        key: str. That sets it; "" where there are too many for digits.
        help: str. When to set it.
        examples: list of `Path` of pictures that show it.
    """

    name: str
    key: str = ""
    help: str = ""
    examples: list[Path] = field(default_factory=list)


def read_marks(classes: str | None = None) -> list[Mark]:
    """Return the marks that `--classes` says: names with commas between them, or a TOML file.

    None: those of Gordon et al. 2020.

    Raises:
        UsageError: There are fewer than two, or two that are alike.
        ConfigError: The file makes no sense.
        InputError: It cannot be read.
    """
    if classes is None:
        rows = [{"name": name, "help": HELP.get(name, "")} for name in SIX_CLASSES]
    elif classes.endswith(".toml"):
        rows = _read(Path(classes))
    else:
        rows = [{"name": name.strip()} for name in classes.split(",") if name.strip()]
    if not 2 <= len(rows) <= MOST:
        raise UsageError(
            f"`--classes`: name 2 to {MOST} marks, as good,bad, or a TOML file. "
            f"Received: {len(rows)}."
        )
    names = [canonical(row["name"]) for row in rows]
    alike = [
        row["name"] for row, name in zip(rows, names, strict=True) if names.count(name) > 1
    ]
    if alike:
        raise UsageError(f"`--classes`: {' and '.join(alike)} are one name.")
    asked = [row["key"] for row in rows if row.get("key")]
    wrong = [key for key in asked if asked.count(key) > 1 or key in TAKEN or len(key) != 1]
    if wrong:
        raise ConfigError(
            f"{classes}: {wrong[0]!r} is no key of a mark. Give each one letter or digit of "
            f"its own, none of {' '.join(sorted(TAKEN))}."
        )
    free = iter([key for key in KEYS if key not in asked])
    return [Mark(**{**row, "key": row.get("key") or next(free, "")}) for row in rows]


def _read(path):
    text = read_text(path, "a TOML file of marks", limit=LARGEST)
    rows = parse_toml(text, str(path), ConfigError).get("mark")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ConfigError(f'{path}: has no [[mark]] with name = "..."')
    return [_row(path, row) for row in rows]


def _row(path, row):
    unknown = sorted(set(row) - set(KNOWN))
    if unknown:
        raise ConfigError(
            f"{path}: {unknown[0]!r} is not known. Known: {', '.join(KNOWN)}."
        )
    texts = [row.get(key, "") for key in ("name", "key", "help")]
    examples = row.get("examples", [])
    if (
        not all(isinstance(text, str) for text in texts)
        or not texts[0].strip()
        or not isinstance(examples, list)
        or not all(isinstance(each, str) for each in examples)
    ):
        raise ConfigError(
            f"{path}: a mark has a name, and may have a key, a help, all texts, and examples, "
            "a list of pictures."
        )
    pictures = [path.parent / each for each in examples]
    missing = [each for each in pictures if not each.is_file()]
    if missing:
        raise InputError(f"{missing[0]}: no such file, an example of {path}.")
    name, key, words = (one_line(text.strip()) for text in texts)
    return {"name": name, "key": key, "help": words, "examples": pictures}

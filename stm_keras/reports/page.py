"""Pages from the templates beside this file: one file each, whole without network and script.

    page.write("scores.html", "evaluation.html", title="...", scores=scores)

Names and other texts are escaped by Jinja2; what is HTML already is `Markup`.
"""

import base64
import functools
import re

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from stm_keras import __version__
from stm_keras.evaluation.paper import CITATION, beside_paper
from stm_keras.evaluation.style import class_colour, verdict_colour
from stm_keras.evaluation.text import (
    PROTOCOLS,
    TITLES,
    bounds,
    counted,
    difference,
    fact,
    gain,
    number,
    percent,
    score,
    scores_of,
)
from stm_keras.files import atomic
from stm_keras.terminal import printable

FEW_SESSIONS = 10


def render(template: str, **context) -> str:
    """Fill in a template; one whose name ends in .html escapes what it is given."""
    return _environment().get_template(template).render(context)


def write(path, template, overwrite=False, **context):
    """Fill in a template into a file, piece by piece: it may be larger than memory.

    Raises:
        OutputError: The file exists, or cannot be written.
    """
    pieces = _environment().get_template(template).generate(context)
    with (
        atomic(path, overwrite) as temporary,
        temporary.open("w", encoding="utf-8") as file,
    ):
        file.writelines(pieces)


def macro(template: str, name: str, *arguments):
    """Call a macro of a template."""
    return getattr(_environment().get_template(template).module, name)(*arguments)


def caveats(scores, protocol, reference=False):
    """List what a reader must know before trusting the scores: list of str.

    Args:
        scores: dict, as of `score_predictions`.
        protocol: str such as `p2`, or None.
        reference: bool. Whether the scores stand beside those of Gordon et al. 2020.
    """
    listed = render(
        "caveats.txt",
        scores=scores,
        protocol=str(protocol).strip().lower(),
        protocols=PROTOCOLS,
        few_sessions=FEW_SESSIONS,
        citation=CITATION if reference and beside_paper(scores) else None,
    )
    return listed.strip().split("\n")


def text(value) -> Markup:
    """Escape a text, and control characters too, which no HTML may hold."""
    return escape(printable(value))


def markdown(value) -> str:
    """Write a fact so that Markdown shows it as it is, on one line."""
    shown = " ".join(fact(value).split())
    return re.sub(r"([\\`*<>|#$]|\[(?=[^\]]*\]\()|(?<!\w)_|_(?!\w))", r"\\\1", shown)


def data_url(picture: bytes) -> str:
    """Write a picture as an address that holds it."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode('ascii')}"


@functools.cache
def _environment():
    environment = Environment(
        loader=PackageLoader("stm_keras.reports"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
    environment.filters |= {
        "anchor": lambda name: name.lower().replace(" ", "-"),
        "bounds": bounds,
        "counted": counted,
        "breakable": lambda name: Markup(str(text(name)).replace("/", "/<wbr/>")),
        "data_url": data_url,
        "difference": difference,
        "gain": gain,
        "md": markdown,
        "number": number,
        "last_lines": lambda measured: measured[max(measured, key=int)],
        "percent": percent,
        "score": score,
        "scores_of": scores_of,
        "share": "{:.0%}".format,
        "sort_lines": lambda measured: sorted(measured, key=int),
    }
    environment.globals |= {
        "TITLES": TITLES,
        "class_colour": class_colour,
        "verdict_colour": verdict_colour,
        "version": __version__,
    }
    return environment


def _shown(value):
    """Make every text printable before it is escaped."""
    return value if isinstance(value, Markup) else printable(value)

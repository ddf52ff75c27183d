"""Pieces of the report's HTML: tables, pictures inside the file, escaped text."""

import base64
from html import escape

from stm_keras.evaluation.look import class_colour
from stm_keras.evaluation.plots import figure_png
from stm_keras.evaluation.wording import bounds, number


def table(heads, rows, escaped=False):
    """Write a table that scrolls on a narrow screen.

    Args:
        heads: sequence of str.
        rows: sequence of sequences of str.
        escaped: bool. Whether the rows are HTML already.

    Returns:
        str.
    """
    write = str if escaped else text
    head = "".join(f"<th>{text(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{write(value)}</td>' for value in row)}</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def bracketed(part, name):
    """Write a score of a dict with its interval."""
    return cell(part[name], part["intervals"].get(name))


def cell(value, limits):
    """Write a score and, where there are any, its bounds."""
    return f"{number(value)} {bounds(limits)}".rstrip()


def picture(figure, description, size="wide"):
    """Draw a figure into the page, `size` as the stylesheet knows it."""
    source = data_url(figure_png(figure))
    return f'<img class="{size}" src="{source}" alt="{text(description)}"/>'


def data_url(png):
    """Write a PNG, in bytes, as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def swatch(index):
    """Draw a spot in the colour of class `index`."""
    return f'<i style="background:{class_colour(index)}"></i>'


def anchor(name):
    """Name a section for links to it."""
    return name.lower().replace(" ", "-")


def text(value):
    """Escape text, and leave out control characters that no HTML may hold."""
    kept = "".join(c for c in str(value) if c.isprintable() or c in "\n\t")
    return escape(kept)

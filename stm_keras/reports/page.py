"""Pieces of HTML: escaped text, spots of colour, pictures inside the file, a whole page."""

import base64
from html import escape

from stm_keras.evaluation.style import class_colour
from stm_keras.evaluation.stylesheet import CSS
from stm_keras.terminal import printable


def data_url(png):
    """Write a PNG, in bytes, as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def swatch(index):
    """Draw a spot in the colour of class `index`."""
    return spot(class_colour(index))


def spot(colour: str) -> str:
    """Draw a spot of a colour."""
    return f'<i style="background:{colour}"></i>'


def anchor(name):
    """Name a section for links to it."""
    return name.lower().replace(" ", "-")


def text(value):
    """Escape text, and control characters too, which no HTML may hold."""
    return escape(printable(value))


def page(title, sections):
    """Write a page that needs no other file.

    Args:
        title: str.
        sections: list of pairs of str, a heading and its HTML.

    Returns:
        str.
    """
    links = " ".join(f'<a href="#{anchor(name)}">{text(name)}</a>' for name, _ in sections)
    body = "\n".join(
        f'<section id="{anchor(name)}"><h2>{text(name)}</h2>\n{content}\n</section>'
        for name, content in sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{text(title)}</title>\n<style>\n{CSS}</style>\n</head>\n<body>\n"
        f"<header><h1>{text(title)}</h1><nav>{links}</nav></header>\n"
        f"<main>\n{body}\n</main>\n<footer>Written by stm-keras.</footer>\n"
        "</body>\n</html>\n"
    )

"""The smallest pieces of HTML: escaped text, spots of colour, pictures inside the file."""

import base64
from html import escape

from stm_keras.evaluation.look import class_colour


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

"""Pieces of the report's HTML: tables, and pictures inside the file."""

from stm_keras.evaluation.plots import figure_png
from stm_keras.evaluation.text import bounds, number
from stm_keras.reports.page import data_url, text


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

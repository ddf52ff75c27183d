"""Pieces of HTML: escaped text, spots of colour, pictures inside the file, a whole page."""

import base64
from html import escape

from stm_keras.evaluation.plots import figure_png
from stm_keras.evaluation.style import class_colour
from stm_keras.evaluation.text import bounds, number
from stm_keras.terminal import printable

STYLE = """\
body { max-width: 78rem; }
.cards { grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); }
button.card {
  border: 2px solid transparent; color: inherit; font: inherit; text-align: left;
  cursor: pointer;
}
button.card strong { display: block; }
button.card.on { border-color: var(--link); }
.hint { color: var(--soft); font-size: 0.85rem; }
#scans th { position: sticky; top: 0; background: var(--paper); white-space: nowrap; }
#scans th[data-kind] { cursor: pointer; }
#scans th[data-kind]:hover { color: var(--link); }
#scans th.up::after { content: " \\25B2"; } #scans th.down::after { content: " \\25BC"; }
#scans td { vertical-align: middle; }
#scans td:first-child { min-width: 0; }
#scans td:nth-child(3) { white-space: normal; overflow-wrap: anywhere; min-width: 13rem; }
#scans td:nth-child(9) { white-space: normal; min-width: 9rem; }
#scans img { display: block; width: 6rem; border-radius: 4px; }
#scans svg { display: block; border-radius: 4px; }
#scans small { display: block; color: var(--soft); }
#scans .doubt { color: #c2410c; }
#scans .tiles svg { display: inline-block; vertical-align: middle; border-radius: 0; }
#scans tr.error td { color: #b91c1c; white-space: normal; }
tr.hidden { display: none; }
@media (prefers-color-scheme: dark) {
  #scans .doubt { color: #fb923c; } #scans tr.error td { color: #f87171; }
}
"""
SCRIPT = """\
const table = document.getElementById("scans"), body = table.tBodies[0];
const value = (row, column) => {
  const cell = row.cells[column];
  return cell ? cell.dataset.sort || "" : "";
};
table.querySelectorAll("th[data-kind]").forEach(head => head.addEventListener("click", () => {
  const column = head.cellIndex, number = head.dataset.kind === "num";
  const down = head.classList.contains("up");
  table.querySelectorAll("th").forEach(each => each.classList.remove("up", "down"));
  head.classList.add(down ? "down" : "up");
  const rows = [...body.rows].sort((one, other) => {
    const a = value(one, column), b = value(other, column);
    if (a === "" || b === "") return (a === "") - (b === "");
    const order = number ? a - b : a.localeCompare(b, undefined, {numeric: true});
    return down ? -order : order;
  });
  body.append(...rows);
}));
document.querySelectorAll("button.card").forEach(card => card.addEventListener("click", () => {
  const on = !card.classList.contains("on");
  document.querySelectorAll("button.card").forEach(each => each.classList.remove("on"));
  card.classList.toggle("on", on);
  for (const row of body.rows)
    row.classList.toggle("hidden", on && row.dataset.verdict !== card.dataset.verdict);
}));
"""

CSS = """\
:root {
  color-scheme: light dark;
  --ink: #1d1f23; --soft: #5d636d; --line: #dfe2e7; --paper: #ffffff; --card: #f5f6f8;
  --link: #0061a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e8eb; --soft: #9aa1ac; --line: #363b44; --paper: #16181c; --card: #1f2329;
    --link: #7fbef0;
  }
}
body {
  margin: 0 auto; max-width: 62rem; padding: 0 1.2rem 3rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif;
}
h1 {
  margin: 1.6rem 0 0.3rem; font-size: 1.7rem; line-height: 1.2; overflow-wrap: anywhere;
}
h2 {
  margin: 2.4rem 0 0.7rem; padding-top: 0.5rem; font-size: 1.2rem;
  border-top: 1px solid var(--line);
}
h3 { margin: 0; font-size: 0.85rem; font-weight: 600; color: var(--soft); }
nav { font-size: 0.9rem; }
nav a {
  margin-right: 0.9rem; white-space: nowrap; color: var(--link); text-decoration: none;
}
nav a:hover { text-decoration: underline; }
table {
  border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums;
}
th, td {
  padding: 0.35rem 1.1rem 0.35rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line);
}
th { font-weight: 600; color: var(--soft); }
.facts { width: 100%; }
.facts th { width: 8rem; white-space: nowrap; }
.facts td { overflow-wrap: anywhere; }
pre {
  margin: 0; padding: 0.5rem 0.7rem; overflow-x: auto; white-space: pre-wrap;
  background: var(--card); border-radius: 6px; font-size: 0.88rem;
}
.scroll { overflow-x: auto; }
.scroll td:first-child { min-width: 10rem; }
.scroll td + td { white-space: nowrap; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr));
  gap: 0.8rem; margin-bottom: 1.2rem;
}
.card { padding: 0.8rem 1rem; background: var(--card); border-radius: 8px; }
.card strong { font-size: 1.7rem; line-height: 1.3; }
.card span {
  color: var(--soft); white-space: nowrap; font-variant-numeric: tabular-nums;
}
.card small { display: block; color: var(--soft); }
.card p { margin: 0.3rem 0 0; font-size: 0.82rem; color: var(--soft); }
img { max-width: 100%; height: auto; }
img.wide, img.medium, .pair img {
  display: block; box-sizing: border-box; padding: 0.5rem; background: #ffffff;
  border-radius: 8px;
}
img.medium { width: 36rem; }
.pair {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr));
  gap: 0.8rem; align-items: start;
}
.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(12.5rem, 1fr));
  gap: 1.1rem 0.9rem;
}
.gallery figure { margin: 0; }
.gallery img { display: block; width: 100%; border-radius: 4px; }
.gallery figcaption {
  padding-top: 0.3rem; font-size: 0.82rem; line-height: 1.4; overflow-wrap: anywhere;
}
.gallery figcaption span, .gallery figcaption small { color: var(--soft); }
.gallery figcaption span { display: inline-block; width: 3.4rem; }
i {
  display: inline-block; width: 0.7em; height: 0.7em; margin-right: 0.35em;
  border-radius: 2px;
}
details { margin-top: 0.6rem; }
summary { cursor: pointer; color: var(--link); }
footer { margin-top: 3rem; font-size: 0.8rem; color: var(--soft); }
@media print { nav, footer { display: none; } section { break-inside: avoid-page; } }
"""


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

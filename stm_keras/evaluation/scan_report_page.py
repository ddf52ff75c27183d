"""Style and script of the report on a batch of scans, beside those of every report."""

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

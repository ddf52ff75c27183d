// Headings sort; what is not there comes last, either way.
document.documentElement.classList.add("script");
const body = document.getElementById("scans").tBodies[0];
const value = (row, column) => row.cells[column]?.dataset.sort ?? "";
document.querySelectorAll("#scans th[data-kind]").forEach(head => {
  const button = document.createElement("button");
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const column = head.cellIndex, number = head.dataset.kind === "number";
    const down = head.getAttribute("aria-sort") === "ascending";
    document.querySelectorAll("#scans th").forEach(each => each.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort((one, other) => {
      const a = value(one, column), b = value(other, column);
      if (a === "" || b === "") return (a === "") - (b === "");
      const order = number ? a - b : a.localeCompare(b, undefined, {numeric: true});
      return down ? -order : order;
    });
    body.append(...rows);
  });
});

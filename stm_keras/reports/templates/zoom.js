// Escape closes an enlarged picture, arrows show the next one; links alone will do as well.
addEventListener("keydown", event => {
  const open = document.querySelector(".zoom:target");
  if (!open) return;
  const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (event.key === "Escape") open.querySelector(".close").click();
  if (!step) return;
  const shown = [...document.querySelectorAll(".zoom")].filter(
    each => each === open || each.getClientRects().length
  );
  const next = shown[shown.indexOf(open) + step];
  if (next) next.querySelector(".open").click();
});

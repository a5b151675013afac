"use strict";
// Tables are sorted by a click on the name of a column: up, down, and back to how they came.
const words = new Intl.Collator("en", { numeric: true });

function keyOf(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value === undefined) return cell.textContent.trim();
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function compared(a, b) {
  // What is not known comes last, whichever way the rest is sorted.
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "number" && typeof b === "number" ? a - b : words.compare(a, b);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const asWritten = [...body.rows];
  const headers = [...table.tHead.rows[0].cells];

  function sortBy(column) {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[headers[column].getAttribute("aria-sort") ?? "none"];
    const sign = order === "descending" ? -1 : 1;
    const keys = new Map(asWritten.map((row) => [row, keyOf(row, column)]));
    const known = (row) => keys.get(row) !== null;
    const rows = [...asWritten];
    if (order !== "none") {
      rows.sort((a, b) => compared(keys.get(a), keys.get(b)) * (known(a) && known(b) ? sign : 1));
    }
    for (const header of headers) header.removeAttribute("aria-sort");
    if (order !== "none") headers[column].setAttribute("aria-sort", order);
    body.append(...rows);
  }

  headers.forEach((header, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort by this column";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sortBy(column));
    header.append(button);
  });
}

document.querySelectorAll("table.sortable").forEach(makeSortable);

// What a link leads to may be folded, and paper folds nothing.
const folds = () => document.querySelectorAll("details");

function unfold() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let fold = target; fold; fold = fold.parentElement) {
    if (fold.tagName === "DETAILS") fold.open = true;
  }
  if (target) target.scrollIntoView();
}

addEventListener("hashchange", unfold);
addEventListener("click", (event) => {
  const link = event.target.closest?.('a[href^="#"]');
  if (link && link.hash === location.hash) unfold();
});
let shut = [];
addEventListener("beforeprint", () => {
  shut = [...folds()].filter((fold) => !fold.open && fold.matches(".section, .more"));
  for (const fold of shut) fold.open = true;
});
addEventListener("afterprint", () => {
  for (const fold of shut) fold.open = false;
});
unfold();

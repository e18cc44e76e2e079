// A click on the head of a column sorts by it; another one turns the order around.
"use strict";
const number = (text) => (text === "exact" ? Infinity : parseFloat(text));
const missing = (text) => ["", "-", "?"].includes(text);
for (const button of document.querySelectorAll("thead button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement, body = head.closest("table").tBodies[0];
    const rows = [...body.rows], cell = (row) => row.cells[head.cellIndex].textContent;
    const known = rows.filter((row) => !missing(cell(row)));
    const numeric = head.cellIndex > 0 && known.every((row) => !isNaN(number(cell(row))));
    const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    known.sort((a, b) => sign * (numeric
      ? Math.sign(number(cell(a)) - number(cell(b))) || 0
      : cell(a).localeCompare(cell(b), "en", { numeric: true })));
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    // What is not known stays last.
    body.append(...known, ...rows.filter((row) => missing(cell(row))));
  });
}

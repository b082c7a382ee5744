"use strict";
// Colour scheme: the system's unless chosen; kept only while the page is open.
const root = document.documentElement;
const toggle = document.getElementById("scheme");
const dark = () => root.dataset.scheme ? root.dataset.scheme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
const named = () => { toggle.textContent = dark() ? "Light colours" : "Dark colours"; };
toggle.hidden = false;
toggle.addEventListener("click", () => { root.dataset.scheme = dark() ? "light" : "dark"; named(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", named);
named();

// Sorting: a button in every head; numbers by value, text by alphabet, empty and undefined cells last.
function value(row, column) {
  const cell = row.cells[column];
  return cell.dataset.sort === undefined ? cell.textContent.trim() : Number(cell.dataset.sort);
}
function compare(a, b) {
  const numbers = [typeof a === "number", typeof b === "number"];
  if (numbers[0] && numbers[1]) return a - b;
  if (numbers[0] !== numbers[1]) return numbers[0] ? -1 : 1;
  return a.localeCompare(b, "en", { numeric: true });
}
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head || !event.target.closest("button")) return;
    const next = { none: "descending", descending: "ascending", ascending: "none" }[head.getAttribute("aria-sort") || "none"];
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", next);
    const sign = next === "descending" ? -1 : 1;
    const column = head.cellIndex;
    const rows = next === "none" ? original : [...original].sort((a, b) => {
      const [x, y] = [value(a, column), value(b, column)];
      return typeof x === typeof y ? sign * compare(x, y) : compare(x, y);
    });
    body.append(...rows);
  });
}

// Similarity matrices: one tab stop each, arrow keys inside, the readout beside the cell.
const tip = document.getElementById("tip");
function show(cell) {
  tip.textContent = cell.getAttribute("aria-label");
  tip.hidden = false;
  const box = cell.getBoundingClientRect();
  const left = Math.min(Math.max(box.left + box.width / 2 - tip.offsetWidth / 2, 8), innerWidth - tip.offsetWidth - 8);
  const above = box.top - tip.offsetHeight - 8;
  tip.style.left = `${left + scrollX}px`;
  tip.style.top = `${(above > 4 ? above : box.bottom + 8) + scrollY}px`;
}
const hide = () => { tip.hidden = true; };
const STEP = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
for (const matrix of document.querySelectorAll("table.heat")) {
  const rows = [...matrix.tBodies[0].rows].map((row) => [...row.querySelectorAll("td")]);
  matrix.addEventListener("mouseover", (event) => { const cell = event.target.closest("td"); if (cell) show(cell); });
  matrix.addEventListener("mouseleave", hide);
  matrix.addEventListener("focusin", (event) => { if (event.target.matches("td")) show(event.target); });
  matrix.addEventListener("focusout", hide);
  matrix.addEventListener("keydown", (event) => {
    if (event.key === "Escape") return hide();
    const step = STEP[event.key];
    if (!step || !event.target.matches("td")) return;
    event.preventDefault();
    const row = rows.findIndex((cells) => cells.includes(event.target));
    const column = rows[row].indexOf(event.target);
    const next = (rows[row + step[0]] || [])[column + step[1]];
    if (!next) return;
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });
}
for (const part of document.querySelectorAll(".protocol")) {
  const chooser = part.querySelector("select");
  const groups = [...part.querySelectorAll("[data-held-out]")];
  const choose = () => { hide(); for (const group of groups) group.hidden = group.dataset.heldOut !== chooser.value; };
  chooser.closest("p").hidden = false;
  chooser.addEventListener("change", choose);
  choose();
}

// Printing shows what is folded.
addEventListener("beforeprint", () => { for (const part of document.querySelectorAll("details")) part.open = true; });

"use strict";
// Everything readable is in the page already; this adds sorting, budgets, run details, downloads.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (selector, root = document) => root.querySelector(selector);
const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg"; // a name, never fetched

function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function drawn(name, attributes, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

// Sorting: numbers by data-value, an absent value last in either direction.
function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const numeric = column > 0;
  const start = numeric ? "descending" : "ascending";
  const other = { ascending: "descending", descending: "ascending" };
  const direction = other[header.getAttribute("aria-sort")] || start;
  const sign = direction === "ascending" ? 1 : -1;
  const value = (row) => row.children[column].dataset.value;
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y));
  };
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(order));
  for (const th of $$("[aria-sort]", table)) th.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", direction);
  $("#live").textContent = `Sorted by ${header.dataset.name}, ${direction}.`;
}
for (const button of $$(".sort")) button.addEventListener("click", () => sortBy(button.parentNode));

// Data and budget choose one of the maps that were computed with the report.
function chooseMap(event) {
  const cost = ($("input[name=cost]:checked") || { value: "" }).value;
  const limits = data.budgets[cost] || [];
  const slider = $("#limit");
  if (event && event.target.name === "cost") {
    slider.max = Math.max(0, limits.length - 1);
    slider.value = slider.max;
  }
  const level = slider ? limits[slider.value] : undefined;
  if (slider) $(".level").hidden = !level;
  if (level) {
    $(".level output").textContent = level.label;
    slider.setAttribute("aria-valuetext", level.label);
  }
  const view = $("#view") ? $("#view").value : "0";
  const shown = `map-${view}-${level ? level.map : 0}`;
  for (const map of $$(".map")) map.hidden = map.id !== shown;
}
if ($(".budget")) {
  $(".budget").hidden = false;
  for (const input of $$(".budget input, .budget select")) input.addEventListener("input", chooseMap);
}

// A small training curve: validation accuracy over epochs, a line a run, the selected epoch ringed.
function curve(runs) {
  const points = runs.map((run) => (run.curve || []).map((value, epoch) => ({ epoch, val_accuracy: value })).filter((e) => e.val_accuracy !== null));
  const all = points.flat();
  if (all.length < 2) return null;
  const [width, height, left, bottom, top] = [640, 190, 44, 26, 10];
  const last = Math.max(...all.map((e) => e.epoch), 1);
  const low = Math.min(...all.map((e) => e.val_accuracy));
  const high = Math.max(...all.map((e) => e.val_accuracy), low + 0.01);
  const x = (epoch) => left + (width - left - 12) * epoch / last;
  const y = (accuracy) => height - bottom - (height - bottom - top) * (accuracy - low) / (high - low);
  const label = `Validation accuracy over ${last} epochs, from ${(100 * low).toFixed(1)} to ${(100 * high).toFixed(1)} %.`;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(drawn("line", { x1: left, x2: width - 12, y1: y(value), y2: y(value), stroke: "var(--rule)" }));
    svg.append(drawn("text", { x: left - 7, y: y(value) + 4, "text-anchor": "end", fill: "var(--muted)" }, (100 * value).toFixed(0) + " %"));
  }
  for (const epoch of new Set([0, Math.round(last / 2), last])) {
    svg.append(drawn("text", { x: x(epoch), y: height - 8, "text-anchor": epoch === last ? "end" : "middle", fill: "var(--muted)" }, (epoch === last ? "epoch " : "") + epoch));
  }
  points.forEach((epochs, i) => {
    const line = epochs.map((e) => `${x(e.epoch).toFixed(1)},${y(e.val_accuracy).toFixed(1)}`).join(" ");
    svg.append(drawn("polyline", { points: line, fill: "none", stroke: "var(--accent)", "stroke-width": 1.8, opacity: 1 - 0.6 * i / points.length }));
    const chosen = epochs.find((e) => e.epoch === runs[i].selected_epoch);
    if (chosen) svg.append(drawn("circle", { cx: x(chosen.epoch), cy: y(chosen.val_accuracy), r: 5, fill: "none", stroke: "currentColor", "stroke-width": 1.6 }));
  });
  return svg;
}

const number = (value, digits = 1) => typeof value === "number" ? value.toFixed(digits) : "\u2013";
const share = (value) => typeof value === "number" ? (100 * value).toFixed(1) + " %" : "\u2013";

function runsTable(runs) {
  const heads = ["seed", "test", "validation", "selected epoch", "seconds", "code", "state"];
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads.map((h) => element("th", { scope: "col" }, h)))));
  const body = element("tbody");
  for (const run of runs) {
    const state = run.status === "done" ? "done" : `${run.status}: ${String(run.error || run.reason || "no reason recorded").trim().split("\n").pop()}`;
    const cells = [share(run.accuracy), share(run.val_accuracy), number(run.selected_epoch, 0), number(run.seconds), run.git_sha || "\u2013", state];
    const seed = run.seed + (run.source_seed === undefined ? "" : `, source ${run.source_seed}`);
    body.append(element("tr", {}, element("th", { scope: "row" }, seed), ...cells.map((c) => element("td", {}, c))));
  }
  table.append(body);
  return table;
}

function openRuns(button) {
  const cell = data.cells[button.dataset.cell];
  const runs = cell.runs.map((i) => data.rows[i]);
  const dialog = $("#runs");
  const content = $("#runs-content");
  content.replaceChildren(element("h2", { id: "runs-title" }, cell.title), element("p", { class: "note" }, cell.note), element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Runs" }, runsTable(runs)));
  const svg = curve(runs);
  if (svg) content.append(element("h3", {}, "Validation accuracy; the ring is the epoch that was selected"), svg);
  for (const run of runs) for (const picture of run.pictures || []) {
    const image = element("img", { src: picture.src, alt: picture.alt });
    content.append(element("h3", {}, `Seed ${run.seed}: ${picture.caption}`), element("figure", {}, image));
  }
  const settings = new Set(runs.map((run) => data.settings[run.settings]));
  content.append(element("h3", {}, settings.size > 1 ? "Settings (they differ)" : "Settings"));
  for (const text of settings) content.append(element("pre", { tabindex: 0 }, text.replace(/^[{}]\n?|\n?}$/g, "").replace(/^ /gm, "") || "none recorded"));
  dialog.showModal();
  dialog.scrollTop = 0;
}
for (const button of $$(".cell")) button.addEventListener("click", () => openRuns(button));
$(".close").addEventListener("click", () => $("#runs").close());
$("#runs").addEventListener("click", (event) => { if (event.target === $("#runs")) $("#runs").close(); });

// The rows travel compressed; where the browser can, the link becomes the plain file.
async function unpack(link) {
  const bytes = Uint8Array.from(atob(link.href.split(",")[1]), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const text = await new Response(stream).blob();
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = link.download.replace(/\.gz$/, "");
  link.textContent = link.textContent.replace(".gz", "");
}
if ("DecompressionStream" in window) $$(".download[href^='data:application/gzip']").forEach(unpack);

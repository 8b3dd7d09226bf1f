// Draws a panel's drawing (peerd/control/drawings.py) whatever the panel: words, bars, table or series.
import { isNumber, printable, shortId, written } from "./format.js";
import { drawSeries } from "./chart.js";

export function make(tag, className = "", text = null) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== null) node.textContent = text;  // never innerHTML: names come from strangers
  return node;
}

const named = new Set(["own", "base", "twin", "train", "trust"]);
const seen = new Map();

// A peer keeps its colour in every panel, as long as the page is open.
export function colour(item) {
  if (item.mine) return "var(--c-mine)";
  if (named.has(item.key)) return `var(--c-${item.key})`;
  if (!seen.has(item.key)) seen.set(item.key, seen.size % 8);
  return `var(--c-${seen.get(item.key)})`;
}

function drawWords(drawing) {
  const box = make("div", "words");
  if (drawing.headline) {
    const headline = make("p", "headline");
    headline.dataset.tone = drawing.tone;
    const dot = make("span", "dot");
    dot.setAttribute("aria-hidden", "true");
    headline.append(dot, make("span", "", printable(drawing.headline)));
    box.append(headline);
  }
  for (const sentence of drawing.sentences) box.append(make("p", "sentence", printable(sentence)));
  if (drawing.facts.length) {
    const list = make("dl", "facts");
    for (const fact of drawing.facts) {
      const pair = make("div");
      const value = make("dd", "", written(fact.value, fact.unit));
      value.dataset.tone = fact.tone;
      pair.append(make("dt", "", printable(fact.label)), value);
      list.append(pair);
    }
    box.append(list);
  }
  return box;
}

function drawBars(drawing) {
  const box = make("div", "words");
  for (const sentence of drawing.sentences) box.append(make("p", "sentence", printable(sentence)));
  box.append(drawing.bars.length ? barsOf(drawing) : make("p", "empty", printable(drawing.empty)));
  return box;
}

function barsOf(drawing) {
  const list = make("ul", "bars");
  for (const bar of drawing.bars) {
    const row = make("li");
    const track = make("div", "track");
    const fill = make("div", "fill");
    fill.style.width = `${Math.max(0, Math.min(1, bar.value / drawing.full)) * 100}%`;
    fill.style.background = colour(bar);
    track.append(fill);
    track.setAttribute("aria-hidden", "true");
    const who = make("bdi", "who", printable(bar.label));
    who.title = printable(bar.key);
    row.append(who, track, make("span", "value", written(bar.value, drawing.unit)));
    list.append(row);
  }
  return list;
}

function drawTable(drawing) {
  if (!drawing.rows.length) return make("p", "empty", printable(drawing.empty));
  const head = make("tr");
  for (const column of drawing.columns) {
    const cell = make("th", isNumber(column.unit) ? "number" : "", printable(column.label));
    cell.scope = "col";
    head.append(cell);
  }
  const body = make("tbody");
  for (const values of drawing.rows) {
    const row = make("tr");
    values.forEach((value, i) => {
      const unit = drawing.columns[i].unit;
      const cell = make("td", unit === "id" ? "id" : isNumber(unit) ? "number" : "");
      cell.append(make("bdi", "", written(value, unit)));
      if (unit === "id") cell.title = printable(value);
      row.append(cell);
    });
    body.append(row);
  }
  const table = make("table");
  const top = make("thead");
  top.append(head);
  table.append(top, body);
  const box = make("div", "scroll");
  box.tabIndex = 0;
  box.append(table);
  return box;
}

const kinds = { words: drawWords, bars: drawBars, table: drawTable, series: drawSeries };

export function drawPanel(panel) {
  const section = make("section", "panel");
  section.dataset.width = panel.width;
  section.dataset.panel = panel.name;
  section.setAttribute("aria-label", printable(panel.title));
  const header = make("header");
  header.append(make("h2", "", printable(panel.title)));
  if (panel.help) {
    const help = make("details", "help");
    const summary = make("summary", "", "?");
    summary.setAttribute("aria-label", `What is this: ${printable(panel.title)}`);
    const text = panel.help.split("\n\n").map((part) => printable(part.replace(/\n/g, " "))).join("\n");
    help.append(summary, make("p", "", text));
    header.append(help);
  }
  section.append(header, kinds[panel.drawing.kind](panel.drawing));
  return section;
}

export { shortId };

// Lines over x, or areas upon one another; drawn anew at the width there is, so that text is never stretched.
import { isDiverged, printable, written } from "./format.js";
import { colour, make } from "./draw.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 232;
const EDGE = { left: 46, right: 10, top: 10, bottom: 30 };

function shape(tag, attributes, className = "") {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (className) node.setAttribute("class", className);
  return node;
}

// About `count` round numbers that cover low to high.
export function ticks(low, high, count) {
  const span = high - low || 1;
  const raw = span / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i += 1) found.push(i * step);
  return found;
}

// Each line's areas from the one below: [[x, from, to], ...].
function stack(lines) {
  const height = new Map();
  return lines.map((line) => line.points.map(([x, y]) => {
    const from = height.get(x) || 0;
    height.set(x, from + (y || 0));
    return [x, from, from + (y || 0)];
  }));
}

function range(drawing) {
  if (drawing.stacked) return [0, 1];
  const values = drawing.lines.flatMap((line) => line.points.map(([, y]) => y)).filter((y) => y !== null);
  const low = Math.min(...values, ...(values.length ? [] : [0])), high = Math.max(...values, ...(values.length ? [] : [1]));
  const room = (high - low || Math.abs(high) || 1) * 0.07;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function path(points, toX, toY) {
  let pen = "M", text = "";
  for (const [x, y] of points) {
    if (y === null) { pen = "M"; continue; }
    text += `${pen}${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`;
    pen = "L";
  }
  return text;
}

function axes(svg, drawing, xs, low, high, width, toX, toY) {
  for (const y of ticks(low, high, 4)) {
    svg.append(shape("line", { x1: EDGE.left, x2: width - EDGE.right, y1: toY(y), y2: toY(y) }, "grid"));
    const label = shape("text", { x: EDGE.left - 7, y: toY(y) + 4, "text-anchor": "end" }, "tick");
    label.textContent = drawing.unit === "percent" ? written(y, "percent") : written(Number(y.toPrecision(3)), "");
    svg.append(label);
  }
  const shown = ticks(xs[0], xs[xs.length - 1], Math.max(2, Math.min(8, Math.floor(width / 80)))).filter(Number.isInteger);
  for (const x of shown) {
    const label = shape("text", { x: toX(x), y: HEIGHT - EDGE.bottom + 17, "text-anchor": "middle" }, "tick");
    label.textContent = x;
    svg.append(label);
  }
  const unit = shape("text", { x: width - EDGE.right, y: HEIGHT - 1, "text-anchor": "end" }, "tick");
  unit.textContent = printable(drawing.x_label);
  svg.append(unit);
}

function curves(svg, drawing, toX, toY) {
  const areas = drawing.stacked ? stack(drawing.lines) : null;
  drawing.lines.forEach((line, i) => {
    if (areas) {
      const upper = areas[i].map(([x, , to]) => [x, to]);
      const lower = areas[i].map(([x, from]) => [x, from]).reverse();
      const d = upper.length > 1 ? `${path(upper, toX, toY)}${path(lower, toX, toY).replace("M", "L")}Z` : "";
      svg.append(shape("path", { d, fill: colour(line) }, "area"));
    }
    if (!areas) svg.append(shape("path", { d: path(line.points, toX, toY), stroke: colour(line) }, line.mine ? "series mine" : "series"));
    if (line.points.length === 1 && line.points[0][1] !== null) {
      const y = areas ? areas[i][0][2] : line.points[0][1];
      svg.append(shape("circle", { cx: toX(line.points[0][0]), cy: toY(y), r: 4, fill: colour(line) }));
    }
  });
}

function swatch(line) {
  const box = make("span", "swatch");
  box.style.background = colour(line);
  box.setAttribute("aria-hidden", "true");
  return box;
}

function legend(drawing) {
  const list = make("ul", "legend");
  for (const line of drawing.lines) {
    const last = [...line.points].reverse().find(([, y]) => y !== null);
    const item = make("li");
    item.append(swatch(line), make("bdi", "who", printable(line.label)), make("span", "last", written(last ? last[1] : null, drawing.unit)));
    list.append(item);
  }
  return list;
}

// A cursor that follows the pointer or the arrow keys and says every value at one x.
function follow(box, svg, drawing, xs, width, toX) {
  let tip = null, line = null, at = -1;
  const hide = () => { tip?.remove(); line?.remove(); tip = line = null; at = -1; };
  const show = (index) => {
    if (index === at) return;
    hide();
    at = index;
    const x = xs[at];
    line = shape("line", { x1: toX(x), x2: toX(x), y1: EDGE.top, y2: HEIGHT - EDGE.bottom }, "cursor");
    svg.append(line);
    tip = make("div", "tip");
    tip.append(make("p", "", `${printable(drawing.x_label)} ${x}`));
    for (const one of drawing.lines) {
      const point = one.points.find(([px]) => px === x);
      const text = make("p");
      text.append(swatch(one), make("bdi", "", printable(one.label)), make("span", "", written(point ? point[1] : null, drawing.unit)));
      tip.append(text);
    }
    for (const mark of drawing.marks.filter((m) => m.x === x)) tip.append(make("p", "", printable(mark.label)));
    if (toX(x) > width / 2) tip.style.right = `${width - toX(x) + 10}px`;
    else tip.style.left = `${toX(x) + 10}px`;
    box.append(tip);
  };
  const nearest = (px) => xs.reduce((best, x, i) => (Math.abs(toX(x) - px) < Math.abs(toX(xs[best]) - px) ? i : best), 0);
  svg.addEventListener("pointermove", (event) => show(nearest(event.clientX - svg.getBoundingClientRect().left)));
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.max(0, Math.min(xs.length - 1, (at < 0 ? xs.length - 1 : at + step))));
  });
}

function summary(drawing) {
  const parts = drawing.lines.map((line) => {
    const last = [...line.points].reverse().find(([, y]) => y !== null);
    return `${printable(line.label)} ${written(last ? last[1] : null, drawing.unit)}`;
  });
  return `${printable(drawing.y_label)} by ${printable(drawing.x_label)}; now: ${parts.join(", ")}. Arrow keys read single values.`;
}

// A figure that stands for all beyond it is said in the legend and left out of the curve, which it would make flat.
function drawable(drawing) {
  const points = (line) => line.points.map(([x, y]) => [x, isDiverged(y, drawing.unit) ? null : y]);
  return { ...drawing, lines: drawing.lines.map((line) => ({ ...line, points: points(line) })) };
}

function redraw(box, whole) {
  const drawing = drawable(whole);
  const width = box.clientWidth;
  if (!width) return;
  box.querySelectorAll("svg, .tip").forEach((old) => old.remove());
  const xs = [...new Set(drawing.lines.flatMap((line) => line.points.map(([x]) => x)))].sort((a, b) => a - b);
  const [low, high] = range(drawing);
  const first = xs[0], span = xs[xs.length - 1] - first || 1;
  const toX = (x) => EDGE.left + ((xs.length === 1 ? 0.5 : (x - first) / span)) * (width - EDGE.left - EDGE.right);
  const toY = (y) => HEIGHT - EDGE.bottom - ((y - low) / (high - low)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const svg = shape("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: "0", "aria-label": summary(whole) });
  axes(svg, drawing, xs, low, high, width, toX, toY);
  curves(svg, drawing, toX, toY);
  for (const mark of drawing.marks) svg.append(shape("circle", { cx: toX(mark.x), cy: HEIGHT - EDGE.bottom, r: 3.5 }, "mark"));
  follow(box, svg, whole, xs, width, toX);
  box.prepend(svg);
}

export function drawSeries(drawing) {
  const values = drawing.lines.flatMap((line) => line.points.map(([, y]) => y)).filter((y) => y !== null);
  if (!values.length) return make("p", "empty", printable(drawing.empty));
  const box = make("div", "chart");
  box.append(legend(drawing));
  let drawn = 0;
  new ResizeObserver(() => {
    if (box.clientWidth !== drawn) { drawn = box.clientWidth; redraw(box, drawing); }
  }).observe(box);
  if (!drawing.sentences.length) return box;
  const outer = make("div", "words");
  for (const sentence of drawing.sentences) outer.append(make("p", "sentence", printable(sentence)));
  outer.append(box);
  return outer;
}

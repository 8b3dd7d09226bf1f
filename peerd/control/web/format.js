// Values as people read them; the units are those of peerd/control/drawings.py, the rules those of peerd/control/render.py.
const NOTHING = "–";
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// Names come from strangers: nothing that hides, turns text around or breaks lines is ever shown. The daemon sets apart what runs
// from right to left (peerd/control/peer_names.py): those two characters stay, and the elements below end what they may leave open.
export const printable = (text) => String(text).replace(/(?![\u2068\u2069])[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}]/gu, "");

// What a model says has lines and tabs; else the same.
export const printableText = (text) => String(text).split(/([\n\t])/).map((part) => (part === "\n" || part === "\t" ? part : printable(part))).join("");

export function shortId(peer) {
  const clean = printable(peer);
  return clean.length <= 16 ? clean : `${clean.slice(0, 8)}…${clean.slice(-6)}`;
}

function size(count) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (count >= 999.5 && power < units.length - 1) { count /= 1000; power += 1; }
  return `${count.toFixed(power === 0 || count >= 99.95 ? 0 : 1)} ${units[power]}`;
}

function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  const steps = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  const [unit, name, smaller, smallName] = steps.find(([unit]) => s >= unit);
  const rest = Math.floor((s % unit) / smaller);
  return `${Math.floor(s / unit)} ${name}` + (rest ? ` ${rest} ${smallName}` : "");
}

const share = (part) => (part > 0 && part < 0.005 ? "<1 %" : `${Math.round(part * 100)} %`);
// p2pfinetune/scoring/perplexity.py: what stands for all losses beyond it, and its exponential.
const MAX_LOSS = 50, DIVERGED = "diverged";
export const isDiverged = (value, unit) => (unit === "loss" && value >= MAX_LOSS) || (unit === "perplexity" && value >= Math.exp(MAX_LOSS) * (1 - 1e-9));

const perplexity = (value) => (isDiverged(value, "perplexity") ? DIVERGED : value >= 1000 ? whole.format(value) : value.toFixed(value >= 10 ? 1 : 2));

const formats = {
  bytes: size, seconds: duration, percent: share, perplexity,
  loss: (value) => (isDiverged(value, "loss") ? DIVERGED : value.toFixed(3)),
  milliseconds: (value) => `${value.toFixed(0)} ms`,
  rate: (value) => `${whole.format(value)}/s`,
};

export function written(value, unit) {
  if (value === null || value === undefined) return NOTHING;
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return unit === "id" ? shortId(value) : printable(value);
  return (formats[unit] || number.format)(value);
}

export const isNumber = (unit) => !["", "text", "id"].includes(unit);

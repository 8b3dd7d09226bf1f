// The page: swaps the link's token for a cookie, listens to the daemon, and draws again only what has changed.
import { drawPanel, shortId } from "./draw.js";
import { printable } from "./format.js";

const PAUSE = 1000;   // milliseconds between two looks at the panels; rounds take longer
const AGAIN = 3000;   // milliseconds before the next try when the daemon is away
const byId = (id) => document.getElementById(id);
const drawn = new Map();

function say(tone, text) {
  byId("link").dataset.tone = tone;
  byId("link-text").textContent = text;
}

function notice(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

async function exchangeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  await fetch("/auth/exchange", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token }),
  });
}

function head(status) {
  const name = printable(status.name) || shortId(status.peer_id);
  byId("name").textContent = name;
  byId("about").textContent = `peerd ${printable(status.version)} · group ${printable(status.group)} · ${printable(status.model)} · ${shortId(status.peer_id)}`;
  document.title = `round ${status.round} · ${name} · peerd`;
}

function place(panels) {
  const board = byId("panels");
  const names = new Set(panels.map((panel) => panel.name));
  for (const old of board.querySelectorAll("[data-panel]")) if (!names.has(old.dataset.panel)) old.remove();
  panels.forEach((panel, i) => {
    const text = JSON.stringify(panel);
    if (drawn.get(panel.name) === text) return;
    drawn.set(panel.name, text);
    const fresh = drawPanel(panel);
    const old = board.querySelector(`[data-panel="${CSS.escape(panel.name)}"]`);
    if (old) {
      const help = old.querySelector("details");
      if (help?.open) fresh.querySelector("details").open = true;
      old.replaceWith(fresh);
    } else board.insertBefore(fresh, board.children[i] || null);
  });
}

let looking = false, wanted = false;
async function look() {
  wanted = true;
  if (looking) return;
  looking = true;
  while (wanted) {
    wanted = false;
    try {
      const answer = await fetch("/v1/panels");
      if (answer.ok) place((await answer.json()).panels);
    } catch { /* the event stream notices too, and says so */ }
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
  looking = false;
}

function listen() {
  const events = new EventSource("/v1/events");
  events.addEventListener("open", () => { say("good", "live"); notice(""); });
  events.addEventListener("status", (event) => {
    head(JSON.parse(event.data));
    if (!document.hidden) look();  // nobody reads a page in the background
  });
  events.addEventListener("error", () => {
    events.close();
    say("bad", "no connection");
    notice("The daemon does not answer, or the terminal that ran “peerd dashboard” was closed.\nThis page goes on by itself when it is back.");
    setTimeout(begin, AGAIN);
  });
}

async function begin() {
  try {
    const answer = await fetch("/v1/id");
    if (answer.status === 401) {
      say("warn", "no session");
      notice("This page needs the link that “peerd dashboard” prints. It works once; type the command again for a new one.");
      return;
    }
    if (answer.status !== 502) { listen(); return; }
  } catch { /* said below */ }
  say("bad", "no connection");
  notice("The daemon does not answer, or the terminal that ran “peerd dashboard” was closed.\nThis page goes on by itself when it is back.");
  setTimeout(begin, AGAIN);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && drawn.size) look(); });
await exchangeToken();
await begin();

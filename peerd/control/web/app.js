// The page: opens its session, listens to the daemon, and draws again only what has changed.
import { drawPanel, shortId } from "./draw.js";
import { follow } from "./events.js";
import { printable } from "./format.js";
import { ready } from "./asking.js";
import { ask, onSession, openSession } from "./session.js";

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
      const answer = await ask("/v1/panels");
      if (answer.ok) place((await answer.json()).panels);
    } catch { /* the event stream notices too, and says so */ }
    await new Promise((resume) => setTimeout(resume, PAUSE));
  }
  looking = false;
}

const AWAY = "The daemon does not answer, or the terminal that ran “peerd dashboard” was closed.\nThis page goes on by itself when it is back.";
const NO_SESSION = "This tab has no session. Where the dashboard is open in another tab of this browser, a new tab takes it over;\notherwise type “peerd dashboard” again and open the link it prints. A link works once.";

async function listen() {
  let refused = null;
  try {
    refused = await follow("/v1/events", () => { say("good", "live"); notice(""); }, (name, data) => {
      if (name !== "status") return;
      head(JSON.parse(data));
      if (!document.hidden) look();  // nobody reads a page in the background
    });
  } catch { /* the line broke, or was silent for too long: the same as its end */ }
  say("bad", "no connection");
  notice(refused?.code === "busy" ? `${refused.message}: ${refused.hint}.` : AWAY);
  setTimeout(begin, AGAIN);
}

let beginning = false;
async function begin() {
  if (beginning) return;
  beginning = true;
  try {
    await openSession();
    const answer = await ask("/v1/id");
    if (answer.status === 401) {
      say("warn", "no session");
      notice(NO_SESSION);
      return;
    }
    if (answer.status !== 502) { listen(); return; }
  } catch { /* said below */ } finally { beginning = false; }
  say("bad", "no connection");
  notice(AWAY);
  setTimeout(begin, AGAIN);
}

document.addEventListener("visibilitychange", () => { if (!document.hidden && drawn.size) look(); });
ready();
onSession(() => { if (byId("link-text").textContent === "no session") begin(); });
await begin();

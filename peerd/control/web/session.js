// The page's right to look: it stays in this origin (127.0.0.1 with its port) and goes out in a header, never as a cookie,
// which a browser would send to every port of 127.0.0.1. It lasts as long as the tab; a new tab asks the open ones for it.
const KEY = "peerd-session";
const HEADER = "x-peerd-session";
const ANSWER_WITHIN = 400;  // milliseconds for another tab to answer

const tabs = new BroadcastChannel(KEY);
let session = sessionStorage.getItem(KEY);
let arrived = () => {};

function keep(given) {
  session = given;
  if (given) sessionStorage.setItem(KEY, given);
  else sessionStorage.removeItem(KEY);
}

tabs.addEventListener("message", ({ data }) => {
  if (data.wanted && session) tabs.postMessage({ session });
  if (data.session && !session) {
    keep(data.session);
    arrived();
  }
});

// Told when another tab has a session and this one had none.
export const onSession = (act) => { arrived = act; };

async function exchangeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  const answer = await fetch("/auth/exchange", {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token }),
  });
  if (!answer.ok) return;
  keep((await answer.json()).session);
  tabs.postMessage({ session });
}

export async function openSession() {
  await exchangeToken();
  if (session) return;
  tabs.postMessage({ wanted: true });
  const deadline = Date.now() + ANSWER_WITHIN;
  while (!session && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 20));
}

// A question to the daemon. A session that is not known any more is of a dashboard that has ended: it is forgotten.
export async function ask(path, signal, body) {
  const asked = session;
  const headers = { ...(asked ? { [HEADER]: asked } : {}), ...(body ? { "content-type": "application/json" } : {}) };
  const how = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const answer = await fetch(path, { ...how, headers, cache: "no-store", credentials: "omit", signal });
  if (answer.status === 401 && session === asked) keep(null);
  return answer;
}

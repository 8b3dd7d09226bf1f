// Server-sent events by fetch: EventSource cannot send the header that the session travels in.
// https://html.spec.whatwg.org/multipage/server-sent-events.html
import { ask } from "./session.js";

const SILENCE = 45000;  // milliseconds; the daemon sends a sign of life every 15 s, and a tunnel may die without a word

// Calls opened once, then heard(name, data) for each event. Returns why there was no stream, or nothing when it has ended; throws
// where it broke. What a body asks for may take long to begin: silence counts from then on. A signal ends it.
export async function follow(path, opened, heard, { body, signal } = {}) {
  const line = new AbortController();
  signal?.addEventListener("abort", () => line.abort());
  let alarm = 0;
  const alive = () => { clearTimeout(alarm); alarm = setTimeout(() => line.abort(), SILENCE); };
  if (!body) alive();
  try {
    const answer = await ask(path, line.signal, body);
    if (!answer.ok) return (await answer.json()).error;
    alive();
    opened();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const parts = (text + value).split("\n\n");
      text = parts.pop();
      for (const part of parts) {
        const fields = new Map(part.split("\n").map((one) => [one.slice(0, one.indexOf(": ")), one.slice(one.indexOf(": ") + 2)]));
        if (fields.has("data")) heard(fields.get("event"), fields.get("data"));
      }
    }
  } finally {
    clearTimeout(alarm);
  }
}

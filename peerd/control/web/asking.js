// The box in which a prompt is tried, base and personal model side by side, and the button that exports.
// The page says what it wants in a few fields; the questions, and the folder of an export, are made by the proxy.
import { follow } from "./events.js";
import { printableText, written } from "./format.js";
import { ask } from "./session.js";

const MODELS = ["base", "personal"];
const WITHOUT_MODELFILE = "peft";
const byId = (id) => document.getElementById(id);
let stop = null;

const reason = (error) => `${error.message}${error.hint ? `: ${error.hint}` : ""}`;

async function hear(model, text, isChat, signal) {
  const place = byId(`said-${model}`);
  place.dataset.state = "waiting";
  place.textContent = "";
  let refused = null, failure = "";
  try {
    refused = await follow("/ask/respond", () => { place.dataset.state = "speaking"; }, (name, data) => {
      if (name === "piece") place.append(printableText(JSON.parse(data).text));
      if (name === "failed") failure = reason(JSON.parse(data));
    }, { body: { model, text, is_chat: isChat }, signal });
  } catch {
    if (!signal.aborted) failure = "The daemon does not answer.";
  }
  failure = refused ? reason(refused) : failure;
  place.dataset.state = failure ? "failed" : "done";
  if (failure) place.textContent = printableText(failure);
}

async function both() {
  const text = byId("try-text").value;
  if (!text || stop) return;
  stop = new AbortController();
  byId("try-ask").disabled = true;
  byId("try-stop").disabled = false;
  await Promise.all(MODELS.map((model) => hear(model, text, byId("try-chat").checked, stop.signal)));
  stop = null;
  byId("try-ask").disabled = false;
  byId("try-stop").disabled = true;
}

async function exported() {
  const told = byId("export-told"), button = byId("export-go");
  const wish = { format: byId("export-format").value, modelfile: byId("export-modelfile").checked };
  button.disabled = true;
  told.dataset.tone = "plain";
  told.textContent = "writing; a whole model takes a while";
  try {
    const answer = await ask("/ask/export", undefined, wish);
    const found = await answer.json();
    told.dataset.tone = answer.ok ? "good" : "bad";
    told.textContent = printableText(answer.ok ? `Written to ${found.folder} (${written(found.bytes, "bytes")})` : reason(found.error));
  } catch {
    told.dataset.tone = "bad";
    told.textContent = "The daemon does not answer.";
  }
  button.disabled = false;
}

function fit() {
  const box = byId("export-modelfile");
  box.disabled = byId("export-format").value === WITHOUT_MODELFILE;
  if (box.disabled) box.checked = false;
}

export function ready() {
  byId("try-ask").addEventListener("click", both);
  byId("try-stop").addEventListener("click", () => stop?.abort());
  byId("try-text").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) both(); });
  byId("export-format").addEventListener("change", fit);
  byId("export-go").addEventListener("click", exported);
  fit();
}

// The page: reads what the API answers, again and again, and draws what changed.

import { showAgents } from "./agents.js";
import { key } from "./client.js";
import { byId } from "./dom.js";
import { showAudit, showFigures, showHours, showSpend } from "./panels.js";
import { FAST, held, readDue, setLive, take } from "./reads.js";
import { listen } from "./stream.js";
import { absolute, hourStart, now, tick } from "./times.js";
import { follow } from "./trends.js";
import { agentViews, figures, liveAgents, serviceOf } from "./views.js";

const SOON = 1000; // ms from an event of the stream to showing it

let timer;
let reading = false;
let hurried = false;
let live = false;
let shown = null;
let endStream = () => {};

/** Read what is due, draw, and come again. */
async function refresh() {
  clearTimeout(timer);
  if (reading || !key.get()) return;
  reading = true;
  hurried = false;
  try {
    await readDue();
    await follow();
    draw();
  } catch (problem) {
    fail(problem);
  } finally {
    reading = false;
    if (!document.hidden) timer = setTimeout(refresh, hurried ? SOON : FAST * 1000);
  }
}

/** Something happened: show it soon. Many events make one drawing. */
function hurry() {
  if (hurried || document.hidden) return;
  hurried = true;
  if (reading) return;
  clearTimeout(timer);
  timer = setTimeout(refresh, SOON);
}

function draw() {
  const networks = new Map(held.agents.map(({ agent, network }) => [agent, network]));
  showFigures(figures());
  showAgents(agentViews());
  showHours(held.hours, hourStart(23));
  showSpend(held.spend, serviceOf);
  showAudit(held.audit, (agent) => networks.get(agent) ?? liveAgents()[0]?.network);
  tick();
  shown = new Date(now()).toISOString();
  tell("", live ? "live" : "polling", live ? "live" : `every ${FAST} s`);
}

function fail(problem) {
  if ((problem.status === 401 || problem.status === 403) && !key.isGiven) {
    leave(problem.message);
    return;
  }
  if (problem.status === undefined) console.error(problem);
  const what = problem.status === 503 ? "The database does not answer." : `${problem.message}.`;
  const since = shown === null ? "" : ` What is below is of ${absolute(shown)}.`;
  tell(`${what}${since} Trying again every ${FAST} s; /readyz and the log tell more.`, "stale", "no answer");
}

function tell(trouble, state, text) {
  const line = byId("trouble");
  if (line.textContent !== trouble) line.textContent = trouble;
  line.hidden = trouble === "";
  byId("pulse").dataset.state = state;
  if (byId("pulse-text").textContent !== text) byId("pulse-text").textContent = text;
}

/** Forget the key and all that was read with it. `refusal`: why the key was not taken. */
function leave(refusal) {
  key.forget(refusal);
  location.reload();
}

function askForKey() {
  byId("content").hidden = true;
  byId("key-refused").textContent = key.refusal();
  byId("key-form").hidden = false;
  tell("", "waiting", "waiting for a key");
  byId("key").focus();
}

function start() {
  byId("key-form").hidden = true;
  byId("content").hidden = false;
  byId("forget").hidden = key.isGiven;
  tell("", "loading", "reading");
  resume();
}

/** Read and listen. A tab that nobody sees does neither. */
function resume() {
  endStream();
  if (document.hidden || !key.get()) return;
  refresh();
  endStream = listen(onEvent, onStream);
}

function onEvent(name, data) {
  take(name, data);
  hurry();
}

function onStream(is) {
  live = is;
  setLive(is);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set(byId("key").value.trim());
  byId("key").value = "";
  start();
});
byId("forget").addEventListener("click", () => leave(""));
document.addEventListener("visibilitychange", resume);
setInterval(tick, 1000);

if (key.get()) start();
else askForKey();

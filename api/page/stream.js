// The stream of events. Without it the page polls.

import { stream } from "./client.js";

const FIRST_PAUSE = 2000; // ms
const LONGEST_PAUSE = 60_000;

/** Call `told(name, data)` for every event, and `state(true|false)` as the stream comes and goes. Returns what ends it. */
export function listen(told, state) {
  const ended = new AbortController();
  run(told, state, ended.signal);
  return () => ended.abort();
}

async function run(told, state, signal) {
  let pause = FIRST_PAUSE;
  const last = { id: null };
  while (!signal.aborted) {
    try {
      const body = await stream("/v1/stream", last.id, signal);
      state(true);
      pause = FIRST_PAUSE;
      await read(body, last, told);
    } catch (problem) {
      // Not for this key, or not there: the page polls, and says what is the matter.
      if ([401, 403, 404].includes(problem.status)) break;
    }
    state(false);
    if (!signal.aborted) await new Promise((resolve) => { setTimeout(resolve, pause); });
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
  state(false);
}

/** Read to the end of the stream. */
async function read(body, last, told) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = { name: "message", data: [] };
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) event = take(line, event, last, told);
  }
}

/** Take one line; the event as it stands then. */
function take(line, event, last, told) {
  const [field, text] = [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()];
  if (field === "event") event.name = text;
  if (field === "id") last.id = text;
  if (field === "data") event.data.push(text);
  if (line !== "") return event;
  if (event.data.length > 0) told(event.name, JSON.parse(event.data.join("\n")));
  return { name: "message", data: [] };
}

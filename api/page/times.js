// Times: relative in the text, absolute (UTC) in the title. "Now" is the server's.

import { el } from "./dom.js";

const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
let lead = 0;

/** Take over the server's clock from an answer's Date, where ours is off. */
export function setClock(date) {
  const difference = Date.parse(date ?? "") - Date.now();
  if (Number.isFinite(difference)) lead = Math.abs(difference) > 2000 ? difference : 0;
}

export function now() {
  return Date.now() + lead;
}

/** The start of the hour `hours` before the present one, as milliseconds. */
export function hourStart(hours) {
  return Math.floor(now() / 3600e3) * 3600e3 - hours * 3600e3;
}

/** "12 s ago", "3 min ago", "now". */
export function relative(ms) {
  const seconds = Math.floor((now() - ms) / 1000);
  if (seconds < 1) return "now";
  const [size, name] = UNITS.find(([least]) => seconds >= least);
  return `${Math.floor(seconds / size)} ${name} ago`;
}

export function absolute(text) {
  return `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`;
}

/** A <time> that `tick` keeps up to date. */
export function time(text) {
  return el("time", { datetime: text, title: absolute(text) }, relative(Date.parse(text)));
}

/** Write every relative time anew. */
export function tick() {
  for (const node of document.querySelectorAll("time")) {
    const text = relative(Date.parse(node.dateTime));
    if (node.textContent !== text) node.textContent = text;
  }
}

/** Hours as a person says them: "3.4 h", "12 d". */
export function duration(hours) {
  if (hours < 1 / 60) return "<1 min";
  if (hours < 1) return `${Math.floor(hours * 60)} min`;
  if (hours < 10) return `${(Math.floor(hours * 10) / 10).toFixed(1)} h`;
  if (hours < 72) return `${Math.floor(hours)} h`;
  return hours < 24 * 730 ? `${Math.floor(hours / 24)} d` : "> 2 y";
}

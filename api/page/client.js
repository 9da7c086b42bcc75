// Speaking to the API: the key, JSON answers, problems, and the stream.

import { setClock } from "./times.js";

const PAGES = 10;
const PATIENCE = 15_000; // ms
const STORED = "tollwatch-key";
const REFUSED = "tollwatch-key-refused";
const given = document.querySelector('meta[name="tollwatch-key"]').content;

/** The key to read with: the one that the page brings, or the one that this tab keeps. */
export const key = {
  isGiven: given !== "",
  get: () => given || sessionStorage.getItem(STORED),
  set: (text) => sessionStorage.setItem(STORED, text),
  forget: (refusal) => {
    sessionStorage.removeItem(STORED);
    if (refusal) sessionStorage.setItem(REFUSED, refusal);
  },
  /** Why the last key was not taken; told once. */
  refusal: () => {
    const told = sessionStorage.getItem(REFUSED) ?? "";
    sessionStorage.removeItem(REFUSED);
    return told;
  },
};

/** An answer that is no success; status 0: there was none. */
export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

/** One answer. Throws Problem. */
export async function get(path, parameters = {}) {
  const response = await ask(`${path}?${new URLSearchParams(parameters)}`, AbortSignal.timeout(PATIENCE));
  return response.json().catch(() => { throw new Problem(0, "cut_off", "the answer ended early"); });
}

/** The items of a list, page by page, PAGES at most. Throws Problem. */
export async function items(path, parameters = {}) {
  const found = [];
  let cursor = null;
  for (let page = 0; page < PAGES; page += 1) {
    const answer = await get(path, { limit: 1000, ...parameters, ...(cursor && { cursor }) });
    found.push(...answer.items);
    cursor = answer.next;
    if (cursor === null) break;
  }
  return found;
}

/** The body of the stream, from behind the event `last` on, if that is not null. Throws Problem. */
export async function stream(path, last, signal) {
  return (await ask(path, signal, last && { "Last-Event-ID": last })).body;
}

async function ask(url, signal, more) {
  const headers = { Authorization: `Bearer ${key.get()}`, ...more };
  let response;
  try {
    response = await fetch(url, { headers, cache: "no-store", signal });
  } catch {
    throw new Problem(0, "no_answer", "Tollwatch does not answer");
  }
  setClock(response.headers.get("date"));
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Problem(response.status, problem.code ?? "", problem.detail ?? `status ${response.status}`);
}

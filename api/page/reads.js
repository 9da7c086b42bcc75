// What the page reads, and how often. Ranges are the last 24 clock hours, the present one among them.

import { get, items } from "./client.js";
import { hourStart } from "./times.js";

/** Seconds from one read of what changes with every event to the next. */
export const FAST = 5;
const SLOW = 15;
const HOURLY = 60;

const NEWEST_PAYMENTS = 200;
const NEWEST_EVENTS = 16;
const SINGLE = 60; // most agents that are asked for one by one

const READS = {
  agents: [SLOW, () => items("/v1/agents")],
  balances: [FAST, () => items("/v1/balances")],
  runway: [SLOW, () => items("/v1/runway")],
  breakers: [FAST, () => items("/v1/breakers")],
  queue: [FAST, () => items("/v1/queue")],
  retries: [SLOW, () => items("/v1/retry-health", { ...day(), bucket: "total", group_by: "agent" })],
  hours: [FAST, () => items("/v1/payments/hourly", { ...day(), group_by: "asset,status" })],
  unknown: [SLOW, () => items("/v1/payments/hourly", { ...day(), group_by: "agent,asset", status: "unknown" })],
  spend: [FAST, () => items("/v1/spend", { ...day(), group_by: "asset,service" })],
  payments: [FAST, () => newest("/v1/payments", NEWEST_PAYMENTS)],
  audit: [FAST, () => newest("/v1/audit-events", NEWEST_EVENTS)],
  balanceHours: [HOURLY, () => items("/v1/balances/history", { ...day(), bucket: "1h" })],
};
// The stream brings these; they are read now and then all the same.
const STREAMED = ["balances", "runway", "breakers", "payments"];

/** The answers: one list of items per name of READS. */
export const held = {};
/** The newest transition of a payment, by agent; null: none in 24 hours. */
export const lastPayments = new Map();
const due = new Map();
let live = false;

function day() {
  return { from: new Date(hourStart(23)).toISOString() };
}

async function newest(path, limit) {
  return (await get(path, { limit })).items;
}

/** Read what is due. Throws Problem; what was read before stays. */
export async function readDue() {
  const started = performance.now() / 1000;
  const wanted = Object.entries(READS).filter(([name]) => (due.get(name) ?? 0) <= started);
  await Promise.all(wanted.map(async ([name, [every, read]]) => {
    held[name] = await read();
    // Half a second early: a timer that is a little late must not make it miss its turn.
    due.set(name, started + (live && STREAMED.includes(name) ? HOURLY : every) - 0.5);
  }));
  if (wanted.some(([name]) => name === "payments")) rememberPayments(held.payments);
  await readLastPayments();
}

/** Whether the stream runs. When it breaks off, what it brought is due. */
export function setLive(is) {
  if (live && !is) for (const name of STREAMED) due.delete(name);
  live = is;
}

/** Take in an event of the stream. Events before the first answers tell nothing that those will not. */
export function take(name, data) {
  if (held.agents === undefined) return;
  const told = name === "hello" ? data : { [name]: data.items };
  if (told.balances) {
    held.balances = merged(held.balances, told.balances, pairOf);
    held.runway = merged(held.runway, told.balances, pairOf);
  }
  if (told.breakers) held.breakers = merged(held.breakers, told.breakers, breakerOf);
  if (told.payments) rememberPayments(told.payments);
  if (told.audit?.length > 0) due.delete("audit");
  const known = new Set(held.agents.map(({ agent }) => agent));
  if (Object.values(told).flat().some(({ agent }) => agent && !known.has(agent))) due.delete("agents");
}

function merged(before, news, nameOf) {
  const found = new Map(before.map((item) => [nameOf(item), item]));
  for (const item of news) found.set(nameOf(item), { ...found.get(nameOf(item)), ...item });
  return [...found.values()];
}

function breakerOf({ agent, component }) {
  return JSON.stringify([agent, component]);
}

/** Keep the newest payment of each agent, from a list with the newest first. */
function rememberPayments(payments) {
  for (const payment of [...payments].reverse()) {
    if (!(lastPayments.get(payment.agent)?.ts > payment.ts)) lastPayments.set(payment.agent, payment);
  }
}

/** Agents without a payment among the newest of all are asked for alone, once. */
async function readLastPayments() {
  const missing = held.agents.filter(({ agent, archived_at: archived }) => archived === null && !lastPayments.has(agent));
  await Promise.all(missing.slice(0, SINGLE).map(async ({ agent }) => {
    lastPayments.set(agent, (await get("/v1/payments", { agent, limit: 1 })).items[0] ?? null);
  }));
}

/** Which balance an item is of. */
export function pairOf({ network, wallet, asset }) {
  return `${network} ${wallet} ${asset}`;
}

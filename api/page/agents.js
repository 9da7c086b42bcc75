// A card per agent: what it has, how long that lasts, and how it fares.

import { gauge, sparkline } from "./charts.js";
import { byId, el } from "./dom.js";
import { grouped, shortened, tokens, unit } from "./money.js";
import { now, time } from "./times.js";
import { amountsOf, count, percent } from "./views.js";

const NETWORKS = new Map([
  ["solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "Solana mainnet"],
  ["solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "Solana devnet"],
  ["solana:4uhcVJyU9pJkvQyS88uRDiswHScCKQY3", "Solana testnet"],
]);
const isSandbox = document.documentElement.dataset.world === "sandbox";
const PHASES = new Map([["full", "full autonomy"], ["interactive", "interactive"], ["demo", "demo"]]);
const STATUS = new Map([["sufficient", "ok"], ["low", "low"], ["paused", "paused"]]);

const LATE = 120e3; // ms since a balance was sampled, from which on that is a warning

const cards = new Map();

/** One word with a colour; the word alone says it too. */
export function chip(text, state) {
  return el("span", { class: `chip ${state ?? text}` }, text);
}

export function cardId(agent) {
  return `agent-${encodeURIComponent(agent)}`;
}

/** Draw the cards of all agents that are not archived. `views`: see views.js. */
export function showAgents(views) {
  const place = byId("agent-cards");
  if (views.length === 0) {
    cards.clear();
    place.replaceChildren(noAgents());
    return;
  }
  const nodes = views.map((view) => cardOf(view));
  if (nodes.length !== place.children.length || nodes.some((node, index) => node !== place.children[index])) {
    place.replaceChildren(...nodes);
  }
}

function noAgents() {
  return el(
    "div", { class: "empty panel" },
    el("p", {}, "No agents yet. Register one, then report what it pays:"),
    el("pre", {}, "PUT /v1/agents/{name}\nPUT /v1/agents/{name}/wallets/{address}\nPOST /v1/events"),
    el("p", {}, el("a", { href: "/docs" }, "The API"), " tells what each takes."),
  );
}

function cardOf(view) {
  const { sampled, trends, ...told } = view;
  const print = JSON.stringify(told);
  let held = cards.get(view.agent.agent);
  if (held?.print !== print) {
    held = { print, node: draw(view) };
    cards.set(view.agent.agent, held);
  }
  // What changes with every sample alone is written in place.
  held.node.querySelector(".sampled time")?.replaceWith(time(sampled));
  held.node.querySelector(".sampled")?.classList.toggle("late", now() - Date.parse(sampled) > LATE);
  return held.node;
}

function draw(view) {
  const { agent } = view;
  const id = cardId(agent.agent);
  return el(
    "article", { class: "card panel", id, "aria-labelledby": `${id}-name` },
    el("header", {}, el("h3", { id: `${id}-name` }, agent.agent), ...chipsOf(view)),
    el(
      "p", { class: "kind" },
      PHASES.get(agent.autonomy_phase) ?? agent.autonomy_phase, " · ", networkOf(agent.network),
      view.sampled ? el("span", { class: "sampled" }, el("span", { class: "word" }, "sampled "), time(view.sampled)) : null,
    ),
    view.balances.length > 0 ? balancesTable(view) : el("p", { class: "empty" }, "No balance yet: PUT its wallet, and it is sampled."),
    el("dl", { class: "facts" }, ...factsOf(view).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, ...value)])),
  );
}

function networkOf(network) {
  const name = NETWORKS.get(network) ?? network;
  return el("span", { title: network }, isSandbox ? `${name} (sandbox)` : name);
}

function chipsOf(view) {
  const words = new Set(view.balances.map(({ status }) => status).filter((status) => status !== "sufficient"));
  if (view.breakers.some(({ state }) => state === "open")) words.add("open");
  const chips = [...words].map((word) => (word === "open" ? chip("breaker open", "open") : chip(word)));
  if (view.unknown.length > 0) chips.push(chip("unknown payments", "unknown"));
  if (!view.agent.active) chips.push(chip("inactive", "quiet"));
  return chips.length > 0 ? chips : [chip("ok")];
}

function balancesTable(view) {
  const isOneWallet = new Set(view.balances.map(({ wallet }) => wallet)).size === 1;
  const heads = ["asset", "balance", "threshold", view.span ? `last ${view.span}` : "trend", "runway"];
  return el(
    "table", { class: "balances" },
    el("caption", { class: "unseen" }, `Balances of ${view.agent.agent}`),
    el("thead", {}, el("tr", {}, ...heads.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, ...view.balances.map((balance, index) => balanceRow(balance, view.trends[index], isOneWallet))),
  );
}

function balanceRow(balance, trend, isOneWallet) {
  const amount = BigInt(balance.amount);
  const threshold = balance.threshold === null ? null : BigInt(balance.threshold);
  const most = [amount, (threshold ?? 0n) * 2n, trend.most, 1n].reduce((a, b) => (b > a ? b : a));
  const status = STATUS.get(balance.status) ?? balance.status;
  const where = `${balance.wallet}${balance.reason ? ` (${balance.reason})` : ""}`;
  return el(
    "tr", { class: status, "data-asset": balance.asset, "data-wallet": balance.wallet },
    el(
      "th", { scope: "row", title: where },
      shortened(balance.asset), el("span", { class: "unseen" }, ` ${status}`),
      isOneWallet ? null : el("small", {}, shortened(balance.wallet)),
    ),
    el(
      "td", { class: "amount" },
      el("span", { class: "number", title: `${grouped(balance.amount)} atomic units` }, tokens(balance.amount, balance)),
      gauge(amount, threshold, most, status),
    ),
    el("td", { class: "number quiet" }, threshold === null ? "none" : tokens(balance.threshold, balance)),
    el("td", { class: "trend" }, trend.points.length > 1 ? sparkline(trend, trendLabel(balance, trend)) : null),
    el("td", { class: "number" }, runwayOf(balance)),
  );
}

function trendLabel(balance, { least, most, span }) {
  const [from, to] = [least, most].map((amount) => tokens(amount.toString(), balance));
  return `${shortened(balance.asset)}${span && `, last ${span}`}: ${from === to ? `unchanged at ${from}` : `${from} to ${to}`}`;
}

function runwayOf(balance) {
  if (balance.runway === null) {
    const why = "nothing flowed out in the last 24 hours";
    return el("span", { class: "quiet", title: why }, el("span", { "aria-hidden": "true" }, "—"), el("span", { class: "unseen" }, why));
  }
  return el("span", { title: "at the outflow of the last 24 hours" }, balance.runway);
}

function factsOf(view) {
  const facts = [["breakers", breakersOf(view.breakers)], ["retries", retriesOf(view.retries)]];
  if (view.unknown.length > 0) facts.push(["unknown", unknownOf(view.unknown)]);
  if (view.queued > 0) facts.push(["waiting", [`${grouped(view.queued)} request${view.queued === 1 ? "" : "s"}`]]);
  return [...facts, ["last paid", lastPayment(view)]];
}

function breakersOf(breakers) {
  if (breakers.length === 0) return ["none reported"];
  return breakers.map(({ component, state, ts }) =>
    el("span", { class: "breaker" }, component || "all", " ", chip(state.replace("_", "-"), state), " ", time(ts)));
}

function retriesOf({ attempts, retries, skipped }) {
  if (attempts + skipped === 0) return ["no attempts in 24 h"];
  const share = retries > 0 ? ` (${percent(retries, attempts)})` : "";
  const avoided = skipped > 0 ? `; ${grouped(skipped)} skipped while open` : "";
  return [`${grouped(retries)} of ${grouped(attempts)} attempts${share}${avoided}`];
}

function unknownOf(rows) {
  const amounts = amountsOf(rows).map((parts) => parts.join(" ")).join(", ");
  return [`${grouped(count(rows))} in 24 h, ${amounts}`];
}

function lastPayment({ payment, service }) {
  if (payment === null) return ["nothing in 24 h"];
  const to = el("span", { title: payment.service }, service);
  return [chip(payment.status), ` ${tokens(payment.amount, payment)} ${unit(payment)} to `, to, " ", time(payment.ts)];
}

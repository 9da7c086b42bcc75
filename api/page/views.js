// From answers to what is shown: one view per agent, the figures, names of services.

import { grouped, tokens, total, unit } from "./money.js";
import { held, lastPayments, pairOf } from "./reads.js";
import { duration } from "./times.js";
import { trendOf } from "./trends.js";

const BY_AGENT = ["balances", "runway", "breakers", "queue", "retries", "unknown", "balanceHours"];
const NAMED = 4; // most names in a figure's note
const NO_RETRIES = { attempts: 0, retries: 0, skipped: 0, amounts: [] };

/** Agents that are not archived. */
export function liveAgents() {
  return held.agents.filter(({ archived_at: archived }) => archived === null);
}

/** What the cards tell, one view per agent. */
export function agentViews() {
  const groups = Object.fromEntries(BY_AGENT.map((name) => [name, groupedBy(held[name], ({ agent }) => agent)]));
  return liveAgents().map((agent) => viewOf(agent, (name) => groups[name].get(agent.agent) ?? []));
}

function viewOf(agent, own) {
  const left = new Map(own("runway").map((row) => [pairOf(row), row.runway_hours]));
  const hours = groupedBy(own("balanceHours"), pairOf);
  const balances = own("balances").map((balance) => balanceView(balance, left.get(pairOf(balance))));
  // What is spent first: it is what a person looks for.
  balances.sort((a, b) => (a.runway === null) - (b.runway === null) || (pairOf(a) < pairOf(b) ? -1 : 1));
  const trends = balances.map((balance) => trendOf(balance, hours.get(pairOf(balance)) ?? []));
  const payment = lastPayments.get(agent.agent) ?? null;
  return {
    agent,
    payment,
    trends,
    balances,
    sampled: own("balances").map(({ ts }) => ts).sort()[0] ?? null,
    span: trends.map(({ span }) => span).find(Boolean) ?? "",
    breakers: own("breakers"),
    retries: own("retries")[0] ?? NO_RETRIES,
    unknown: byAsset(own("unknown")),
    queued: own("queue").length,
    service: payment && serviceOf(payment.service).name,
  };
}

/** A balance without what changes at every sample. */
function balanceView({ agent, network, wallet, asset, decimals, amount, threshold, status, reason }, hours) {
  return { agent, network, wallet, asset, decimals, amount, threshold, status, reason, runway: runwayOf(hours) };
}

function runwayOf(hours) {
  return hours === null || hours === undefined ? null : duration(hours);
}

/** A service's name, where an agent's endpoints have one (then its origin too), else its origin as the name. */
export function serviceOf(service) {
  const origin = service.replace(/^https?:\/\//, "");
  for (const { api_endpoints: endpoints } of held.agents) {
    const found = endpoints.find(({ url }) => url === service || url?.startsWith(`${service}/`));
    if (found?.name) return { name: found.name, origin };
  }
  return { name: origin, origin: null };
}

/** The figures at a glance: [{label, values: [[number, unit]], note, agents (in place of a note), state}]. */
export function figures() {
  const of = (status) => held.hours.filter((row) => row.status === status);
  return [
    { label: "spent, 24 h", values: amountsOf(byAsset(of("settled"))) },
    paymentsFigure(count(of("settled")), count([...of("failed"), ...of("reverted")])),
    unknownFigure(of("unknown")),
    lowFigure(),
    breakersFigure(held.breakers.filter(({ state }) => state === "open")),
    retriesFigure(),
  ];
}

function paymentsFigure(settled, failed) {
  const note = failed > 0 ? `${grouped(failed)} failed or reverted` : "none failed";
  return { label: "payments, 24 h", values: [[grouped(settled), "settled"]], note };
}

function unknownFigure(rows) {
  const values = [[grouped(count(rows)), ""]];
  if (rows.length === 0) return { label: "went unknown, 24 h", values, note: "no payment without an outcome" };
  const note = amountsOf(byAsset(rows)).map((parts) => parts.join(" ")).join(", ");
  return { label: "went unknown, 24 h", values, note, state: "unknown" };
}

function lowFigure() {
  const below = new Set(held.balances.filter(({ status }) => status !== "sufficient").map(({ agent }) => agent));
  const low = liveAgents().map(({ agent }) => agent).filter((agent) => below.has(agent));
  const values = [[grouped(low.length), `of ${liveAgents().length}`]];
  if (low.length === 0) return { label: "agents low", values, note: "all above their thresholds" };
  return { label: "agents low", values, agents: low.slice(0, NAMED), state: "low" };
}

function breakersFigure(open) {
  const values = [[grouped(open.length), `of ${held.breakers.length}`]];
  if (open.length === 0) return { label: "breakers open", values, note: "none" };
  const note = open.slice(0, NAMED).map(({ agent, component }) => `${agent} / ${component || "all"}`).join(", ");
  return { label: "breakers open", values, note, state: "open" };
}

function retriesFigure() {
  const sum = (name) => held.retries.reduce((all, row) => all + row[name], 0);
  const [attempts, retries] = [sum("attempts"), sum("retries")];
  const share = attempts > 0 ? `${percent(retries, attempts)} of attempts` : "no attempts";
  const paid = held.retries.flatMap(({ amounts }) => amounts).map((row) => ({ ...row, amount: row.retry_amount, payments: 0 }));
  const cost = byAsset(paid.filter(({ amount }) => amount !== "0"));
  const note = [share, ...cost.map((row) => `${tokens(row.amount, row)} ${unit(row)} paid on them`)].join("; ");
  return { label: "retries, 24 h", values: [[grouped(retries), ""]], note };
}

export function percent(part, of) {
  return `${((part / of) * 100).toFixed(1)} %`;
}

export function count(rows) {
  return rows.reduce((sum, { payments }) => sum + payments, 0);
}

/** Rows summed by asset: the first of each, with the sums of amounts and payments. */
export function byAsset(rows) {
  const groups = groupedBy(rows, ({ network, asset }) => `${network} ${asset}`);
  return [...groups.values()].map((group) => ({
    ...group[0],
    amount: total(group.map(({ amount }) => amount)),
    payments: count(group),
  }));
}

/** Amounts as [number, unit]. */
export function amountsOf(rows) {
  return rows.length > 0 ? rows.map((row) => [tokens(row.amount, row), unit(row)]) : [["0", ""]];
}

/** Map.groupBy, which browsers of 2023 lack. */
export function groupedBy(rows, nameOf) {
  const groups = new Map();
  for (const row of rows) {
    const name = nameOf(row);
    if (groups.has(name)) groups.get(name).push(row);
    else groups.set(name, [row]);
  }
  return groups;
}

// All that is not of one agent: figures at a glance, payments per hour, spend by service, audit events.

import { cardId } from "./agents.js";
import { bars } from "./charts.js";
import { byId, el, show } from "./dom.js";
import { average, decimalsOf, grouped, shortened, tokens, unit } from "./money.js";
import { time } from "./times.js";
import { byAsset, groupedBy } from "./views.js";

const OUTCOMES = ["settled", "retrying", "unknown", "failed", "reverted"];
const SERVICES = 12;
const DETAILS = 4;

/** The figures, as views.js has them. */
export function showFigures(figures) {
  show("figures", figures, () => figures.map(({ label, values, note, agents, state }) =>
    el(
      "div", { class: state ?? null },
      el("dt", {}, label),
      ...values.map(([number, of]) => el("dd", {}, el("span", { class: "number" }, number), of ? ` ${of}` : null)),
      note || agents ? el("dd", { class: "note" }, ...(agents ? linked(agents) : [note])) : null,
    )));
}

function linked(names) {
  return names.flatMap((name, index) => [index > 0 ? ", " : null, el("a", { href: `#${encodeURIComponent(cardId(name))}` }, name)]);
}

/** Stacked bars of 24 hours from `from`, a legend, and the same as a table. */
export function showHours(rows, from) {
  show("hours", [rows, from], () => {
    const hours = Array.from({ length: 24 }, (_, index) => hourOf(rows, from + index * 3600e3));
    const used = OUTCOMES.filter((status) => rows.some((row) => row.status === status));
    byId("hours-details").hidden = used.length === 0;
    if (used.length === 0) return el("p", { class: "empty" }, "No payments in 24 h. Agents report them to POST /v1/events.");
    showTable(hours, used);
    return chart(hours, used);
  });
}

function hourOf(rows, start) {
  const bucket = new Date(start).toISOString();
  const of = (status) => rows.filter((row) => row.bucket === bucket && row.status === status);
  const counts = OUTCOMES.map((status) => [status, of(status).reduce((sum, row) => sum + row.payments, 0)]);
  return { label: bucket.slice(11, 16), counts, sum: counts.reduce((sum, [, count]) => sum + count, 0) };
}

function chart(hours, used) {
  const most = Math.max(...hours.map(({ sum }) => sum));
  const told = used.map((status) => `${status} ${sumOf(hours, status)}`).join(", ");
  return [
    el(
      "div", { class: "plot" },
      el("p", { class: "scale", "aria-hidden": "true" }, el("span", {}, grouped(most)), el("span", {}, "0")),
      bars(hours, most, `Payments of the last 24 hours: ${told}. Most in one hour: ${most}.`),
      el("p", { class: "hours", "aria-hidden": "true" }, ...[0, 6, 12, 18, 23].map((index) => el("span", {}, hours[index].label))),
    ),
    el("ul", { class: "legend" }, ...used.map((status) =>
      el("li", {}, el("span", { class: `swatch ${status}`, "aria-hidden": "true" }), `${status} `, el("span", { class: "number" }, grouped(sumOf(hours, status)))))),
  ];
}

function sumOf(hours, status) {
  return hours.reduce((sum, { counts }) => sum + counts.find(([name]) => name === status)[1], 0);
}

function showTable(hours, used) {
  const rows = hours.filter(({ sum }) => sum > 0).reverse();
  byId("hours-table").replaceChildren(
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "hour"), ...used.map((name) => el("th", { scope: "col", class: "number" }, name)))),
    el("tbody", {}, ...rows.map(({ label, counts }) => el(
      "tr", {},
      el("th", { scope: "row", class: "number" }, label),
      ...counts.filter(([name]) => used.includes(name)).map(([, count]) => el("td", { class: "number" }, grouped(count))),
    ))),
  );
}

/** What was bought from whom. `nameOf`: a service's name by its origin. */
export function showSpend(rows, nameOf) {
  const groups = [...groupedBy(rows, ({ service }) => service).values()].flatMap(byAsset);
  const sorted = groups.sort((a, b) => b.payments - a.payments || (a.service < b.service ? -1 : 1));
  show("spend", sorted, () => {
    if (sorted.length === 0) return el("p", { class: "empty" }, "Nothing was settled in 24 h.");
    const heads = [["service", ""], ["payments", "number"], ["spent", "number"], ["average", "number"]];
    const more = sorted.length - SERVICES;
    return [
      el(
        "table", { class: "spend" },
        el("thead", {}, el("tr", {}, ...heads.map(([text, kind]) => el("th", { scope: "col", class: kind || null }, text)))),
        el("tbody", {}, ...sorted.slice(0, SERVICES).map((row) => spendRow(row, nameOf))),
      ),
      more > 0 ? el("p", { class: "hint" }, `and ${more} more: GET /v1/spend`) : null,
    ].filter(Boolean);
  });
}

function spendRow(row, nameOf) {
  const { name, origin } = nameOf(row.service);
  return el(
    "tr", {},
    el("th", { scope: "row", title: row.service }, name, origin ? el("small", {}, origin) : null),
    el("td", { class: "number" }, grouped(row.payments)),
    el("td", { class: "number" }, tokens(row.amount, row), el("small", {}, unit(row))),
    el("td", { class: "number" }, tokens(average(row.amount, row.payments), row)),
  );
}

/** The newest audit events. */
export function showAudit(events, networkOf) {
  show("audit", events, () => {
    if (events.length === 0) return el("p", { class: "empty" }, "No audit events in 24 h.");
    return el("ol", { class: "audit" }, ...events.map((event) => auditLine(event, networkOf(event.agent))));
  });
}

function auditLine(event, network) {
  const source = [event.agent, event.component].filter(Boolean).join(" / ");
  const told = [event.resolved_at ? "resolved" : null, detailsOf(event.details, network)].filter(Boolean).join(" · ");
  const isLoud = !["debug", "info"].includes(event.severity);
  return el(
    "li", { class: event.severity },
    el("p", { class: "what" }, el("strong", {}, event.event_type.replaceAll("_", " ")), el("span", {}, source), time(event.ts)),
    el("p", { class: "details" }, el("span", { class: isLoud ? "severity" : "unseen" }, event.severity), isLoud && told ? " · " : " ", told),
  );
}

/** A line of an event's details; amounts in tokens where they name their asset. */
function detailsOf(details, network) {
  const { asset, ...rest } = details ?? {};
  const isName = typeof asset === "string";
  const item = { asset, network };
  const known = isName && decimalsOf(item) !== null;
  const entries = Object.entries(rest).slice(0, DETAILS).map(([name, value]) => {
    const isAmount = known && ["amount", "balance", "threshold"].includes(name) && /^\d+$/.test(String(value));
    return `${name.replaceAll("_", " ")} ${isAmount ? `${tokens(String(value), item)} ${asset}` : plain(value)}`;
  });
  if (isName && !known) entries.unshift(`asset ${shortened(asset)}`);
  return entries.join(" · ");
}

function plain(value) {
  return shortened(typeof value === "string" ? value : JSON.stringify(value)).slice(0, 80);
}

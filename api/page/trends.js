// Trends of balances: by the hour, or by the sample while there are few hours.

import { get } from "./client.js";
import { held, pairOf } from "./reads.js";
import { duration, now } from "./times.js";

const HOUR = 3600e3;
const YOUNG = 4; // hours; with fewer of them a trend by the hour tells nothing
const FIRST = 200; // samples of one balance that are read
const KEPT = 800; // samples of one balance, as more arrive
const MOST = 60; // balances whose samples are read

const samples = new Map();

/** Take in the newest balances; while history is young, read the samples of those that move, once. Throws Problem. */
export async function follow() {
  for (const balance of held.balances) append(samples.get(pairOf(balance)), balance);
  if (!isYoung()) return;
  const moving = new Set(held.balanceHours.filter((hour) => hour.amount_min !== hour.amount_max).map(pairOf));
  const wanted = held.balances.filter((balance) => moving.has(pairOf(balance)) && !samples.has(pairOf(balance)));
  await Promise.all(wanted.slice(0, Math.max(0, MOST - samples.size)).map(readSamples));
}

async function readSamples({ agent, wallet, asset, network }) {
  const { items } = await get("/v1/balances/history", { agent, wallet, asset, limit: FIRST });
  const points = items.filter((sample) => sample.network === network).reverse().map(pointOf);
  samples.set(pairOf({ network, wallet, asset }), points);
}

function append(points, balance) {
  const point = pointOf(balance);
  if (points === undefined || (points.at(-1)?.[0] ?? 0) >= point[0]) return;
  points.push(point);
  if (points.length > KEPT) points.shift();
}

function pointOf({ ts, amount }) {
  return [Date.parse(ts), BigInt(amount)];
}

function isYoung() {
  return new Set(held.balanceHours.map(({ bucket }) => bucket)).size < YOUNG;
}

/** The trend of a balance, from its hours (any order): points and bands of [from, to, least, most], extremes, length. */
export function trendOf(balance, hours) {
  const points = samples.get(pairOf(balance)) ?? [];
  if (!isYoung()) return byHour(hours);
  // The hours of a balance that never moved tell that, but not since when.
  return points.length > 1 ? ranged(points, []) : { ...byHour(hours), span: "" };
}

function byHour(hours) {
  const sorted = [...hours].sort((a, b) => (a.bucket < b.bucket ? -1 : 1));
  const points = [];
  const bands = [];
  for (const { bucket, amount_first: first, amount_last: last, amount_min: least, amount_max: most } of sorted) {
    const from = Date.parse(bucket);
    const to = Math.min(from + HOUR, Math.max(now(), from + 1));
    points.push([from, BigInt(first)], [to, BigInt(last)]);
    bands.push([from, to, BigInt(least), BigInt(most)]);
  }
  return ranged(points, bands);
}

function ranged(points, bands) {
  const amounts = [...points.map(([, amount]) => amount), ...bands.flatMap(([, , least, most]) => [least, most])];
  return {
    points,
    bands,
    least: amounts.reduce((a, b) => (b < a ? b : a), amounts[0] ?? 0n),
    most: amounts.reduce((a, b) => (b > a ? b : a), amounts[0] ?? 0n),
    span: points.length > 1 ? duration((points.at(-1)[0] - points[0][0]) / HOUR) : "",
  };
}

// Small drawings: a line, a gauge, stacked bars. Sizes are relative; what they mean is in the text beside them.

import { svg } from "./dom.js";
import { permille } from "./money.js";

/** A trend's line over its bands, scaled to its own extremes. */
export function sparkline({ points, bands, least, most }, label) {
  const [from, to] = [points[0][0], points.at(-1)[0]];
  const x = (ms) => (to === from ? 1000 : Math.round(((ms - from) / (to - from)) * 1000));
  const y = (amount) => (most === least ? 500 : 940 - Math.round(permille(amount - least, most - least) * 0.88));
  const line = points.map(([ms, amount]) => `${x(ms)},${y(amount)}`).join(" ");
  return svg(
    "svg", { class: "spark", viewBox: "0 0 1000 1000", preserveAspectRatio: "none", role: "img", "aria-label": label },
    svg("title", {}, label),
    svg("polygon", { class: "area", points: `0,1000 ${line} 1000,1000` }),
    ...bands.map(([start, end, low, high]) => svg("rect", {
      class: "band", x: x(start), width: Math.max(1, x(end) - x(start)), y: y(high), height: Math.max(1, y(low) - y(high)),
    })),
    svg("polyline", { class: "line", points: line }),
  );
}

/** A balance as a bar, with a mark at its threshold. `most`: the full width. */
export function gauge(amount, threshold, most, status) {
  const width = (value) => Math.min(1000, permille(value, most));
  const box = { class: "gauge", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" };
  const mark = threshold === null ? null : width(threshold);
  return svg(
    "svg", box,
    svg("rect", { class: "track", width: 1000, height: 10 }),
    svg("rect", { class: `fill ${status}`, width: amount > 0n ? Math.max(4, width(amount)) : 0, height: 10 }),
    mark === null ? null : svg("line", { class: "mark", x1: mark, x2: mark, y1: 0, y2: 10 }),
  );
}

/** Hours as stacked bars: [{label, counts: [[status, count]]}], from below. `most`: the full height. */
export function bars(hours, most, label) {
  const box = { class: "bars", viewBox: `0 0 ${hours.length * 10} 100`, preserveAspectRatio: "none", role: "img", "aria-label": label };
  return svg(
    "svg", box,
    ...[0, 50].map((y) => svg("line", { class: "grid", x1: 0, x2: hours.length * 10, y1: y, y2: y })),
    ...hours.map((hour, index) => bar(hour, index, most)),
    svg("line", { class: "base", x1: 0, x2: hours.length * 10, y1: 100, y2: 100 }),
  );
}

function bar(hour, index, most) {
  let top = 100;
  const parts = hour.counts.filter(([, count]) => count > 0).map(([status, count]) => {
    const height = Math.max(1, (count / most) * 100);
    top -= height;
    return svg("rect", { class: status, x: index * 10 + 1, y: Math.max(0, top), width: 8, height });
  });
  const told = hour.counts.filter(([, count]) => count > 0).map(([status, count]) => `${status} ${count}`).join(", ");
  // The whole column takes the pointer, however low its bar.
  const column = svg("rect", { class: "column", x: index * 10, y: 0, width: 10, height: 100 });
  return svg("g", {}, svg("title", {}, `${hour.label}: ${told || "none"}`), column, ...parts);
}

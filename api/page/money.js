// Money: strings of atomic units in, exact decimal text out. BigInt and strings only; no floats.

// Of assets that an answer names without their decimals.
const DECIMALS = new Map([["SOL", 9], ["USDC", 6], ["CASH", 6]]);

/** The decimals of an item's asset; null: unknown, so its amounts are shown in atomic units. */
export function decimalsOf(item) {
  if (Number.isInteger(item.decimals)) return item.decimals;
  return (item.network ?? "").startsWith("solana:") ? DECIMALS.get(item.asset) ?? null : null;
}

/** "1234567", 6 → "1.234567"; "2500000", 6 → "2.50". Never rounded; at least `least` digits after the point. */
export function whole(amount, decimals, least = 2) {
  const digits = String(amount).padStart(decimals + 1, "0");
  const split = digits.length - decimals;
  const fraction = digits.slice(split).replace(/0+$/, "").padEnd(Math.min(least, decimals), "0");
  return grouped(digits.slice(0, split)) + (fraction && `.${fraction}`);
}

/** "1234567" → "1,234,567". */
export function grouped(digits) {
  return String(digits).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** Amount of an item as text without its asset: whole tokens, or atomic units where decimals are unknown. */
export function tokens(amount, item) {
  const decimals = decimalsOf(item);
  return decimals === null ? grouped(amount) : whole(amount, decimals);
}

/** What the amount is of: "USDC", or "atomic units of 8KLx…f2Qp". */
export function unit(item) {
  return decimalsOf(item) === null ? `atomic units of ${shortened(item.asset)}` : item.asset;
}

/** The sum of strings of atomic units. */
export function total(amounts) {
  return amounts.reduce((sum, amount) => sum + BigInt(amount), 0n).toString();
}

/** The average of `count` payments that cost `amount`, to the nearest atomic unit. */
export function average(amount, count) {
  const by = BigInt(count);
  return by === 0n ? "0" : ((BigInt(amount) + by / 2n) / by).toString();
}

/** part / whole in thousandths, for drawing. */
export function permille(part, of) {
  return of === 0n ? 0 : Number((part * 1000n) / of);
}

/** Addresses, mints and signatures: both ends. */
export function shortened(text) {
  return text.length > 16 && !text.includes(" ") ? `${text.slice(0, 5)}…${text.slice(-4)}` : text;
}

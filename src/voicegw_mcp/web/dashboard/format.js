// How figures and moments are written. Moments are shown in the time zone whose days the gateway counts.

const count_ = new Intl.NumberFormat("en-US");
const cents = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const fine = new Intl.NumberFormat("en-US", {
  style: "currency",
  currency: "USD",
  minimumFractionDigits: 4,
  maximumFractionDigits: 4,
});

let zone = "UTC";
/** @type {Map<string, Intl.DateTimeFormat>} */
const clocks = new Map();

/** @param {string} timezone IANA name, as the gateway tells it */
export function setTimezone(timezone) {
  if (timezone === zone) return;
  zone = timezone;
  clocks.clear();
}

/** @returns {string} IANA name */
export function timezone() {
  return zone;
}

/** @param {number} amount of anything */
export function count(amount) {
  return count_.format(amount);
}

/** @param {number | undefined} usd undefined is unpriced; below a dollar there are four decimals: single calls cost so little */
export function money(usd) {
  if (usd === undefined) return "–";
  if (usd === 0) return "$0";
  if (Math.abs(usd) < 0.00005) return "< $0.0001";
  return (Math.abs(usd) < 1 ? fine : cents).format(usd);
}

/** @param {number | undefined} ms */
export function milliseconds(ms) {
  if (ms === undefined) return "–";
  return ms < 9_999.5 ? `${count_.format(Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/**
 * @param {number} part
 * @param {number} whole
 */
export function percent(part, whole) {
  if (!whole || !part) return "0 %";
  const share = (part / whole) * 100;
  return share < 0.1 ? "< 0.1 %" : `${share.toFixed(share < 10 ? 1 : 0)} %`;
}

/** @param {number} bytes */
export function size(bytes) {
  return bytes < 1e6
    ? `${(bytes / 1e3).toFixed(0)} kB`
    : bytes < 1e9
      ? `${(bytes / 1e6).toFixed(0)} MB`
      : `${(bytes / 1e9).toFixed(1)} GB`;
}

/**
 * @param {string} name of the form, unique
 * @param {Intl.DateTimeFormatOptions} options
 */
function clock(name, options) {
  let found = clocks.get(name);
  if (!found) clocks.set(name, (found = new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options })));
  return found;
}

/** @param {Date} moment */
export function day(moment) {
  return clock("day", { weekday: "short", day: "numeric", month: "short" }).format(moment);
}

/** @param {Date} moment */
export function shortDay(moment) {
  return clock("shortDay", { day: "numeric", month: "short" }).format(moment);
}

/** @param {Date} moment */
export function hour(moment) {
  return clock("hour", { hour: "2-digit", minute: "2-digit" }).format(moment);
}

/** @param {Date} moment */
export function second(moment) {
  return clock("second", { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(moment);
}

/** @param {Date} moment */
export function full(moment) {
  return `${clock("full", { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(moment)} ${zone}`;
}

/** @param {number} ms from now */
export function duration(ms) {
  const minutes = Math.max(0, Math.round(ms / 60_000));
  if (minutes < 60) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

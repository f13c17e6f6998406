// The page: which view is shown, the token, and whether the server answers.

import { ApiError, ask } from "./api.js";
import { Changes } from "./changes.js";
import { startColours } from "./colours.js";
import { byId, fill, make } from "./dom.js";
import { count, setTimezone, size } from "./format.js";
import { Log } from "./log.js";
import { Overview } from "./overview.js";
import { Polling } from "./polling.js";
import { Providers } from "./providers.js";
import { currentToken, forgetToken, keepToken } from "./session.js";

const EVERY_MS = 10_000;

const log = new Log(succeeded, failed);
const overview = new Overview(refresh);
const providers = new Providers();
const changes = new Changes(refresh);

/**
 * What loads each view, again and again while it is shown; the log keeps itself up to date.
 * @type {Record<string, (signal: AbortSignal, status: any) => Promise<void>>}
 */
const VIEWS = {
  overview: (signal, status) => overview.load(signal, status),
  requests: async () => {},
  providers: (signal, status) => providers.load(signal, status),
  changes: (signal) => changes.load(signal),
};

let view = "";
/** The version of the configuration of which the time zone is known. @type {string | undefined} */
let timezoneOf;
const polling = new Polling(load, { everyMs: EVERY_MS, succeeded, failed });

/** @param {AbortSignal} signal */
async function load(signal) {
  // Alone and first: with a wrong token each further request would count as one more wrong token.
  const status = await ask("status", {}, signal);
  await learnTimezone(status.config.version, signal);
  admitted();
  showFooter(status);
  await VIEWS[view](signal, status);
  byId(view).removeAttribute("aria-busy");
}

/**
 * Asks which time zone's days the gateway counts, again when the configuration is another one.
 * @param {string} version of the configuration
 * @param {AbortSignal} signal
 */
async function learnTimezone(version, signal) {
  if (version === timezoneOf) return;
  const { timezone } = await ask(
    "costs",
    { period: "today", per_modality: false, include_pricing_source: false },
    signal,
  );
  setTimezone(timezone);
  timezoneOf = version;
}

function refresh() {
  byId(view).setAttribute("aria-busy", "true");
  polling.now();
}

/** Shows the view that the address names. */
function route() {
  const named = location.hash.slice(1);
  if (view && !(named in VIEWS)) return; // the link that skips to the content
  const next = named in VIEWS ? named : "overview";
  if (next === view) return;
  if (view === "requests") log.close();
  view = next;
  for (const link of document.querySelectorAll("nav a")) {
    if (link instanceof HTMLElement && link.dataset.view === view) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  byId("notice").hidden = true;
  if (byId("gate").hidden) showView();
  refresh();
}

function showView() {
  for (const name of Object.keys(VIEWS)) byId(name).hidden = name !== view;
}

/** The server has taken the token, or asks for none. */
function admitted() {
  byId("gate").hidden = true;
  byId("forget").hidden = !currentToken();
  showView();
  if (view === "requests" && !log.opened) log.open();
}

function succeeded() {
  byId("notice").hidden = true;
  connection("live", "Live");
}

/**
 * @param {unknown} error
 * @param {number} waitMs until the next try, 0 when there is none
 */
function failed(error, waitMs) {
  if (!(error instanceof ApiError)) {
    notice("This page has failed.", `${error}. Load it again.`);
    throw error;
  }
  if (error.status === 401 || (error.status === 429 && !byId("gate").hidden)) {
    askForToken(error);
    return;
  }
  notice(error.message, error.hint);
  if (!error.passing) connection("live", "Live");
  else connection("retrying", `Trying again in ${count(Math.ceil(waitMs / 1000))} s`);
}

/** @param {ApiError} error that says why */
function askForToken(error) {
  const refused = Boolean(currentToken());
  polling.stop();
  log.close();
  forgetToken();
  for (const name of Object.keys(VIEWS)) byId(name).hidden = true;
  byId("notice").hidden = true;
  byId("forget").hidden = true;
  byId("gate").hidden = false;
  byId("refusal").textContent = refused ? `${error.message} ${error.status === 429 ? error.hint : ""}` : "";
  connection("", "Not signed in");
  byId("token").value = "";
  byId("token").focus();
}

/**
 * @param {string} message
 * @param {string} hint
 */
function notice(message, hint) {
  fill(byId("notice"), make("p", {}, make("strong", {}, message)), hint && make("p", {}, hint));
  byId("notice").hidden = false;
}

/**
 * @param {string} state
 * @param {string} text
 */
function connection(state, text) {
  byId("connection").dataset.state = state;
  if (byId("connection").textContent !== text) byId("connection").textContent = text;
}

/** @param {any} status */
function showFooter({ version, config, store }) {
  const rows = store.rows === undefined ? "" : `, ${count(store.rows)} requests`;
  const bytes = store.size_bytes === undefined ? "" : `, ${size(store.size_bytes)}`;
  byId("footer").textContent =
    `voicegw ${version} · ${config.path}, version ${config.version || "none"} · ${store.kind}${rows}${bytes}`;
}

byId("gate").addEventListener("submit", (/** @type {Event} */ event) => {
  event.preventDefault();
  keepToken(byId("token").value.trim());
  polling.now();
});
byId("forget").addEventListener("click", () => {
  forgetToken();
  polling.now();
});
startColours(byId("colours"));
addEventListener("hashchange", route);
route();

// Asks the API under /v1 with the token of this tab; every failure becomes an ApiError with message and hint.

import { currentToken } from "./session.js";

/** How long an answer may take: the server gives up after 30 s itself. */
const PATIENCE_MS = 35_000;

/** @typedef {Record<string, string | number | boolean | undefined>} Parameters */

/** A request that was not answered as wished. */
export class ApiError extends Error {
  /**
   * @param {string} message what is wrong
   * @param {{status?: number, hint?: string, retryAfterS?: number}} [more] status 0 means that nobody answered
   */
  constructor(message, { status = 0, hint = "", retryAfterS = 0 } = {}) {
    super(message);
    this.status = status;
    this.hint = hint;
    this.retryAfterS = retryAfterS;
  }

  /** @returns {boolean} whether the same request may succeed a little later */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * @param {string} path such as "costs"
 * @param {Parameters} [parameters] those that are undefined or "" are left out
 * @returns {string} relative to the page, so that a proxy may serve it below a path of its own
 */
function address(path, parameters = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== "") query.set(name, String(value));
  }
  return query.size ? `v1/${path}?${query}` : `v1/${path}`;
}

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @param {{accept: string, signal: AbortSignal}} options
 * @returns {Promise<Response>} an answer with status 200
 */
async function request(path, parameters, { accept, signal }) {
  const headers = new Headers({ Accept: accept });
  const token = currentToken();
  if (token) headers.set("Authorization", `Bearer ${token}`);
  /** @type {Response} */
  let response;
  try {
    response = await fetch(address(path, parameters), { headers, signal, credentials: "omit" });
  } catch (error) {
    throw unanswered(error, signal);
  }
  if (!response.ok) throw await refused(response);
  return response;
}

/**
 * @param {unknown} error of fetch or of reading a body
 * @param {AbortSignal} signal
 * @returns {unknown} the error to throw: an abort of our own stays one
 */
export function unanswered(error, signal) {
  if (signal.aborted && signal.reason?.name !== "TimeoutError") return error;
  return new ApiError("The server does not answer.", {
    hint: "Is voicegw serve still running? This page goes on trying.",
  });
}

/** @param {Response} response */
async function refused(response) {
  const retryAfterS = Number(response.headers.get("Retry-After")) || 0;
  const told = await response.json().catch(() => ({}));
  const message = told.error?.message ?? `The server answered with status ${response.status}.`;
  return new ApiError(message, { status: response.status, hint: told.error?.hint ?? "", retryAfterS });
}

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @param {AbortSignal} signal
 * @returns {Promise<any>} the JSON document
 */
export async function ask(path, parameters, signal) {
  return (await askPage(path, parameters, signal)).body;
}

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @param {AbortSignal} signal
 * @returns {Promise<{body: any, cursor: string}>} the JSON document, and where the page behind it begins ("" at the end)
 */
export async function askPage(path, parameters, signal) {
  const patient = AbortSignal.any([signal, AbortSignal.timeout(PATIENCE_MS)]);
  const response = await request(path, parameters, { accept: "application/json", signal: patient });
  const next = /^<([^>]*)>; rel="next"$/.exec(response.headers.get("Link") ?? "");
  try {
    const body = await response.json();
    return { body, cursor: next ? (new URL(next[1], location.href).searchParams.get("cursor") ?? "") : "" };
  } catch (error) {
    throw unanswered(error, patient);
  }
}

/**
 * @param {string} path
 * @param {Parameters} parameters
 * @param {AbortSignal} signal ends it
 * @returns {Promise<ReadableStream<Uint8Array<ArrayBuffer>>>} server-sent events; EventSource could send no token but in the URL
 */
export async function openStream(path, parameters, signal) {
  const response = await request(path, parameters, { accept: "text/event-stream", signal });
  if (!response.body) throw new ApiError("The server sent no stream.");
  return response.body;
}

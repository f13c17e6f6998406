// Does work again and again while the tab is seen, and waits longer and longer while the server is gone.

import { ApiError } from "./api.js";

const FIRST_WAIT_MS = 1_000;
const LONGEST_WAIT_MS = 60_000;

/**
 * @param {number} failures in a row, at least one
 * @param {unknown} error the last one
 * @returns {number} how long to wait, in ms: doubled each time, and never shorter than the server asks for
 */
export function backOff(failures, error) {
  const asked = error instanceof ApiError ? error.retryAfterS * 1000 : 0;
  return Math.max(asked, Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** (failures - 1)));
}

export class Polling {
  /**
   * @param {(signal: AbortSignal) => Promise<void>} work
   * @param {{everyMs: number, succeeded: () => void, failed: (error: unknown, waitMs: number) => void}} options
   *   ``waitMs`` is the time until the next try
   */
  constructor(work, { everyMs, succeeded, failed }) {
    this.work = work;
    this.everyMs = everyMs;
    this.succeeded = succeeded;
    this.failed = failed;
    this.failures = 0;
    this.running = false;
    /** @type {number | undefined} */
    this.timer = undefined;
    this.abort = new AbortController();
    document.addEventListener("visibilitychange", () => this.running && this.now());
  }

  /** Works now, dropping what is under way, and goes on from here; a hidden tab waits until it is seen. */
  now() {
    this.halt();
    this.running = true;
    if (!document.hidden) void this.once(this.abort.signal);
  }

  /** Does nothing more until ``now``. */
  stop() {
    this.halt();
    this.running = false;
  }

  halt() {
    clearTimeout(this.timer);
    this.abort.abort();
    this.abort = new AbortController();
  }

  /** @param {AbortSignal} signal */
  async once(signal) {
    let waitMs = this.everyMs;
    try {
      await this.work(signal);
      if (signal.aborted) return;
      this.failures = 0;
      this.succeeded();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && error.passing) waitMs = backOff(++this.failures, error);
      this.failed(error, waitMs);
    }
    if (this.running && !signal.aborted) this.timer = setTimeout(() => this.now(), waitMs);
  }
}

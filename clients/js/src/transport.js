/** @import {Options} from './index.js' */
import { SheafError, TimeoutError, errorOfResponse, mayPass, wasRefused } from './errors.js';
import { Timer } from './timer.js';

const firstPause = 100;
const longestPause = 5000;

/**
 * @typedef {object} Request
 * @property {string} path
 * @property {string} [method]
 * @property {Record<string, string>} [headers]
 * @property {string} [body]
 * @property {boolean} [once] it must not reach the server twice
 * @property {number} [quiet] milliseconds without an answer, or a byte more of it, after which it counts as lost
 */

/** Sends requests, and sends them again. */
export class Transport {
  #url;
  #apiKey;
  #fetch;
  timeout;
  retries;

  /** @param {Options} options */
  constructor({ url, apiKey, timeout = 30_000, retries = 3, fetch }) {
    const base = new URL(String(url), globalThis.location?.href);
    if (!/^https?:$/.test(base.protocol) || base.search || base.hash) throw new TypeError(`expected the URL of a server, got ${url}`);
    if (base.username || base.password) throw new TypeError('expected a URL without a user or a password, which fetch does not send: use apiKey');
    if (!(timeout > 0) || !(retries >= 0)) throw new RangeError('expected a timeout above 0, and retries of 0 or more');
    this.#url = base.href.replace(/\/+$/, '');
    this.#apiKey = apiKey;
    this.#fetch = fetch;
    this.timeout = timeout;
    this.retries = retries;
  }

  /**
   * Sends a request until it is answered, refused for good, or out of time.
   * @param {() => Request} make
   * @param {Timer} timer
   */
  async text(make, timer) {
    for (let attempt = 0; ; attempt++) {
      const request = make();
      try {
        const exchange = await this.#open(request, timer);
        const { response } = exchange;
        try {
          const text = await exchange.hear(() => response.text());
          if (!response.ok) throw errorOfResponse(response, text);
          return { text, response };
        } finally {
          exchange.close();
        }
      } catch (error) {
        await this.pause(error, attempt, timer, request.once);
        // The server has waited for as long as it does: asking again is no attempt at something that fails.
        if (error instanceof TimeoutError && error.status) attempt--;
      }
    }
  }

  /**
   * Sends a request once, and gives the lines of the answer as they come, several at a time.
   * @param {Request} request
   * @param {Timer} timer
   */
  async *lines(request, timer) {
    const exchange = await this.#open(request, timer);
    const { response } = exchange;
    try {
      if (!response.ok) throw errorOfResponse(response, await exchange.hear(() => response.text()));
      if (!response.body) return;
      const reader = response.body.getReader();
      const decoder = new TextDecoder();
      /** @type {string[]} */
      let rest = []; // of a line that is not whole yet
      for (;;) {
        const { value, done } = await exchange.hear(() => reader.read());
        const [first, ...others] = (done ? decoder.decode() : decoder.decode(value, { stream: true })).split('\n');
        rest.push(/** @type {string} */ (first));
        if (others.length || done) {
          const lines = [rest.join(''), ...others];
          rest = done ? [] : [/** @type {string} */ (lines.pop())];
          yield lines.map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
        }
        if (done) return;
      }
    } finally {
      exchange.close();
    }
  }

  /**
   * Waits before the next attempt, with full jitter on top of Retry-After; throws the error if there is none.
   * @param {unknown} error
   * @param {number} attempt
   * @param {Timer} timer
   * @param {boolean} [once]
   */
  async pause(error, attempt, timer, once = false) {
    if (!(error instanceof SheafError) || timer.signal.aborted) throw error;
    if (!(mayPass(error) && (!once || wasRefused(error))) || (attempt >= this.retries && !(timer.patient && this.retries))) throw error;
    const ms = Math.min(longestPause, firstPause * 2 ** attempt) * Math.random() + (error.retryAfter ?? 0);
    if (ms >= timer.left()) throw error;
    await timer.sleep(ms);
  }

  /**
   * Sends a request once. What goes wrong on the way is a SheafError, but an abort is thrown as the caller's signal says it.
   * @param {Request} request
   * @param {Timer} timer
   */
  async #open({ path, method = 'GET', headers = {}, body, quiet }, timer) {
    timer.signal.throwIfAborted();
    const all = new Headers(headers);
    const controller = new AbortController();
    const { signal } = controller;
    const forward = () => controller.abort();
    /** @type {Promise<never>} */
    const gone = new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
    gone.catch(() => {}); // said by who hears
    const close = () => {
      timer.signal.removeEventListener('abort', forward);
      controller.abort(); // what is not read is not sent either
    };
    /**
     * @template T
     * @param {() => Promise<T>} read
     */
    const hear = async (read) => {
      const silence = quiet === undefined ? undefined : setTimeout(forward, quiet);
      try {
        timer.signal.throwIfAborted();
        return await Promise.race([read(), gone]); // not everybody's fetch knows signals
      } catch (error) {
        timer.signal.throwIfAborted();
        if (signal.aborted) throw new SheafError('unreachable', `nothing was heard for ${quiet} ms`);
        // In Node the reason is a cause of what fetch throws; browsers hide it.
        const { cause, message } = /** @type {Error & {cause?: {code?: string, message?: string}}} */ (error);
        throw new SheafError('unreachable', cause?.message || cause?.code || message, { cause: error });
      } finally {
        clearTimeout(silence);
      }
    };
    timer.signal.addEventListener('abort', forward, { once: true });
    const send = this.#fetch ?? globalThis.fetch;
    try {
      const key = typeof this.#apiKey === 'function' ? await Promise.race([this.#apiKey(), gone]) : this.#apiKey;
      if (key) all.set('authorization', `Bearer ${key}`);
      const response = await hear(() => send(this.#url + path, { method, headers: all, body, signal }));
      return { response, hear, close };
    } catch (error) {
      close();
      timer.signal.throwIfAborted();
      throw error;
    }
  }
}

/**
 * Reads a JSON object.
 * @param {string} text
 * @param {number} [status]
 */
export function parsed(text, status) {
  try {
    const value = JSON.parse(text);
    if (value && typeof value === 'object') return value;
  } catch {
    // Said below.
  }
  throw noAnswer('JSON', status);
}

/**
 * @param {string} expected
 * @param {number} [status]
 */
export const noAnswer = (expected, status) =>
  new SheafError('no-answer', `the answer is not ${expected}: is this the URL of a Sheaf server?`, { status });

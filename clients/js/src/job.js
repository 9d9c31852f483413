/** @import {JobState, RequestOptions} from './index.js' */
/** @import {Transport} from './transport.js' */
import { SheafError, errorOf, isFinished, retryAfter } from './errors.js';
import { nested, segment } from './input.js';
import { Timer } from './timer.js';
import { noAnswer, parsed } from './transport.js';

const longestHold = 20_000; // that one request waits for a job; the server allows a minute

/** @param {string} id */
export const jobPath = (id) => `/v1/jobs/${segment(id)}`;

export class Job {
  #transport;
  /** @type {JobState} */
  state;

  /**
   * @param {Transport} transport
   * @param {JobState} state
   */
  constructor(transport, state) {
    this.#transport = transport;
    this.state = state;
  }

  get id() {
    return this.state.id;
  }

  get status() {
    return this.state.status ?? 'unknown';
  }

  get finished() {
    return isFinished(this.status);
  }

  get position() {
    return this.state.position;
  }

  get eta() {
    return this.state.eta_ms;
  }

  get error() {
    return this.state.error && errorOf(this.state.error, { jobId: this.id });
  }

  /** @param {string} [name] */
  output(name) {
    const { error, outputs } = this.state;
    if (error) throw this.error;
    if (!this.finished) throw new SheafError('unfinished', `the job is ${this.status}: wait for it first`, { jobId: this.id });
    const tensor = name === undefined ? outputs?.[0] : outputs?.find((output) => output.name === name);
    if (!tensor) throw new RangeError(`the job has no output ${name ?? ''}; did a look-up leave outputs out?`);
    return nested(tensor.data, tensor.shape);
  }

  /** @param {RequestOptions} [options] */
  async wait({ timeout = Infinity, signal } = {}) {
    if (this.finished) return this;
    const timer = new Timer(timeout, signal, this.id);
    timer.patient = timeout < Infinity; // the job outlives a server that is started again
    try {
      for (;;) {
        const left = timer.left();
        // Time is left for the answer, so that the server ends the wait and not this client.
        const hold = Math.max(1, Math.floor(Math.min(longestHold, left - Math.min(1000, left / 5))));
        const started = performance.now();
        const pause = await this.#poll(hold, timer);
        if (this.finished) return this;
        // A server that does not hold the request is not asked all the time.
        if (performance.now() - started < Math.min(1000, hold / 2)) await timer.sleep(pause);
      }
    } finally {
      timer.end();
    }
  }

  /**
   * Asks once, and again if need be, and says how long to wait before it is asked again.
   * @param {number} hold milliseconds that the server is to wait
   * @param {Timer} timer
   */
  async #poll(hold, timer) {
    let query = `?wait=${hold}ms`;
    let quiet = hold + this.#transport.timeout;
    const make = () => {
      const request = { path: jobPath(this.id) + query, quiet };
      // A server with too many waiters answers those who do not wait.
      query = '';
      quiet = this.#transport.timeout;
      return request;
    };
    const { text, response } = await this.#transport.text(make, timer);
    this.state = jobState(text, response.status);
    const pause = this.eta ?? retryAfter(response.headers) ?? 1000;
    return Math.min(5000, Math.max(100, pause)) * (0.75 + Math.random() / 2);
  }

  /** @param {RequestOptions} [options] */
  refresh(options) {
    return this.#ask('GET', options);
  }

  /** @param {RequestOptions} [options] */
  async cancel(options) {
    try {
      return await this.#ask('DELETE', options);
    } catch (error) {
      if (error instanceof SheafError && error.code === 'finished') return this.#ask('GET', options);
      throw error;
    }
  }

  /**
   * @param {string} method
   * @param {RequestOptions} [options]
   */
  async #ask(method, { timeout = this.#transport.timeout, signal } = {}) {
    const timer = new Timer(timeout, signal, this.id);
    try {
      const { text, response } = await this.#transport.text(() => ({ method, path: jobPath(this.id) }), timer);
      this.state = jobState(text, response.status);
      return this;
    } finally {
      timer.end();
    }
  }
}

/**
 * @param {string} text
 * @param {number} status
 * @returns {JobState}
 */
export function jobState(text, status) {
  const state = parsed(text, status);
  if (typeof state.id !== 'string') throw noAnswer('a job', status);
  return state;
}

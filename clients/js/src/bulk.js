/** @import {BulkOptions, Input, RequestBody, Ticket} from './index.js' */
/** @import {Transport} from './transport.js' */
import { SheafError, errorOf } from './errors.js';
import { deadlineHeader, encode, members, newKey } from './input.js';
import { Timer } from './timer.js';

const mostLines = 1000; // of one request
const mostText = 1 << 20;
const quiet = 60_000; // the server may wait half a minute for its queue

/**
 * Gathers lines while a request is under way, so that a source that is slow is not waited for and one that is quick
 * makes large requests. Works wherever fetch does: not every platform can send a body that is still being made.
 */
class Gatherer {
  #source;
  /** @type {string[]} */
  #lines = [];
  #size = 0;
  #done = false;
  /** @type {unknown} */
  #error;
  #failed = false;
  #changed = () => {};

  /**
   * @param {AsyncIterable<Input | RequestBody> | Iterable<Input | RequestBody>} source
   * @param {boolean} whole whether a request has to be full, but for the last
   */
  constructor(source, whole) {
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.whole = whole;
    void this.#run();
  }

  async #run() {
    try {
      while (!this.#done) {
        const next = await this.#source.next();
        if (next.done) break;
        const line = encode(members(next.value));
        this.#lines.push(line);
        this.#size += line.length;
        this.#changed();
        while (this.#full() && !this.#done) await this.#change();
      }
    } catch (error) {
      this.#error = error;
      this.#failed = true;
    }
    this.#done = true;
    this.#changed();
  }

  #full() {
    return this.#lines.length >= mostLines || this.#size >= mostText;
  }

  /** @returns {Promise<void>} */
  #change() {
    const before = this.#changed;
    return new Promise((resolve) => {
      this.#changed = () => {
        this.#changed = before;
        before();
        resolve();
      };
    });
  }

  /**
   * Gives the lines of the next request; none if there are no more.
   * @param {Timer} timer
   */
  async take(timer) {
    await timer.sleep(0); // what is there already comes along
    const { signal } = timer;
    const stop = () => this.#changed();
    signal.addEventListener('abort', stop, { once: true });
    while (!this.#done && !(this.whole ? this.#full() : this.#lines.length)) {
      signal.throwIfAborted();
      await this.#change();
    }
    signal.removeEventListener('abort', stop);
    const lines = this.#lines;
    if (!lines.length && this.#failed) throw this.#error;
    this.#lines = [];
    this.#size = 0;
    this.#changed();
    return lines;
  }

  stop() {
    if (this.#done) return;
    this.#done = true;
    this.#changed();
    // One that is busy is not waited for.
    Promise.resolve(this.#source.return?.()).catch(() => {});
  }
}

/**
 * @param {Transport} transport
 * @param {string} path
 * @param {AsyncIterable<Input | RequestBody> | Iterable<Input | RequestBody>} items
 * @param {BulkOptions} options
 * @returns {AsyncGenerator<Ticket, void, undefined>}
 */
export async function* bulk(transport, path, items, { lane, deadline, idempotencyKey, signal }) {
  /** @type {Record<string, string>} */
  const headers = { 'content-type': 'application/x-ndjson' };
  if (deadline !== undefined) headers['sheaf-deadline'] = deadlineHeader(deadline);
  const key = idempotencyKey === undefined ? newKey() : idempotencyKey;
  const timer = new Timer(Infinity, signal);
  // The server makes a line's key of the request's and its place: who brings a key has to get the same requests again.
  const source = new Gatherer(items, typeof idempotencyKey === 'string');
  try {
    for (let start = 0, lines = await source.take(timer); lines.length; start += lines.length, lines = await source.take(timer)) {
      const own = key === null ? headers : { ...headers, 'idempotency-key': `${key}-${start}` };
      const request = { method: 'POST', path: lane ? `${path}?lane=${encodeURIComponent(lane)}` : path, headers: own, quiet };
      yield* submit(transport, request, lines, start, key === null, timer);
    }
  } finally {
    source.stop();
    timer.end();
  }
}

/**
 * Submits lines. What is cut off is sent again, if that makes no job twice.
 * @param {Transport} transport
 * @param {import('./transport.js').Request} request
 * @param {string[]} lines
 * @param {number} start the place of the first
 * @param {boolean} once
 * @param {Timer} timer
 * @returns {AsyncGenerator<Ticket, void, undefined>}
 */
async function* submit(transport, request, lines, start, once, timer) {
  const left = new Map(lines.entries());
  let sent = [...left.keys()];
  for (let attempt = 0; ; attempt++) {
    const before = left.size;
    let unsure = once;
    try {
      const body = sent.map((i) => `${lines[i]}\n`).join('');
      for await (const texts of transport.lines({ ...request, body }, timer)) {
        for (const text of texts) {
          const answer = lineOf(text);
          if (!answer) continue;
          if ('done' in answer) {
            // Every line that was read has its answer: the others may be sent again.
            unsure = false;
            if (answer.error) throw errorOf(answer.error);
            continue;
          }
          const index = sent[answer.index];
          if (index === undefined || !left.delete(index)) continue;
          const { id, status, request_id: requestId, error } = answer;
          yield { index: start + index, id, status, requestId, error: error && errorOf(error) };
        }
      }
      if (!left.size) return;
      throw new SheafError('cut-off', 'the answer ended before its end');
    } catch (error) {
      if (!left.size) return;
      if (left.size < before) attempt = 0;
      await transport.pause(error, attempt, timer, unsure);
      if (once) sent = [...left.keys()];
    }
  }
}

/**
 * Reads a line of JSON; undefined if it is cut off.
 * @param {string} text
 * @returns {Record<string, any> | undefined}
 */
export function lineOf(text) {
  try {
    const value = JSON.parse(text);
    return value && typeof value === 'object' ? value : undefined;
  } catch {
    return undefined;
  }
}

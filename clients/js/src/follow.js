/** @import {JobState} from './index.js' */
/** @import {Transport} from './transport.js' */
import { lineOf } from './bulk.js';
import { SheafError, isFinished } from './errors.js';
import { Job, jobPath } from './job.js';
import { Timer } from './timer.js';

const lookupIds = 1000; // of one request
const urlIds = 20; // of one address; with more they go into the body
const quiet = 45_000; // three comments that did not come
const lasted = 15_000; // an event stream that breaks after that is no failure, but what proxies do

/**
 * Looks jobs up, in the order of ids.
 * @param {Transport} transport
 * @param {string[]} ids
 * @param {{outputs?: boolean, timeout?: number, signal?: AbortSignal}} options
 */
export async function* lookup(transport, ids, { outputs = true, timeout = transport.timeout, signal }) {
  for (let first = 0; first < ids.length; first += lookupIds) {
    const waiting = ids.slice(first, first + lookupIds);
    /** @type {Job[]} */
    const jobs = [];
    const timer = new Timer(timeout, signal);
    try {
      for (let attempt = 0; waiting.length; attempt++) {
        const before = waiting.length;
        const body = JSON.stringify({ ids: waiting, outputs });
        const headers = { 'content-type': 'application/json' };
        try {
          for await (const lines of transport.lines({ method: 'POST', path: '/v1/jobs/lookup', headers, body, quiet }, timer)) {
            for (const line of lines) {
              const state = lineOf(line);
              if (!state || !waiting.length) continue;
              waiting.shift();
              jobs.push(new Job(transport, /** @type {JobState} */ (state)));
            }
          }
          if (waiting.length) throw new SheafError('cut-off', 'the answer ended before its end');
        } catch (error) {
          if (!waiting.length) break;
          if (waiting.length < before) attempt = 0;
          await transport.pause(error, attempt, timer);
        }
      }
    } finally {
      timer.end();
    }
    yield* jobs;
  }
}

/**
 * Gives each job at once, and whenever something about it has changed, until all are finished.
 * @param {Transport} transport
 * @param {string[]} ids
 * @param {{timeout?: number, signal?: AbortSignal}} options
 */
export async function* events(transport, ids, { timeout = Infinity, signal }) {
  const waiting = new Set(ids);
  /** @type {Map<string, string>} */
  const known = new Map();
  const stream = new EventParser();
  const timer = new Timer(timeout, signal);
  timer.patient = timeout < Infinity; // the jobs outlive a server that is started again
  try {
    for (let attempt = 0; waiting.size; attempt++) {
      const started = performance.now();
      let told = false;
      stream.reset();
      try {
        for await (const lines of transport.lines(eventsRequest([...waiting], stream.lastId), timer)) {
          for (const line of lines) {
            const event = stream.feed(line);
            if (event?.type === 'end') return;
            const state = event?.type === 'job' ? lineOf(event.data) : undefined;
            if (!state) continue;
            // After a reconnect each job is told of once more.
            const now = `${state.status} ${state.position}`;
            if (known.get(state.id) === now) continue;
            known.set(state.id, now);
            told = true;
            if (state.error || isFinished(state.status)) waiting.delete(state.id);
            yield new Job(transport, /** @type {JobState} */ (state));
          }
        }
        throw new SheafError('cut-off', 'the events ended before their end', { retryAfter: stream.retry });
      } catch (error) {
        if (!waiting.size) return;
        if (told || performance.now() - started > lasted) attempt = -1;
        await transport.pause(error, attempt, timer);
      }
    }
  } finally {
    timer.end();
  }
}

/**
 * @param {string[]} ids
 * @param {string} lastId
 */
function eventsRequest(ids, lastId) {
  /** @type {Record<string, string>} */
  const headers = { accept: 'text/event-stream' };
  if (lastId) headers['last-event-id'] = lastId;
  if (ids.length === 1) return { path: `${jobPath(/** @type {string} */ (ids[0]))}/events`, headers, quiet };
  if (ids.length <= urlIds) return { path: `/v1/jobs/events?${new URLSearchParams(ids.map((id) => ['id', id]))}`, headers, quiet };
  headers['content-type'] = 'application/json';
  return { method: 'POST', path: '/v1/jobs/events', headers, body: JSON.stringify({ ids }), quiet };
}

/** Reads server-sent events, line by line. */
export class EventParser {
  lastId = '';
  /** @type {number | undefined} milliseconds before coming back */
  retry;
  #type = '';
  #id = '';
  /** @type {string[]} */
  #data = [];

  /** Forgets an event that is not whole. */
  reset() {
    this.#type = '';
    this.#id = this.lastId;
    this.#data = [];
  }

  /**
   * Gives an event when line is the end of one.
   * @param {string} line
   */
  feed(line) {
    if (line === '') {
      const event = this.#data.length ? { type: this.#type || 'message', data: this.#data.join('\n') } : undefined;
      this.lastId = this.#id;
      this.reset();
      return event;
    }
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(line[colon + 1] === ' ' ? colon + 2 : colon + 1);
    if (name === 'data') this.#data.push(value);
    else if (name === 'event') this.#type = value;
    else if (name === 'id') this.#id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) this.retry = Number(value);
    return undefined;
  }
}

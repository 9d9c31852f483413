/** @import {Answer, AskOptions, BulkOptions, Input, Model, Options, RequestBody, RequestOptions, SubmitOptions} from './index.js' */
/** @import {Request} from './transport.js' */
import { bulk } from './bulk.js';
import { SheafError } from './errors.js';
import { events, lookup } from './follow.js';
import { deadlineHeader, encode, members, newKey, segment } from './input.js';
import { Job, jobState } from './job.js';
import { Memory, digest } from './memory.js';
import { Timer } from './timer.js';
import { Transport, noAnswer, parsed } from './transport.js';

const hour = 3_600_000;

/** @typedef {Iterable<string | {id?: string}>} Ids */

export class Sheaf {
  #transport;
  #memory;

  /** @param {Options} options */
  constructor(options) {
    this.#transport = new Transport(options);
    this.#memory = new Memory(options.lastKnownSize ?? 1000);
  }

  /**
   * @param {string} model
   * @param {Input | RequestBody} input
   * @param {AskOptions} [options]
   */
  async predict(model, input, options) {
    const { prediction } = await this.ask(model, input, options);
    return prediction;
  }

  /**
   * @param {string} model
   * @param {Input | RequestBody} input
   * @param {AskOptions} [options]
   * @returns {Promise<Answer>}
   */
  async ask(model, input, options = {}) {
    const { fallback, lastKnown = false, maxAge = hour, signal } = options;
    const request = submission('predict', model, input, options);
    const timer = new Timer(options.timeout ?? this.#transport.timeout, signal);
    const make = () => {
      // The server is told to answer before this client stops listening.
      const wait = Math.min(60, Math.max(1, Math.floor(timer.left() / 1000)));
      return { ...request, headers: { ...request.headers, prefer: `wait=${wait}` } };
    };
    let memoryKey = '';
    try {
      if (lastKnown) memoryKey = `${request.path} ${lastKnown === true ? `input ${await digest(request.body)}` : `key ${lastKnown}`}`;
      const { text, response } = await this.#transport.text(make, timer);
      const answer = answerOf(text, response.status);
      if (memoryKey) this.#memory.put(memoryKey, text);
      return answer;
    } catch (error) {
      if (!(error instanceof SheafError) || !error.unavailable) throw error;
      const known = memoryKey ? this.#memory.get(memoryKey, maxAge) : undefined;
      if (known) return { ...answerOf(known.text), source: 'lastKnown', age: known.age, error };
      if (fallback === undefined) throw error;
      return { prediction: typeof fallback === 'function' ? await fallback(error) : fallback, source: 'fallback', error };
    } finally {
      timer.end();
    }
  }

  /**
   * @param {string} model
   * @param {Input | RequestBody} input
   * @param {SubmitOptions} [options]
   */
  async submit(model, input, options = {}) {
    const request = submission('jobs', model, input, options);
    const { text, response } = await this.#send(() => request, options);
    return new Job(this.#transport, jobState(text, response.status));
  }

  /** @param {string} id */
  job(id) {
    return new Job(this.#transport, { id });
  }

  /**
   * @param {string} model
   * @param {AsyncIterable<Input | RequestBody> | Iterable<Input | RequestBody>} items
   * @param {BulkOptions} [options]
   */
  bulk(model, items, options = {}) {
    return bulk(this.#transport, `${modelPath(model, options.version)}/bulk`, items, options);
  }

  /**
   * @param {Ids} ids
   * @param {RequestOptions & {outputs?: boolean}} [options]
   */
  lookup(ids, options = {}) {
    return lookup(this.#transport, idsOf(ids), options);
  }

  /**
   * @param {string | {id?: string} | Ids} ids
   * @param {RequestOptions} [options]
   */
  events(ids, options = {}) {
    const several = typeof ids === 'object' && Symbol.iterator in ids;
    return events(this.#transport, idsOf(several ? ids : [ids]), options);
  }

  /**
   * @param {RequestOptions} [options]
   * @returns {Promise<Model[]>}
   */
  async models(options) {
    const { text, response } = await this.#send(() => ({ path: '/v1/models' }), options);
    const { models } = parsed(text, response.status);
    if (!Array.isArray(models)) throw noAnswer('a list of models', response.status);
    return models;
  }

  /**
   * @param {string} name
   * @param {RequestOptions & {version?: string}} [options]
   * @returns {Promise<Model>}
   */
  async model(name, options) {
    const { text, response } = await this.#send(() => ({ path: modelPath(name, options?.version) }), options);
    return parsed(text, response.status);
  }

  /**
   * @param {() => Request} make
   * @param {RequestOptions} [options]
   */
  async #send(make, { timeout = this.#transport.timeout, signal } = {}) {
    const timer = new Timer(timeout, signal);
    try {
      return await this.#transport.text(make, timer);
    } finally {
      timer.end();
    }
  }
}

/**
 * Makes a request for a prediction.
 * @param {string} action
 * @param {string} model
 * @param {Input | RequestBody} input
 * @param {SubmitOptions} options
 */
function submission(action, model, input, { version, outputs, parameters, lane, deadline, idempotencyKey = newKey(), webhook }) {
  /** @type {Record<string, string>} */
  const headers = { 'content-type': 'application/json' };
  if (idempotencyKey !== null) headers['idempotency-key'] = idempotencyKey;
  if (deadline !== undefined) headers['sheaf-deadline'] = deadlineHeader(deadline);
  const body = members(input);
  if (outputs) body.outputs = outputs.map((name) => ({ name }));
  Object.assign(body, JSON.parse(JSON.stringify({ parameters, lane, webhook })));
  return { method: 'POST', path: `${modelPath(model, version)}/${action}`, headers, body: encode(body), once: idempotencyKey === null };
}

/**
 * @param {string} text
 * @param {number} [status]
 * @returns {Answer}
 */
function answerOf(text, status) {
  const { prediction, id, model, model_version: modelVersion, timings } = parsed(text, status);
  if (prediction === undefined) throw noAnswer('a prediction', status);
  return { prediction, source: 'model', id, model, modelVersion, timings };
}

/**
 * @param {string} model
 * @param {string} [version]
 */
function modelPath(model, version) {
  const path = `/v1/models/${segment(model)}`;
  return version === undefined ? path : `${path}/versions/${segment(version)}`;
}

/** @param {Ids} ids */
function idsOf(ids) {
  return Array.from(ids, (job) => {
    const id = typeof job === 'string' ? job : job?.id;
    if (typeof id !== 'string' || !id) throw new TypeError('expected the id of a job, or a job');
    return id;
  });
}

/** @import {Problem, ErrorFields} from './index.js' */

const finished = new Set(['succeeded', 'failed', 'canceled', 'expired']);

// Answers that say that the same request may succeed later.
const passing = new Set([408, 429, 502, 503, 504]);

// Codes that say for certain that nothing was accepted.
const refused = new Set(['busy', 'full', 'overloaded', 'too-many-waiters']);

/** @param {string | undefined} status */
export const isFinished = (status) => finished.has(status ?? '');

export class SheafError extends Error {
  /**
   * @param {string} code
   * @param {string} detail
   * @param {ErrorFields} [fields]
   */
  constructor(code, detail, { status, field, retryAfter, jobId, problem, cause } = {}) {
    const where = field ? `${field}: ` : '';
    super(`${code}: ${where}${detail}${status ? ` (HTTP ${status})` : ''}`, cause === undefined ? undefined : { cause });
    this.name = 'SheafError';
    this.code = code;
    this.detail = detail;
    this.status = status;
    this.field = field;
    this.retryAfter = retryAfter;
    this.jobId = jobId;
    this.problem = problem;
  }

  get unavailable() {
    if (this.status === undefined || this.code === 'no-answer') return !['webhook', 'unfinished'].includes(this.code);
    return this.status >= 500 || passing.has(this.status);
  }
}

export class TimeoutError extends SheafError {
  /**
   * @param {string} detail
   * @param {ErrorFields} [fields]
   */
  constructor(detail, fields) {
    super('timeout', detail, fields);
    this.name = 'TimeoutError';
  }
}

/**
 * Says whether the same request may succeed later. One whose job has ended gets the same answer again.
 * @param {SheafError} e
 */
export const mayPass = (e) =>
  !isFinished(e.problem?.job_status) && (e.status === undefined ? e.unavailable : passing.has(e.status));

/**
 * Says whether it is certain that nothing was accepted, so that even a request without a key may be repeated.
 * @param {SheafError} e
 */
export const wasRefused = (e) => e.status === 429 || refused.has(e.code);

/**
 * Makes the error of a problem document (RFC 9457).
 * @param {Problem} problem
 * @param {ErrorFields} [fields]
 */
export function errorOf(problem, fields = {}) {
  const status = fields.status ?? (typeof problem.status === 'number' ? problem.status : undefined);
  const code = String(problem.type ?? '').split('/').filter(Boolean).pop();
  const all = { ...fields, status, field: problem.field, jobId: problem.id ?? fields.jobId, problem };
  const detail = String(problem.detail ?? problem.title ?? 'the server did not say why');
  if (code === 'timeout') return new TimeoutError(detail, all);
  return new SheafError(!code || code === 'about:blank' ? `http-${status}` : code, detail, all);
}

/**
 * Makes the error of an answer that is none.
 * @param {Response} response
 * @param {string} text its body
 */
export function errorOfResponse({ status, headers }, text) {
  /** @type {Problem | undefined} */
  let problem;
  try {
    problem = JSON.parse(text);
  } catch {
    // A proxy's page.
  }
  if (!problem || typeof problem !== 'object') problem = { detail: text.slice(0, 200).trim() || undefined };
  return errorOf(problem, { status, retryAfter: retryAfter(headers) });
}

/**
 * Reads Retry-After: seconds, or a date. Across origins a browser shows it only if the server exposes it.
 * @param {Headers} headers
 * @returns {number | undefined} milliseconds
 */
export function retryAfter(headers) {
  const text = headers.get('retry-after')?.trim();
  if (!text) return undefined;
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const wait = Date.parse(text) - (Date.parse(headers.get('date') ?? '') || Date.now());
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

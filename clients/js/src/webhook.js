/** @import {WebhookEvent} from './index.js' */
import { SheafError } from './errors.js';

/** @param {string} detail */
const wrong = (detail) => new SheafError('webhook', detail);

/**
 * @param {string | readonly string[]} secret
 * @param {Headers | {readonly [name: string]: string | readonly string[] | undefined}} headers
 * @param {string | ArrayBuffer | Uint8Array} body
 * @param {{tolerance?: number}} [options]
 * @returns {Promise<WebhookEvent>}
 */
export async function verifyWebhook(secret, headers, body, { tolerance = 300_000 } = {}) {
  const entries = Symbol.iterator in headers ? [.../** @type {Headers} */ (headers)] : Object.entries(headers);
  const given = new Map(entries.map(([name, value]) => [name.toLowerCase(), String(value ?? '')]));
  const [id, stamp, signatures] = ['id', 'timestamp', 'signature'].map((part) => given.get(`webhook-${part}`));
  if (!id || !stamp || !signatures) throw wrong('a header is missing: expected webhook-id, webhook-timestamp and webhook-signature');
  if (!/^\d+$/.test(stamp) || Math.abs(Date.now() - Number(stamp) * 1000) > tolerance) {
    throw wrong('the timestamp is too old, or from a clock that is wrong');
  }
  const encoder = new TextEncoder();
  const payload = typeof body === 'string' ? encoder.encode(body) : new Uint8Array(body);
  const head = encoder.encode(`${id}.${stamp}.`);
  const signed = new Uint8Array(head.length + payload.length);
  signed.set(head);
  signed.set(payload, head.length);
  let right = false;
  for (const one of [secret].flat()) {
    const raw = bytes(one.replace(/^whsec_/, ''));
    if (!raw?.length) throw new TypeError('the secret is not one of a webhook: expected whsec_ and base64');
    const key = await crypto.subtle.importKey('raw', raw, { name: 'HMAC', hash: 'SHA-256' }, false, ['verify']);
    for (const text of signatures.split(' ')) {
      const signature = text.startsWith('v1,') ? bytes(text.slice(3)) : undefined;
      if (signature && (await crypto.subtle.verify('HMAC', key, signature, signed))) right = true; // in constant time
    }
  }
  if (!right) throw wrong("no signature is right: is it the tenant's secret, and the body unchanged?");
  try {
    const { type, timestamp, data } = JSON.parse(new TextDecoder().decode(payload));
    if (typeof data.id === 'string') return { id, type, timestamp, data };
  } catch {
    // Said below.
  }
  throw wrong('the signature is right, but the body is not one of a job');
}

/** @param {string} base64 */
function bytes(base64) {
  try {
    return Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  } catch {
    return undefined;
  }
}

import assert from 'node:assert/strict';
import { createHmac, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { SheafError, verifyWebhook } from '../src/index.js';

const secret = `whsec_${randomBytes(24).toString('base64')}`;
const data = { id: 'j.i1-0', status: 'succeeded', model: 'm' };
const body = JSON.stringify({ type: 'job.succeeded', timestamp: '2026-01-02T15:04:05Z', data, about: 'zwölf' });
const now = () => Math.floor(Date.now() / 1000);

function signed({ with: key = secret, id = 'msg_1', at = now(), of = body } = {}) {
  const mac = createHmac('sha256', Buffer.from(key.slice(6), 'base64')).update(`${id}.${at}.${of}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': String(at), 'webhook-signature': `v1,${mac}` };
}

test('a webhook that is right, however it is given', async () => {
  const headers = signed();
  const shouted = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]));
  for (const given of [headers, shouted, new Headers(headers)]) {
    for (const bytes of [body, Buffer.from(body), new TextEncoder().encode(body).buffer]) {
      assert.deepEqual(await verifyWebhook(secret, given, bytes), { id: 'msg_1', type: 'job.succeeded', timestamp: '2026-01-02T15:04:05Z', data });
    }
  }
});

test('secrets that are rotated', async () => {
  const next = `whsec_${randomBytes(32).toString('base64')}`;
  const both = { ...signed(), 'webhook-signature': `${signed()['webhook-signature']} ${signed({ with: next })['webhook-signature']}` };
  for (const known of [secret, next, [secret, next]]) assert.equal((await verifyWebhook(known, both, body)).data.id, data.id);
  assert.ok(await verifyWebhook([next, secret], signed(), body));
});

test('webhooks that must not be believed', async () => {
  const good = signed();
  const mac = good['webhook-signature'];
  const wrong = {
    'a changed body': [good, `${body} `],
    'another secret': [signed({ with: 'whsec_AAAA' })],
    'another id': [{ ...good, 'webhook-id': 'msg_2' }],
    'another time': [{ ...good, 'webhook-timestamp': String(now() + 1) }],
    'too old': [signed({ at: now() - 301 })],
    'too new': [signed({ at: now() + 302 })],
    'no time': [{ ...good, 'webhook-timestamp': 'now' }],
    'no header': [{ ...good, 'webhook-id': undefined }],
    'no signature': [{ ...good, 'webhook-signature': 'v1,' }],
    'not base64': [{ ...good, 'webhook-signature': 'v1,?' }],
    'another version': [{ ...good, 'webhook-signature': mac.replace('v1,', 'v2,') }],
    'cut off': [{ ...good, 'webhook-signature': mac.slice(0, 20) }],
    'not of a job': [signed({ of: '{}' }), '{}'],
  };
  for (const [name, [headers, text = body]] of Object.entries(wrong)) {
    await assert.rejects(verifyWebhook(secret, headers, text), (e) => e instanceof SheafError && e.code === 'webhook' && !e.unavailable, name);
  }
  assert.ok(await verifyWebhook(secret, signed({ at: now() - 400 }), body, { tolerance: 500_000 }));
  for (const none of ['', 'whsec_', 'whsec_?']) await assert.rejects(verifyWebhook(none, good, body), TypeError);
  await assert.rejects(verifyWebhook([], good, body), { code: 'webhook' });
});

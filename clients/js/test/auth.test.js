// The client against a running server that asks who is calling.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { Sheaf } from '../src/index.js';
import { argMax, digit, environment, program, startSheaf } from './sheaf.js';

describe('sheaf dev --auth keys', () => {
  let server;
  before(async () => (server = await startSheaf('--auth', 'keys')));
  after(() => server.stop());

  const keyVerb = async (...flags) => {
    const { stdout } = await promisify(execFile)(program, ['key', ...flags, '--nats-url', server.nats], { env: environment });
    return stdout.trim();
  };
  const client = async (...flags) => new Sheaf({ url: server.url, apiKey: await keyVerb('create', '--name', 'test', ...flags) });

  test('who may do what', async () => {
    const acme = await client('--tenant', 'acme');
    const other = await client('--tenant', 'other');
    const reader = await client('--tenant', 'acme', '--scopes', 'read');
    const job = await acme.submit('digits', digit);
    await job.wait();
    assert.equal(argMax((await reader.job(job.id).refresh()).output()[0]), 3);
    await assert.rejects(other.job(job.id).refresh(), { status: 404, code: 'unknown-job' });
    await assert.rejects(reader.submit('digits', digit), { status: 403, code: 'forbidden', unavailable: false });
    await assert.rejects(new Sheaf({ url: server.url }).predict('digits', digit, { fallback: 0 }), { status: 401, code: 'unauthorized' });
    for await (const { id, status } of acme.events(job)) assert.deepEqual([id, status], [job.id, 'succeeded']);
    for await (const { error } of other.lookup([job])) assert.equal(error.code, 'unknown-job');
  });

  test('a rate limit is waited for', async () => {
    const slow = await client('--tenant', 'acme', '--rate', '1', '--burst', '1');
    const started = performance.now();
    const got = await Promise.all([slow.predict('digits', digit), slow.predict('digits', digit)]);
    assert.deepEqual(got.map(argMax), [3, 3]);
    assert.ok(performance.now() - started >= 900);
    const once = await client('--tenant', 'acme', '--rate', '0.01', '--burst', '1');
    await once.predict('digits', digit);
    const { source, error } = await once.ask('digits', digit, { fallback: 0 });
    assert.deepEqual([source, error.code, error.status], ['fallback', 'rate-limited', 429]);
  });
});

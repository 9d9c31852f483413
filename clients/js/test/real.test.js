// The client against a running server.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, describe, test } from 'node:test';
import { Sheaf, SheafError, TimeoutError, verifyWebhook } from '../src/index.js';
import { argMax, digit, startSheaf } from './sheaf.js';

const stuck = [100_000, 5]; // takes far longer than any test

describe('sheaf dev', () => {
  /** @type {Awaited<ReturnType<typeof startSheaf>>} */
  let server;
  /** @type {Sheaf} */
  let sheaf;
  before(async () => {
    server = await startSheaf();
    sheaf = new Sheaf({ url: server.url });
  });
  after(() => server.stop());

  test('predict a row, rows, arrays of all kinds', async () => {
    const one = await sheaf.predict('digits', digit);
    assert.equal(argMax(one), 3);
    const rows = new Float32Array([...digit, ...digit]);
    const inputs = [
      [digit, new Float64Array(digit)], // nested, partly typed
      { data: rows, shape: [2, 64] },
      { input: [digit, digit] },
      { input: { data: rows, shape: [2, 64] } },
      { x: { data: rows, shape: [2, 64] } },
      [{ name: 'x', datatype: 'FP32', shape: [2, 64], data: [digit, digit] }],
      { inputs: [{ name: 'x', data: rows, shape: [2, 64] }] },
    ];
    for (const input of inputs) {
      const got = await sheaf.predict('digits', input);
      assert.deepEqual([got.length, ...got.map(argMax)], [2, 3, 3], JSON.stringify(input).slice(0, 60));
    }
    assert.equal(argMax(await sheaf.predict('digits', new Float32Array(digit))), 3);
    assert.equal(argMax(await sheaf.predict('digits', new Uint8Array(digit))), 3);
  });

  test('predict inputs by name, of other datatypes, with options', async () => {
    const a = { data: new Float32Array([1, 2]), shape: [1, 2] };
    const b = { data: new BigInt64Array([10n]), shape: [1, 1] };
    assert.deepEqual(await sheaf.predict('two_inputs', { a, b }), [[11, 12]]);
    assert.deepEqual(await sheaf.predict('identity_int64', [9007199254740991n, -1n, 0n]), [9007199254740991, -1, 0]);
    assert.deepEqual(await sheaf.predict('identity_bytes', ['a', 'zwölf', '\u2028"\n']), ['a', 'zwölf', '\u2028"\n']);
    const options = { outputs: ['above_one'], parameters: { k: 1 }, lane: 'bulk', version: '1' };
    assert.deepEqual(await sheaf.predict('two_outputs', [0.5, 3], options), [false, true]);
  });

  test('the whole answer', async () => {
    const { prediction, source, id, model, modelVersion, timings, error } = await sheaf.ask('digits', digit);
    assert.deepEqual([argMax(prediction), source, model, modelVersion, error], [3, 'model', 'digits', '1', undefined]);
    assert.ok(timings.batch_rows >= 1);
    assert.equal((await sheaf.job(id).refresh()).status, 'succeeded');
  });

  test('submit, wait, read', async () => {
    const job = await sheaf.submit('digits', [digit], { deadline: 60_000 });
    assert.equal((await job.wait({ timeout: 20_000 })).status, 'succeeded');
    assert.deepEqual([job.finished, job.error, job.state.model], [true, undefined, 'digits']);
    assert.equal(argMax(job.output()[0]), 3);
    const again = sheaf.job(job.id);
    assert.equal(again.status, 'unknown');
    await again.wait();
    assert.deepEqual(again.output('probabilities'), job.output());
    assert.throws(() => job.output('nothing'), RangeError);
    assert.equal((await job.cancel()).status, 'succeeded'); // it stays
  });

  test('cancel', async () => {
    const job = await sheaf.submit('slow', stuck);
    assert.equal(job.finished, false);
    assert.throws(() => job.output(), { code: 'unfinished' });
    const waiting = sheaf.job(job.id).wait();
    assert.equal((await job.cancel()).status, 'canceled');
    assert.equal((await waiting).error.code, 'canceled');
    assert.equal((await job.cancel()).status, 'canceled');
    assert.throws(() => job.output(), { name: 'SheafError', code: 'canceled', jobId: job.id });
  });

  test('a wait ends in time, or when it is aborted, and the job goes on', async () => {
    const job = await sheaf.submit('slow', stuck);
    await assert.rejects(job.wait({ timeout: 300 }), (error) => error instanceof TimeoutError && error.jobId === job.id);
    await assert.rejects(job.wait({ signal: AbortSignal.abort() }), { name: 'AbortError' });
    const leave = new AbortController();
    const left = job.wait({ signal: leave.signal });
    leave.abort(new Error('the user left'));
    await assert.rejects(left, /the user left/);
    assert.equal((await job.refresh()).finished, false);
    await job.cancel();
  });

  test('a prediction that takes too long', async () => {
    const error = await sheaf.predict('slow', stuck, { timeout: 2900, idempotencyKey: 'late' }).catch((e) => e);
    assert.ok(error instanceof TimeoutError && error.unavailable, String(error));
    const job = await sheaf.submit('slow', stuck, { idempotencyKey: 'late' }); // it goes on
    assert.equal(error.jobId?.split('.')[0] ?? '', error.jobId ? job.id.split('.')[0] : '');
    assert.equal((await job.cancel()).status, 'canceled');
    assert.equal(await sheaf.predict('slow', stuck, { timeout: 300, fallback: -1, idempotencyKey: null }), -1);
  });

  test('the same key is the same job', async () => {
    const job = await sheaf.submit('digits', digit, { idempotencyKey: 'mine' });
    const twin = await sheaf.submit('digits', digit, { idempotencyKey: 'mine' });
    assert.equal(twin.id.split('.')[0], job.id.split('.')[0]);
    await assert.rejects(sheaf.submit('digits', digit.map(() => 0), { idempotencyKey: 'mine' }), { status: 422, code: 'key-reused' });
    const ids = [job, await sheaf.submit('digits', digit), await sheaf.submit('digits', digit, { idempotencyKey: null })].map(({ id }) => id);
    assert.equal(new Set(ids).size, 3);
  });

  test('what is wrong with a request is said, and no fallback hides it', async () => {
    const hidden = { fallback: 0, lastKnown: true };
    await assert.rejects(sheaf.predict('nobody', [1], hidden), { status: 404, code: 'unknown-model' });
    await assert.rejects(sheaf.predict('../secret', [1], hidden), { status: 404, code: 'unknown-model' });
    await assert.rejects(sheaf.predict('digits', [1, 2], hidden), { status: 422, code: 'invalid', field: 'input', unavailable: false });
    await assert.rejects(sheaf.predict('lookup', [99], hidden), { status: 422, code: 'inference' });
    await assert.rejects(sheaf.submit('digits', digit, { deadline: new Date(0) }), { status: 422, code: 'invalid' });
    await assert.rejects(sheaf.job('0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i999999-0').refresh(), { status: 404, code: 'unknown-job' });
    const job = await (await sheaf.submit('lookup', [99])).wait();
    assert.deepEqual([job.status, job.error.code, job.error.jobId], ['failed', 'inference', job.id]);
  });

  test('models', async () => {
    assert.deepEqual((await sheaf.models()).map(({ name }) => name).filter((name) => /digits|slow/.test(name)), ['digits', 'slow']);
    const model = await sheaf.model('digits');
    assert.deepEqual([model.inputs[0].shape, model.versions, model.prediction], [[-1, 64], ['1'], 'probabilities']);
    assert.deepEqual((await sheaf.model('digits', { version: '1' })).outputs, model.outputs);
    await assert.rejects(sheaf.model('digits', { version: '77' }), { code: 'unknown-model' });
  });

  test('bulk, look-up and events of many jobs', async () => {
    const jobs = 2500; // more than one request
    const rows = Array.from({ length: jobs }, (_, i) => ({ input: i === 7 ? [1] : digit, id: `row ${i}` }));
    const ids = [];
    for await (const ticket of sheaf.bulk('digits', rows)) {
      assert.equal(ticket.requestId, `row ${ticket.index}`);
      assert.equal(ticket.error?.code, ticket.index === 7 ? 'invalid' : undefined);
      ids[ticket.index] = ticket.id;
    }
    assert.equal(ids.length, jobs);
    ids.splice(7, 1);
    assert.equal(new Set(ids).size, jobs - 1);
    for await (const job of sheaf.events(ids.slice(-1000))) assert.equal(job.error, undefined);
    ids.splice(3, 0, 'nobody');
    const looked = [];
    for await (const job of sheaf.lookup(ids)) looked.push(job);
    assert.deepEqual(looked.map(({ id }) => id), ids);
    assert.deepEqual([looked[3].status, looked[3].error.code], ['unknown', 'unknown-job']);
    assert.equal(argMax(looked.at(-1).output()[0] ?? []), 3);
    for await (const job of sheaf.lookup([looked[0]], { outputs: false })) assert.equal(job.state.outputs, undefined);
  });

  test('bulk under a key makes the same jobs again', async () => {
    const submit = async () => {
      const ids = [];
      for await (const { index, id } of sheaf.bulk('digits', Array(1200).fill(digit), { idempotencyKey: 'again' })) ids[index] = id.split('.')[0];
      return ids;
    };
    assert.deepEqual(await submit(), await submit());
  });

  test('bulk does not wait for a source that is slow', async () => {
    let next;
    const items = (async function* () {
      yield digit;
      yield await new Promise((resolve) => (next = resolve));
    })();
    const tickets = sheaf.bulk('digits', items);
    assert.equal((await tickets.next()).value.index, 0);
    next(digit);
    assert.equal((await tickets.next()).value.index, 1);
    assert.equal((await tickets.next()).done, true);
  });

  test('bulk that is left, aborted, or fed by a source that fails', async () => {
    let closed = false;
    const endless = function* () {
      try {
        for (;;) yield digit;
      } finally {
        closed = true;
      }
    };
    for await (const ticket of sheaf.bulk('digits', endless())) if (ticket.index === 10) break;
    assert.ok(closed);
    const leave = new AbortController();
    const never = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => {}) }) };
    const stopped = sheaf.bulk('digits', never, { signal: leave.signal }).next();
    leave.abort();
    await assert.rejects(stopped, { name: 'AbortError' });
    const broken = (function* () {
      yield digit;
      throw new Error('no more rows');
    })();
    const tickets = sheaf.bulk('digits', broken);
    assert.ok((await tickets.next()).value.id);
    await assert.rejects(tickets.next(), /no more rows/);
    await assert.rejects(sheaf.bulk('nobody', [digit]).next(), { code: 'unknown-model' });
  });

  test('events tell of each change until all is finished', async () => {
    const job = await sheaf.submit('slow', stuck);
    const quick = await sheaf.submit('digits', digit);
    const told = new Map();
    for await (const { id, status, error } of sheaf.events([job, quick, 'nobody'])) {
      told.set(id, [...(told.get(id) ?? []), error?.code ?? status]);
      if (told.size === 3 && told.get(quick.id).includes('succeeded') && !told.get(job.id).includes('canceled')) await job.cancel();
    }
    assert.deepEqual(told.get('nobody'), ['unknown-job']);
    assert.equal(told.get(quick.id).at(-1), 'succeeded');
    assert.deepEqual([['queued', 'running'].includes(told.get(job.id)[0]), told.get(job.id).at(-1)], [true, 'canceled']);
    const many = Array.from({ length: 30 }, (_, i) => `nobody ${i}`); // too many for an address
    const states = [];
    for await (const { status } of sheaf.events([quick, ...many])) states.push(status);
    assert.deepEqual(states.sort(), ['succeeded', ...many.map(() => 'unknown')]);
    for await (const { status } of sheaf.events(quick.id)) assert.equal(status, 'succeeded');
  });

  test('webhooks', async (t) => {
    const told = new Map();
    let arrived = () => {};
    const receiver = createServer(async (request, response) => {
      let body = '';
      for await (const text of request.setEncoding('utf8')) body += text;
      response.end();
      told.set(JSON.parse(body).data.id, { headers: request.headers, body });
      arrived();
    }).listen(0, '127.0.0.1');
    await once(receiver, 'listening');
    t.after(() => receiver.close());
    const webhook = `http://127.0.0.1:${receiver.address().port}/`;
    const { secret } = await (await fetch(`${server.url}/v1/webhooks/secret`)).json();
    for (const [model, input, type] of [['digits', digit, 'job.succeeded'], ['lookup', [99], 'job.failed']]) {
      const job = await sheaf.submit(model, input, { webhook });
      while (!told.has(job.id)) await new Promise((resolve) => (arrived = resolve));
      const { headers, body } = told.get(job.id);
      const event = await verifyWebhook(secret, headers, body);
      assert.deepEqual([event.type, event.data.id, event.id], [type, job.id, headers['webhook-id']]);
      await assert.rejects(verifyWebhook(secret, headers, body.replace('id', 'Id')), { code: 'webhook' });
    }
  });

  test('events that are left', async () => {
    const job = await sheaf.submit('slow', stuck);
    for await (const { id } of sheaf.events(job)) {
      assert.equal(id, job.id);
      break;
    }
    const late = async () => {
      for await (const { finished } of sheaf.events(job, { timeout: 300 })) assert.ok(!finished);
    };
    await assert.rejects(late, (error) => error instanceof TimeoutError);
    await job.cancel();
  });
});

test('the server dies: last known answers and fallbacks', async () => {
  const server = await startSheaf();
  const sheaf = new Sheaf({ url: server.url, retries: 1 });
  let first, named;
  try {
    first = await sheaf.ask('digits', digit, { lastKnown: true });
    named = await sheaf.predict('digits', digit, { lastKnown: 'user 7' });
  } finally {
    await server.stop('SIGKILL');
  }
  const blank = digit.map(() => 0);
  const known = await sheaf.ask('digits', digit, { lastKnown: true, fallback: 0 });
  assert.deepEqual([known.prediction, known.source, known.id, known.error.code], [first.prediction, 'lastKnown', first.id, 'unreachable']);
  assert.ok(known.age >= 0);
  assert.deepEqual(await sheaf.predict('digits', blank, { lastKnown: 'user 7' }), named);
  assert.equal(await sheaf.predict('digits', blank, { lastKnown: true, fallback: null }), null);
  assert.equal(await sheaf.predict('digits', blank, { fallback: async ({ code }) => code }), 'unreachable');
  assert.equal((await sheaf.ask('digits', digit, { fallback: 0 })).source, 'fallback');
  assert.equal((await sheaf.ask('digits', digit, { lastKnown: true, maxAge: -1, fallback: 0 })).source, 'fallback');
  await assert.rejects(sheaf.predict('digits', blank, { lastKnown: true }), SheafError);
});

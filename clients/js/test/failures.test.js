// What the real server cannot be brought to: answers that break, servers that refuse and then do not.
import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { test } from 'node:test';
import { Sheaf, SheafError, TimeoutError } from '../src/index.js';
import { cut, event, fake, lines, ok, problem, reset, silence, stall, status } from './fake.js';

const good = ok({ prediction: [1], id: 'j', model: 'm', model_version: '1' });
const queued = { id: 'j.i1-0', status: 'queued', model: 'm' };
const done = { id: 'j.i1-0', status: 'succeeded', outputs: [] };
const busy = problem(503, 'busy', { 'retry-after': '0' });
const unavailable = problem(503, 'unavailable');
const half = (response) => {
  response.writeHead(200, { 'content-length': 100 });
  response.write('{"prediction"', () => response.socket.resetAndDestroy());
};

const collect = async (iterable) => {
  const all = [];
  for await (const one of iterable) all.push(one);
  return all;
};

for (const [name, bad] of Object.entries({ busy, unavailable, reset, half, 502: status(502, '<html>'), 504: status(504, ''), 429: status(429, '') })) {
  test(`${name} is tried again, under the same key`, async (t) => {
    const server = await fake(t, bad, bad, good);
    assert.deepEqual(await new Sheaf({ url: server.url }).predict('m', [1]), [1]);
    assert.equal(server.seen.length, 3);
    assert.equal(new Set(server.seen.map(({ headers }) => headers['idempotency-key'])).size, 1);
    assert.match(server.seen[0].headers['idempotency-key'], /^[0-9a-f-]{36}$/);
  });
}

for (const [name, bad] of Object.entries({
  internal: problem(500, 'internal'),
  expired: problem(504, 'expired', {}, { job_status: 'expired' }),
  invalid: problem(422, 'invalid'),
  unauthorized: problem(401, 'unauthorized'),
})) {
  test(`${name} is not tried again`, async (t) => {
    const server = await fake(t, bad, good);
    await assert.rejects(new Sheaf({ url: server.url }).predict('m', [1]), { code: name });
    assert.equal(server.seen.length, 1);
  });
}

test('without a key only what was not accepted is sent again', async (t) => {
  for (const [bad, again] of [[busy, true], [status(429, ''), true], [unavailable, false], [half, false]]) {
    const server = await fake(t, bad, status(202, queued));
    const submitted = new Sheaf({ url: server.url }).submit('m', [1], { idempotencyKey: null });
    if (again) assert.equal((await submitted).id, queued.id);
    else await assert.rejects(submitted, SheafError);
    assert.equal(server.seen.length, again ? 2 : 1);
    assert.equal(server.seen[0].headers['idempotency-key'], undefined);
  }
});

test('it gives up after its retries', async (t) => {
  const server = await fake(t, busy, busy, busy, busy);
  const error = await new Sheaf({ url: server.url, retries: 2 }).models().catch((e) => e);
  assert.deepEqual([error.status, error.code, error.detail, error.retryAfter], [503, 'busy', 'it is busy', 0]);
  assert.equal(server.seen.length, 3);
});

test('Retry-After is honoured', async (t) => {
  const server = await fake(t, problem(429, 'rate-limited', { 'retry-after': '1' }), good);
  const started = performance.now();
  await new Sheaf({ url: server.url }).predict('m', [1]);
  assert.ok(performance.now() - started >= 990);
});

test('pauses grow, with full jitter', async (t) => {
  const server = await fake(t, busy, busy, busy, good);
  const pauses = [];
  const { random } = Math;
  const { setTimeout } = globalThis;
  t.after(() => Object.assign(globalThis, { setTimeout }) && Object.assign(Math, { random }));
  Math.random = () => 0.5;
  globalThis.setTimeout = (call, ms, ...more) => {
    if (ms < 1000) pauses.push(ms);
    return setTimeout(call, ms, ...more);
  };
  await new Sheaf({ url: server.url, timeout: 5000 }).predict('m', [1]);
  assert.deepEqual(pauses, [50, 100, 200]);
});

test('what may come only after the time is over is not waited for', async (t) => {
  const server = await fake(t, problem(429, 'rate-limited', { 'retry-after': '60' }));
  const sheaf = new Sheaf({ url: server.url, timeout: 10_000 });
  const started = performance.now();
  const { source, error } = await sheaf.ask('m', [1], { fallback: 0 });
  assert.deepEqual([source, error.code, error.retryAfter], ['fallback', 'rate-limited', 60_000]);
  assert.ok(performance.now() - started < 9000);
});

for (const [name, slow] of Object.entries({ silence, stall })) {
  test(`time is bounded in all: ${name}`, async (t) => {
    const server = await fake(t, busy, slow);
    const sheaf = new Sheaf({ url: server.url, retries: 9, timeout: 600 });
    await assert.rejects(sheaf.predict('m', [1]), (error) => error instanceof TimeoutError && /within 600 ms/.test(error.message));
    assert.equal(await new Sheaf({ url: (await fake(t, slow)).url }).predict('m', [1], { timeout: 100, fallback: 7 }), 7);
    assert.equal(server.seen.length, 2);
  });
  test(`an abort ends a request at once, and is no reason for a fallback: ${name}`, async (t) => {
    const leave = new AbortController();
    const server = await fake(t, (response) => {
      leave.abort();
      return slow(response);
    });
    await assert.rejects(new Sheaf({ url: server.url }).predict('m', [1], { signal: leave.signal, fallback: 0 }), { name: 'AbortError' });
    assert.equal(server.seen.length, 1);
  });
}

test('nothing is left on a signal that lives on', async (t) => {
  const { signal } = new AbortController();
  const server = await fake(t, busy, good, status(202, queued), ok(done), lines({ index: 0, id: 'j' }, { done: true }), lines(event(1, done)));
  const sheaf = new Sheaf({ url: server.url });
  await sheaf.predict('m', [1], { signal });
  await (await sheaf.submit('m', [1], { signal })).wait({ signal });
  await collect(sheaf.bulk('m', [[1]], { signal }));
  await collect(sheaf.events(done.id, { signal }));
  assert.equal(getEventListeners(signal, 'abort').length, 0);
  assert.equal(server.seen.length, 6);
});

test('an abort ends a pause', async (t) => {
  const leave = new AbortController();
  const server = await fake(t, (response) => {
    problem(503, 'busy', { 'retry-after': '20' })(response);
    response.on('close', () => leave.abort(new Error('left')));
  });
  const sheaf = new Sheaf({ url: server.url, fetch: (url, init) => fetch(url, { ...init, headers: { ...Object.fromEntries(init.headers), connection: 'close' } }) });
  await assert.rejects(sheaf.predict('m', [1], { signal: leave.signal }), /left/);
});

test('time is bounded by the client itself', async () => {
  const never = () => new Promise(() => {});
  for (const options of [{ fetch: never }, { apiKey: never }]) {
    const sheaf = new Sheaf({ url: 'http://127.0.0.1:9', timeout: 100, ...options });
    await assert.rejects(sheaf.models(), (error) => error instanceof TimeoutError);
    await assert.rejects(sheaf.models({ signal: AbortSignal.timeout(10) }), { name: 'TimeoutError', code: 23 });
  }
});

test('a server that has waited as long as it does is asked again', async (t) => {
  const late = problem(504, 'timeout', { 'retry-after': '0' }, { id: 'j', job_status: 'running' });
  const server = await fake(t, late, late, late, late, late, good);
  assert.deepEqual(await new Sheaf({ url: server.url, retries: 1 }).predict('m', [1]), [1]);
  assert.match(server.seen[0].headers.prefer, /^wait=2[0-9]$/);
  const other = await fake(t, problem(504, 'timeout', { 'retry-after': '9' }, { id: 'j', job_status: 'running' }));
  await assert.rejects(new Sheaf({ url: other.url }).predict('m', [1], { timeout: 1500 }), (e) => e instanceof TimeoutError && e.jobId === 'j');
});

test('answers that are none', async (t) => {
  for (const body of ['<html>', '[]', '7', '{"status": "odd"}']) {
    const server = await fake(t, ok(body), ok(body));
    const sheaf = new Sheaf({ url: server.url });
    await assert.rejects(sheaf.submit('m', [1]), { code: 'no-answer' });
    await assert.rejects(sheaf.predict('m', [1]), { code: 'no-answer', unavailable: true });
  }
  const server = await fake(t, status(404, 'nothing here'));
  await assert.rejects(new Sheaf({ url: server.url }).model('m'), { status: 404, code: 'http-404', detail: 'nothing here' });
});

test('what is sent', async (t) => {
  const server = await fake(t, status(202, queued), ok({ models: [] }));
  let key = 0;
  const sheaf = new Sheaf({ url: `${server.url}/base/`, apiKey: async () => `secret ${++key}` });
  const options = {
    version: '2', idempotencyKey: 'k', lane: 'bulk', webhook: 'https://x.example/y', outputs: ['o'], parameters: { p: 1 },
    deadline: new Date(1_900_000_000_000),
  };
  await sheaf.submit('a b/c', { x: { datatype: 'FP32', data: [[1, 2]] } }, options);
  await sheaf.models();
  const [{ method, path, headers, json }, second] = server.seen;
  assert.deepEqual([method, path], ['POST', '/base/v1/models/a%20b%2Fc/versions/2/jobs']);
  assert.deepEqual(
    ['authorization', 'idempotency-key', 'sheaf-deadline', 'content-type'].map((name) => headers[name]),
    ['Bearer secret 1', 'k', '1900000000000', 'application/json'],
  );
  assert.deepEqual(json(), {
    inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [[1, 2]] }],
    outputs: [{ name: 'o' }], parameters: { p: 1 }, lane: 'bulk', webhook: 'https://x.example/y',
  });
  assert.equal(second.headers.authorization, 'Bearer secret 2');
});

test('wait goes on after a break, and where too many wait', async (t) => {
  const server = await fake(t, reset, unavailable, problem(503, 'too-many-waiters', { 'retry-after': '0' }), ok({ ...queued, eta_ms: 1 }), ok(done));
  assert.equal((await new Sheaf({ url: server.url }).job(queued.id).wait()).status, 'succeeded');
  assert.deepEqual(server.seen.map(({ path }) => path.split('/').pop()), [
    'j.i1-0?wait=20000ms', 'j.i1-0', 'j.i1-0', 'j.i1-0', 'j.i1-0?wait=20000ms',
  ]);
});

test('wait does not ask all the time', async (t) => {
  const server = await fake(t, ...Array(50).fill(ok(queued)));
  await assert.rejects(new Sheaf({ url: server.url }).job(queued.id).wait({ timeout: 1500 }), (e) => e instanceof TimeoutError && e.jobId === queued.id);
  assert.ok(server.seen.length < 6, `${server.seen.length} requests`);
});

test('wait does not trust a connection that is silent for ever', async (t) => {
  const server = await fake(t, silence, ok(done));
  const job = new Sheaf({ url: server.url, timeout: 200 }).job(queued.id);
  await job.wait({ timeout: 3000 }); // the server may take 2400 ms, and 200 ms more
  assert.deepEqual([job.status, server.seen.length], ['succeeded', 2]);
});

test('bulk goes on where it was cut off', async (t) => {
  const tickets = [0, 1].map((index) => ({ index, id: `j${index}`, status: 'queued' }));
  const refused = { index: 2, request_id: 'mine', error: { type: '/problems/invalid', status: 422, field: 'input' } };
  const early = { done: false, accepted: 1, refused: 0, error: { type: '/problems/full', status: 503 } };
  const server = await fake(t, cut(tickets[0], '{"index":1,"id"'), lines(tickets[0], early), lines(...tickets, refused, { done: true }));
  const got = await collect(new Sheaf({ url: server.url }).bulk('m', [[1], [2], { input: [3], id: 'mine' }], { lane: 'interactive' }));
  assert.deepEqual(got.map(({ id, requestId, error }) => id ?? [requestId, error.code, error.field]), ['j0', 'j1', ['mine', 'invalid', 'input']]);
  assert.equal(server.seen[0].path, '/v1/models/m/bulk?lane=interactive');
  assert.equal(server.seen[2].body, '{"input":[1]}\n{"input":[2]}\n{"input":[3],"id":"mine"}\n');
  assert.equal(server.seen[2].body, server.seen[0].body);
  assert.equal(new Set(server.seen.map(({ headers }) => headers['idempotency-key'])).size, 1);
});

test('bulk without a key sends nothing twice', async (t) => {
  const early = { done: false, accepted: 1, refused: 0, error: { type: '/problems/unavailable', status: 503 } };
  const server = await fake(t, busy, lines({ index: 0, id: 'j0' }, early), lines({ index: 0, id: 'j1' }));
  const tickets = new Sheaf({ url: server.url }).bulk('m', [[1], [2], [3]], { idempotencyKey: null });
  assert.equal((await tickets.next()).value.id, 'j0');
  assert.deepEqual((await tickets.next()).value, { index: 1, id: 'j1', status: undefined, requestId: undefined, error: undefined });
  await assert.rejects(tickets.next(), { code: 'cut-off' });
  assert.equal(server.seen[2].body, '{"input":[2]}\n{"input":[3]}\n');
  assert.equal(server.seen.length, 3);
});

test('bulk gives up, or goes on for as long as it gets on', async (t) => {
  const broken = await fake(t, ...Array(9).fill(cut()));
  await assert.rejects(collect(new Sheaf({ url: broken.url, retries: 2 }).bulk('m', [[1]])), { code: 'unreachable' });
  assert.equal(broken.seen.length, 3);
  const slow = await fake(t, ...[0, 1, 2, 3, 4].map((index) => cut({ index, id: `j${index}` })));
  assert.equal((await collect(new Sheaf({ url: slow.url, retries: 1 }).bulk('m', [[1], [2], [3], [4], [5]]))).length, 5);
});

test('bulk says to whom and until when, and splits what is large', async (t) => {
  const answer = (response, { body }) => lines(...body.trim().split('\n').map((_, index) => ({ index, id: 'j' })), { done: true })(response);
  const server = await fake(t, answer, answer);
  const long = 'x'.repeat(600_000);
  const options = { version: '2', deadline: new Date(1_900_000_000_000), idempotencyKey: 'k' };
  const got = await collect(new Sheaf({ url: server.url }).bulk('a b', [[long], [long], [1]], options));
  assert.deepEqual(got.map(({ index }) => index), [0, 1, 2]);
  assert.deepEqual(server.seen.map(({ path, headers }) => [path, headers['sheaf-deadline'], headers['idempotency-key'], headers['content-type']]), [
    ['/v1/models/a%20b/versions/2/bulk', '1900000000000', 'k-0', 'application/x-ndjson'],
    ['/v1/models/a%20b/versions/2/bulk', '1900000000000', 'k-2', 'application/x-ndjson'],
  ]);
});

test('look-up asks for the rest', async (t) => {
  const [a, b] = ['a', 'b'].map((id) => ({ id, status: 'succeeded' }));
  const unknown = { id: 'c', error: { type: '/problems/unknown-job', status: 404 } };
  const server = await fake(t, cut(a, b, '{"id":"c","sta'), lines(unknown));
  const jobs = await collect(new Sheaf({ url: server.url }).lookup(['a', { id: 'b' }, 'c'], { outputs: false }));
  assert.deepEqual(jobs.map(({ id, status, error }) => [id, status, error?.code]), [
    ['a', 'succeeded', undefined], ['b', 'succeeded', undefined], ['c', 'unknown', 'unknown-job'],
  ]);
  assert.deepEqual(server.seen.map(({ json }) => json()), [{ ids: ['a', 'b', 'c'], outputs: false }, { ids: ['c'], outputs: false }]);
});

test('look-up goes on for as long as it gets on', async (t) => {
  const ids = ['a', 'b', 'c', 'd'];
  const server = await fake(t, ...ids.map((id) => cut({ id, status: 'queued' })));
  assert.equal((await collect(new Sheaf({ url: server.url, retries: 1 }).lookup(ids))).length, 4);
});

test('events connect again', async (t) => {
  const job = (id, status, position) => ({ id, status, position });
  const first = cut('retry: 1\n\n: hello\n\n', event(1, job('a', 'queued', 3)), event(2, job('b', 'succeeded')));
  const second = lines(event(1, job('a', 'queued', 3)), event(2, job('a', 'queued', 2)), event(3, job('a', 'running')), 'id: 9\nevent: job\nda');
  const third = lines(event(4, job('a', 'succeeded')).replaceAll('\n', '\r\n'), event('end', {}, 'end'));
  const server = await fake(t, first, unavailable, second, third);
  const told = await collect(new Sheaf({ url: server.url }).events(['a', 'b']));
  assert.deepEqual(told.map(({ id, status, position }) => [id, status, position ?? null]), [
    ['a', 'queued', 3], ['b', 'succeeded', null], ['a', 'queued', 2], ['a', 'running', null], ['a', 'succeeded', null],
  ]);
  assert.deepEqual(server.seen.map(({ path }) => path), ['/v1/jobs/events?id=a&id=b', ...Array(3).fill('/v1/jobs/a/events')]);
  assert.deepEqual(server.seen.map(({ headers }) => headers['last-event-id']), [undefined, '2', '2', '3']);
});

test('events give up where nothing comes', async (t) => {
  const server = await fake(t, ...Array(9).fill(lines(': nothing\n\n')));
  await assert.rejects(collect(new Sheaf({ url: server.url, retries: 1 }).events('a')), { code: 'cut-off' });
  assert.equal(server.seen.length, 2);
});

test('last known answers make room, and are not what callers made of them', async (t) => {
  const answer = (n) => ok({ prediction: [n] });
  const server = await fake(t, answer(1), answer(2), answer(4), answer(3), ...Array(9).fill(problem(500, 'internal')));
  const sheaf = new Sheaf({ url: server.url, lastKnownSize: 2 });
  const ask = (input) => sheaf.predict('m', input, { lastKnown: true, fallback: 'none' });
  const mine = await ask([1]);
  mine[0] = 'changed';
  await ask([2]);
  await ask([1]); // once more, so that the other is older
  await ask([3]);
  assert.deepEqual([await ask([2]), await ask([1]), await ask([3])], ['none', [4], [3]]);
  (await ask([1]))[0] = 'changed';
  assert.deepEqual(await ask([1]), [4]);
});

test('wrong settings and inputs are told at once', async () => {
  for (const url of ['', 'localhost:8080', 'ftp://x', 'http://x?y', 'http://x#y']) assert.throws(() => new Sheaf({ url }), TypeError, url);
  for (const wrong of [{ timeout: 0 }, { timeout: NaN }, { retries: -1 }]) assert.throws(() => new Sheaf({ url: 'http://x', ...wrong }), RangeError);
  const sheaf = new Sheaf({ url: 'http://127.0.0.1:9' });
  await assert.rejects(sheaf.predict('m', [NaN], { fallback: 0 }), RangeError);
  await assert.rejects(sheaf.predict('m', new Float32Array([Infinity]), { fallback: 0 }), RangeError);
  await assert.rejects(sheaf.predict('m', { x: [1] }, { fallback: 0 }), /input x: expected a typed array/);
  await assert.rejects(sheaf.predict('m', { data: [1, 2, 3], shape: [2] }, { fallback: 0 }), /expected 2 elements/);
  await assert.rejects(sheaf.predict('m', [1], { timeout: 0, fallback: 0 }), RangeError);
  assert.throws(() => sheaf.lookup(['']), TypeError);
  for (const name of ['', '.', '..', undefined]) {
    await assert.rejects(sheaf.predict(name, [1], { fallback: 0 }), TypeError);
    await assert.rejects(sheaf.job(name).refresh(), TypeError);
  }
  await assert.rejects(new Sheaf({ url: 'http://127.0.0.1:9', apiKey: 'a\nb' }).models(), TypeError);
});

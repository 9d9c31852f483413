// Inputs and settings that are easily got wrong.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sheaf } from '../src/index.js';
import { event, fake, lines, ok, problem, reset } from './fake.js';

const good = ok({ prediction: [1], id: 'j' });

test("subclasses of typed arrays are typed arrays, Node's Buffer too", async (t) => {
  class Pixels extends Float32Array {}
  const server = await fake(t, good);
  await new Sheaf({ url: server.url }).predict('m', { a: Buffer.from([1, 2]), b: new Pixels([3]) });
  assert.deepEqual(server.seen[0].json().inputs, [
    { data: [1, 2], name: 'a', datatype: 'UINT8', shape: [2] },
    { data: [3], name: 'b', datatype: 'FP32', shape: [1] },
  ]);
});

test('a URL with credentials is told at once, and not with them', () => {
  for (const url of ['http://user:hush@127.0.0.1:9', 'http://:hush@127.0.0.1:9', new URL('http://hush@127.0.0.1:9')]) {
    assert.throws(() => new Sheaf({ url }), (error) => error instanceof TypeError && /apiKey/.test(error.message) && !/hush/.test(error.message));
  }
});

const away = Array(4).fill(reset);
const done = { id: 'j', status: 'succeeded', outputs: [] };
const told = async (jobs) => {
  for await (const job of jobs) return job;
};
const patient = {
  wait: [(sheaf, options) => sheaf.job('j').wait(options), ok(done)],
  events: [(sheaf, options) => told(sheaf.events('j', options)), lines(event(1, done))],
};

for (const [name, [follow, answer]] of Object.entries(patient)) {
  test(`${name}: a server that is away is waited for, if it is said for how long`, async (t) => {
    const server = await fake(t, ...away, answer);
    assert.equal((await follow(new Sheaf({ url: server.url, retries: 1 }), { timeout: 60_000 })).status, 'succeeded');
    assert.equal(server.seen.length, 5);
    for (const [retries, options] of [[1, {}], [0, { timeout: 60_000 }]]) {
      const gone = await fake(t, ...away, answer);
      await assert.rejects(follow(new Sheaf({ url: gone.url, retries }), options), { code: 'unreachable' });
      assert.equal(gone.seen.length, retries + 1);
    }
  });

  test(`${name}: in the end it is said why`, async (t) => {
    const server = await fake(t, ...Array(99).fill(reset));
    const started = performance.now();
    await assert.rejects(follow(new Sheaf({ url: server.url }), { timeout: 1500 }), { name: /SheafError|TimeoutError/, unavailable: true });
    assert.ok(performance.now() - started < 5000);
    const wrong = await fake(t, problem(401, 'unauthorized'));
    await assert.rejects(follow(new Sheaf({ url: wrong.url }), { timeout: 60_000 }), { code: 'unauthorized' });
  });
}

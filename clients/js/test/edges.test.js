// Inputs and settings that are easily got wrong.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Sheaf } from '../src/index.js';
import { fake, ok } from './fake.js';

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

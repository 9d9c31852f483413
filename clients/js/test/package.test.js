// What is shipped, and what its README says.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import * as client from 'sheaf-client';
import { digit, startSheaf } from './sheaf.js';

const here = new URL('../', import.meta.url);
const read = (name) => readFile(new URL(name, here), 'utf8');
const AsyncFunction = (async () => {}).constructor;
const blocks = [...(await read('README.md')).matchAll(/^```js\n(.*?)^```/gms)].map(([, code]) => code.replace(/^import .*$/m, ''));

test('the package', async () => {
  assert.deepEqual(Object.keys(client).sort(), ['Job', 'Sheaf', 'SheafError', 'TimeoutError', 'verifyWebhook']);
  const meta = JSON.parse(await read('package.json'));
  assert.equal(meta.dependencies, undefined);
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: fileURLToPath(here) });
  const files = JSON.parse(stdout)[0].files.map(({ path }) => path);
  const source = (await readdir(new URL('src', here))).map((name) => `src/${name}`);
  assert.deepEqual(files.sort(), ['LICENSE', 'README.md', 'package.json', ...source].sort());
});

test('the code runs wherever there is fetch', async () => {
  for (const name of await readdir(new URL('src', here))) {
    const code = await read(`src/${name}`);
    for (const [, from] of code.matchAll(/from '([^']*)'/g)) assert.match(from, /^\.\//, `${name} imports ${from}`);
    assert.doesNotMatch(code, /\b(process|Buffer|require)\b[.(]/, name);
  }
});

test('the README', async (t) => {
  const server = await startSheaf();
  t.after(() => server.stop());
  const code = blocks[0].replace('http://localhost:8080', server.url);
  const said = [];
  const console = { log: (...words) => said.push(words) };
  await new AsyncFunction('Sheaf', 'pixels', 'rows', 'console', code)(client.Sheaf, digit, [digit, [1]], console);
  assert.equal(said[0][0], 'succeeded');
  assert.equal(said[0][1][0].length, 10); // a row of ten
  assert.deepEqual(said.slice(1).map(([told]) => told.code ?? typeof told).sort(), ['invalid', 'string']);
});

test('the README on webhooks', async () => {
  const secret = `whsec_${btoa('a secret of this tenant')}`;
  const POST = new Function('verifyWebhook', 'secret', `${blocks[1].replace('export', 'return')}`)(client.verifyWebhook, secret);
  const body = JSON.stringify({ type: 'job.expired', timestamp: '', data: { id: 'j' } });
  const at = Math.floor(Date.now() / 1000);
  const mac = createHmac('sha256', 'a secret of this tenant').update(`m.${at}.${body}`).digest('base64');
  const headers = { 'webhook-id': 'm', 'webhook-timestamp': String(at), 'webhook-signature': `v1,${mac}` };
  const answer = await POST(new Request('http://x/', { method: 'POST', headers, body }));
  assert.deepEqual(await answer.json(), { id: 'm', type: 'job.expired', job: 'j' });
});

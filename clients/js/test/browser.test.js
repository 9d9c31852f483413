// The client in Chromium, from the source tree as it is, on a page of another origin than the server.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { atExit, digit, startSheaf } from './sheaf.js';

const types = { js: 'text/javascript', html: 'text/html' };

/** Serves a page, and hands on what it says at the end. */
async function servePage(t) {
  const given = {};
  let tell;
  const told = new Promise((resolve) => (tell = resolve));
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, 'http://x').pathname;
    if (path === '/given') return response.end(JSON.stringify(given));
    if (path === '/told') {
      let text = '';
      for await (const part of request.setEncoding('utf8')) text += part;
      response.end();
      return tell(JSON.parse(text));
    }
    try {
      const file = path === '/' ? '/test/page.html' : path;
      const content = await readFile(new URL(`..${file}`, import.meta.url));
      response.writeHead(200, { 'content-type': types[file.split('.').pop()] }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return { url: `http://127.0.0.1:${server.address().port}`, given, told };
}

/** Opens a page in Chromium until the test is over. */
async function openPage(t, url) {
  const profile = await mkdtemp(join(tmpdir(), 'sheaf-chromium-'));
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run', '--disable-background-networking'];
  const child = spawn('chromium', [...flags, `--user-data-dir=${profile}`, '--remote-debugging-port=0', url], {
    stdio: ['ignore', 'ignore', 'pipe'], detached: true, env: { ...process.env, HOME: profile },
  });
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text) => (said += text));
  const exited = new Promise((resolve, reject) => {
    child.on('error', reject).on('exit', resolve);
  });
  const kill = () => {
    try {
      process.kill(-child.pid, 'SIGKILL'); // it is several processes
    } catch {
      // They have ended already.
    }
  };
  const ended = atExit(kill);
  t.after(async () => {
    kill();
    ended();
    await exited.catch(() => {});
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
  });
  return exited.then(
    (code) => assert.fail(`chromium has ended (${code}):\n${said}`),
    (error) => assert.fail(`chromium cannot be started: ${error.message}`),
  );
}

test('a page', { timeout: 120_000 }, async (t) => {
  const page = await servePage(t);
  const server = await startSheaf('--cors-origins', page.url);
  t.after(() => server.stop());
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  const body = JSON.stringify({ type: 'job.failed', timestamp: '', data: { id: 'j' } });
  const at = String(Math.floor(Date.now() / 1000));
  const mac = createHmac('sha256', Buffer.from(secret.slice(6), 'base64')).update(`m.${at}.${body}`).digest('base64');
  const headers = { 'webhook-id': 'm', 'webhook-timestamp': at, 'webhook-signature': `v1,${mac}` };
  Object.assign(page.given, { url: server.url, digit, hook: { secret, headers, body } });
  const gone = openPage(t, page.url);
  assert.deepEqual(await Promise.race([page.told, gone]), {
    predict: 3,
    submit: ['succeeded', 3],
    many: [1500, 50, 'succeeded', true],
    late: true,
    aborted: 'AbortError',
    canceled: 'canceled',
    invalid: [true, 422, 'invalid', 'input'],
    retryAfter: ['timeout', true],
    webhook: 'job.failed',
    example: 'N (model, N %)',
    fallback: ['fallback', 'unreachable'],
    relative: 'http-404',
  });
});

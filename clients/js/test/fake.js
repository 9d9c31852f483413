// A server that fails as it is told to, for what the real one cannot be brought to.
import { once } from 'node:events';
import { createServer } from 'node:http';

/** Starts a server that gives each request the next of the answers. It ends with the test. */
export async function fake(t, ...answers) {
  const seen = [];
  const server = createServer(async (request, response) => {
    let body = '';
    request.setEncoding('utf8');
    for await (const text of request) body += text;
    seen.push({ method: request.method, path: request.url, headers: request.headers, body, json: () => JSON.parse(body) });
    const answer = answers[seen.length - 1] ?? status(500, { type: '/problems/internal', detail: 'nothing more was expected' });
    await answer(response, seen.at(-1));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(async () => {
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
  });
  return { url: `http://127.0.0.1:${server.address().port}`, seen };
}

export const status = (code, body, headers = {}) => (response) => {
  response.writeHead(code, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
};

export const ok = (body) => status(200, body);

export const problem = (code, type, headers, more) =>
  status(code, { type: `/problems/${type}`, status: code, detail: `it is ${type}`, ...more }, headers);

/** Answers with these lines, and ends in good order. */
export const lines = (...all) => (response) => response.end(all.map(lineOf).join(''));

/** Answers with these lines and then breaks the connection. */
export const cut = (...all) => (response) => response.write(all.map(lineOf).join('') || ' ', () => response.socket.resetAndDestroy());

const lineOf = (line) => (typeof line === 'string' ? line : `${JSON.stringify(line)}\n`);

/** Breaks the connection at once. */
export const reset = (response) => response.socket.resetAndDestroy();

/** Says nothing until the client leaves. */
export const silence = (response) => once(response, 'close');

/** Begins an answer, and says nothing more until the client leaves. */
export const stall = (response) => {
  response.write('{');
  return once(response, 'close');
};

export const event = (id, data, type = 'job') => `event: ${type}\nid: ${id}\ndata: ${JSON.stringify(data)}\n\n`;

// A server to test against: the real one.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const repo = fileURLToPath(new URL('../../../', import.meta.url));
export const program = join(repo, 'bin', 'sheaf');

/** A handwritten 3. */
export const digit = JSON.parse(await readFile(join(repo, 'examples', 'digit.json'), 'utf8')).input;

export const argMax = (values) => values.indexOf(Math.max(...values));

export const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(SHEAF|REDIS|NATS)_/.test(name)));

/** Calls kill when this process ends; gives what prevents that. */
export function atExit(kill) {
  process.on('exit', kill);
  return () => process.off('exit', kill);
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(1));

/** Starts `sheaf dev` with the models of the tests. */
export async function startSheaf(...flags) {
  const folder = await mkdtemp(join(tmpdir(), 'sheaf-js-'));
  const models = join(folder, 'models');
  const onnx = (name) => cp(join(repo, 'model', 'onnx', 'testdata', name), join(models, name));
  await cp(join(repo, 'cmd', 'sheaf', 'testdata', 'models', 'slow'), join(models, 'slow'), { recursive: true });
  await Promise.all(['identity_int64.onnx', 'identity_bytes.onnx', 'two_inputs.onnx', 'two_outputs.onnx', 'lookup.onnx'].map(onnx));
  const all = ['dev', '--addr', '127.0.0.1:0', '--nats-addr', '127.0.0.1:0', '--grpc-addr', 'off', '--models', models, '--data', join(folder, 'data'), ...flags];
  const child = spawn(program, all, { env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
  const exited = once(child, 'exit');
  const ended = atExit(() => child.kill('SIGKILL'));
  let said = '';
  const stop = async (signal = 'SIGTERM') => {
    child.kill(signal);
    await exited;
    ended();
    await rm(folder, { recursive: true, force: true });
  };
  await new Promise((resolve, reject) => {
    const hear = (text) => {
      said += text;
      if (said.includes('Ctrl-C stops it')) resolve();
    };
    child.stdout.setEncoding('utf8').on('data', hear);
    child.stderr.setEncoding('utf8').on('data', hear);
    exited.then(() => reject(new Error(`sheaf dev has ended:\n${said}`)), reject);
  }).catch(async (error) => {
    await rm(folder, { recursive: true, force: true });
    throw error;
  });
  return { url: /HTTP API +(\S+)/.exec(said)[1], nats: /NATS +(\S+)/.exec(said)[1], stop };
}

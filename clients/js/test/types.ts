// What tsc checks: that the code is what index.d.ts says, and that callers can write what they would.
import { Sheaf as CodeSheaf } from '../src/client.js';
import * as errors from '../src/errors.js';
import { Job as CodeJob } from '../src/job.js';
import { verifyWebhook as codeVerify } from '../src/webhook.js';
import { Sheaf, SheafError, TimeoutError, verifyWebhook, type Job } from '../src/index.js';

export const client: typeof Sheaf = CodeSheaf;
export const error: typeof SheafError = errors.SheafError;
export const late: typeof TimeoutError = errors.TimeoutError;
export const verify: typeof verifyWebhook = codeVerify;
export const job: (j: CodeJob) => Pick<Job, keyof Job> = (j) => j;

export async function callers(sheaf: Sheaf) {
  const row: number[] = await sheaf.predict<number[]>('digits', new Float32Array(64), { fallback: [], lastKnown: true });
  const { source, prediction } = await sheaf.ask<number[] | null>('digits', [[0, 1]], { fallback: null });
  if (source === 'model') console.log(prediction?.length, row);
  await sheaf.predict('two', { a: new BigInt64Array(2), b: { datatype: 'BYTES', data: ['x'] } });
  await sheaf.predict('digits', { data: new Float32Array(128), shape: [2, 64] });
  const submitted = await sheaf.submit('digits', { input: [1], id: 'mine' }, { lane: 'bulk', deadline: 5000 });
  submitted.id.trim();
  for await (const ticket of sheaf.bulk('digits', [[1], [2]])) ticket.error?.retryAfter?.toFixed();
  for await (const j of sheaf.events([submitted, 'id'])) j.position?.toFixed();
  // @ts-expect-error: a status is none of these
  if (submitted.status === 'done') return;
  // @ts-expect-error: no such option
  await sheaf.submit('digits', [1], { fallback: 1 });
}

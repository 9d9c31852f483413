/** Milliseconds, as every duration here. */
export type Duration = number;

export interface Options {
  /** Where the server is, `http://localhost:8080`. In a browser it may be relative to the page: `/`. */
  url: string | URL;
  /** An API key or a JWT, or what gives one for each request. */
  apiKey?: string | (() => string | Promise<string>);
  /** How long a call may take in all, attempts and pauses included. Default 30,000. */
  timeout?: Duration;
  /** How often a request is sent again if that may help. Default 3. With a timeout, wait and events go on until it is over, unless this is 0. */
  retries?: number;
  /** Takes the place of the global fetch. */
  fetch?: typeof fetch;
  /** How many answers are kept for `lastKnown`. Default 1000. */
  lastKnownSize?: number;
}

export interface RequestOptions {
  timeout?: Duration;
  signal?: AbortSignal;
}

export type TypedArray =
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint8ClampedArray | Uint16Array | Uint32Array | BigUint64Array
  | Float32Array | Float64Array;

export type Datatype =
  | 'BOOL' | 'INT8' | 'INT16' | 'INT32' | 'INT64' | 'UINT8' | 'UINT16' | 'UINT32' | 'UINT64'
  | 'FP16' | 'BF16' | 'FP32' | 'FP64' | 'BYTES';

export type Value = number | bigint | boolean | string;
export type Values = TypedArray | readonly (Value | Values)[];

/** An input by name. Of a typed array the datatype is known; the shape is that of the data unless it is given. */
export interface Tensor {
  name?: string;
  datatype?: Datatype;
  shape?: readonly number[];
  data: Values;
}

/**
 * What a model is given: the data of its one input, nested, or flat with a shape; or several inputs by name, or as a
 * list of tensors. A level of nesting less than the model has is a single row.
 */
export type Input = Value | Values | { data: Values; shape: readonly number[] } | { readonly [name: string]: TypedArray | Tensor } | readonly Tensor[];

/** A body as the API takes it. */
export interface RequestBody {
  input?: Value | Values | { data: Values; shape: readonly number[] };
  inputs?: readonly Tensor[];
  id?: string;
  outputs?: readonly { name: string }[];
  parameters?: Parameters;
  lane?: Lane;
  webhook?: string;
}

export type Parameters = { readonly [name: string]: string | number | boolean };
export type Lane = 'interactive' | 'bulk';
export type Status = 'queued' | 'running' | 'succeeded' | 'failed' | 'canceled' | 'expired' | 'unknown';

export interface SubmitOptions extends RequestOptions {
  version?: string;
  /** The outputs that are wanted; all by default. */
  outputs?: readonly string[];
  parameters?: Parameters;
  /** Default interactive. */
  lane?: Lane;
  /** When the answer is of no more use: a moment, or milliseconds from now. */
  deadline?: Date | Duration;
  /** Makes the same request the same job. Made by itself; null leaves it out, and then what was perhaps accepted is not sent again. */
  idempotencyKey?: string | null;
  /** The URL that is told when the job is finished. */
  webhook?: string;
}

export interface AskOptions<F = any> extends Omit<SubmitOptions, 'webhook'> {
  /** What to answer if the service is not available, or what makes it. A request that is wrong is an error all the same. */
  fallback?: F | ((error: SheafError) => F | Promise<F>);
  /** Answer with the last answer to the same request, or under a key of yours, before the fallback is taken. */
  lastKnown?: boolean | string;
  /** How old that answer may be. Default an hour. */
  maxAge?: Duration;
}

export interface BulkOptions {
  version?: string;
  /** Default bulk. */
  lane?: Lane;
  /** Of every job. */
  deadline?: Date | Duration;
  /**
   * As for submit. Under a key of yours the same items make the same jobs, also in another process; they are then sent
   * a thousand at a time. null is faster: such jobs share messages in the queue.
   */
  idempotencyKey?: string | null;
  signal?: AbortSignal;
}

/** Where an answer comes from. */
export type Source = 'model' | 'lastKnown' | 'fallback';

export interface Answer<T = any> {
  prediction: T;
  source: Source;
  /** Why it is not the model's answer to this request. */
  error?: SheafError;
  /** How old a last known answer is. */
  age?: Duration;
  id?: string;
  model?: string;
  modelVersion?: string;
  timings?: Timings;
}

export interface Timings {
  queue_ms?: number;
  batch_wait_ms?: number;
  infer_ms?: number;
  batch_rows?: number;
}

/** A tensor as the API gives it: flat data. Integers beyond 2^53 lose their last digits, as JSON.parse reads them. */
export interface Output {
  name: string;
  shape: number[];
  datatype: Datatype;
  data: any[];
}

/** A job as the API gives it. */
export interface JobState {
  id: string;
  status?: Status;
  model?: string;
  model_version?: string;
  created_at?: string;
  finished_at?: string;
  attempts?: number;
  outputs?: Output[];
  error?: Problem;
  timings?: Timings;
  position?: number;
  eta_ms?: number;
}

/** A problem document (RFC 9457). */
export interface Problem {
  type?: string;
  title?: string;
  status?: number;
  detail?: string;
  instance?: string;
  field?: string;
  id?: string;
  job_status?: Status;
  expected?: Signature[];
}

export interface Signature {
  name: string;
  datatype: Datatype;
  /** -1 varies. */
  shape: number[];
}

export interface Model {
  name: string;
  version: string;
  versions?: string[];
  description?: string;
  platform: string;
  inputs: Signature[];
  outputs: Signature[];
  batchable?: boolean;
  max_rows: number;
  prediction: string;
  result_ttl_ms?: number;
  deadline_ms?: number;
  metadata?: Record<string, string>;
  limits?: Record<string, number>;
}

/** What became of an item of bulk: id is the accepted job's, error says why it was refused. */
export interface Ticket {
  index: number;
  id?: string;
  status?: Status;
  /** The item's own id. */
  requestId?: string;
  error?: SheafError;
}

export class Sheaf {
  constructor(options: Options);
  /** Submits, waits, and gives the prediction: nested arrays, or one row's for one row. */
  predict<T = any>(model: string, input: Input | RequestBody, options?: AskOptions<T>): Promise<T>;
  /** As predict, with all that there is to say about the answer. */
  ask<T = any>(model: string, input: Input | RequestBody, options?: AskOptions<T>): Promise<Answer<T>>;
  /** Submits a job. */
  submit(model: string, input: Input | RequestBody, options?: SubmitOptions): Promise<Job>;
  /** A handle of a job that was submitted elsewhere; asks nobody. */
  job(id: string): Job;
  /** Submits items as they come, and gives a ticket for each; their order may be another. */
  bulk(model: string, items: AsyncIterable<Input | RequestBody> | Iterable<Input | RequestBody>, options?: BulkOptions): AsyncGenerator<Ticket, void, undefined>;
  /** Gives each job as it stands, in the order of ids. timeout is for each thousand. */
  lookup(ids: Iterable<string | { id?: string }>, options?: RequestOptions & { outputs?: boolean }): AsyncGenerator<Job, void, undefined>;
  /** Gives each job at once and whenever it changes, until all are finished. At most 1000 jobs, unless the server takes more. */
  events(ids: string | { id?: string } | Iterable<string | { id?: string }>, options?: RequestOptions): AsyncGenerator<Job, void, undefined>;
  models(options?: RequestOptions): Promise<Model[]>;
  model(name: string, options?: RequestOptions & { version?: string }): Promise<Model>;
}

/** A job, as the server last told it. */
export class Job {
  private constructor();
  readonly id: string;
  /** `unknown` if the server was not asked yet, or knows no such job. */
  readonly status: Status;
  /** Whether the status is final. */
  readonly finished: boolean;
  /** How many jobs are before it. */
  readonly position: number | undefined;
  /** How long it is expected to take. */
  readonly eta: Duration | undefined;
  /** Why it did not succeed. */
  readonly error: SheafError | undefined;
  /** All that the server said. */
  readonly state: JobState;
  /** The data of an output, or of the first, nested by its shape, rows first. Throws the job's error if it has one. */
  output<T = any>(name?: string): T;
  /** Waits until the job is finished, however it ends; for ever unless there is a timeout. */
  wait(options?: RequestOptions): Promise<this>;
  refresh(options?: RequestOptions): Promise<this>;
  /** Cancels the job. One that is finished stays as it is. */
  cancel(options?: RequestOptions): Promise<this>;
}

export interface ErrorFields {
  status?: number;
  field?: string;
  retryAfter?: Duration;
  jobId?: string;
  problem?: Problem;
  cause?: unknown;
}

/** A request that was refused, a job that has failed, or a server that does not answer. */
export class SheafError extends Error {
  constructor(code: string, detail: string, fields?: ErrorFields);
  /**
   * What to switch on: the last part of the problem's type, such as `unknown-model`. Without one it is `http-502` and the
   * like; `unreachable`, `cut-off`, `no-answer` or `timeout`; `unfinished` for an output that is not there yet, `webhook`
   * for a webhook not to be believed.
   */
  readonly code: string;
  readonly detail: string;
  /** The HTTP status, if there was an answer. */
  readonly status: number | undefined;
  /** Where in the request. */
  readonly field: string | undefined;
  readonly retryAfter: Duration | undefined;
  /** The job that it is about. */
  readonly jobId: string | undefined;
  readonly problem: Problem | undefined;
  /** Whether the service is at fault, or the way to it, and not the request: what a fallback is for. */
  readonly unavailable: boolean;
}

/** The time was over. A job that was submitted goes on. */
export class TimeoutError extends SheafError {
  constructor(detail: string, fields?: ErrorFields);
}

export interface WebhookEvent {
  /** The same in each repetition of the same webhook: handle it once. */
  id: string;
  type: 'job.succeeded' | 'job.failed' | 'job.canceled' | 'job.expired';
  timestamp: string;
  data: JobState;
}

/**
 * Checks the signature and the age of a webhook and reads it; a SheafError if it must not be believed. body has to be what
 * was received, byte for byte. secret may be several, while one replaces another. tolerance is 300,000 by default.
 */
export function verifyWebhook(
  secret: string | readonly string[],
  headers: Headers | { readonly [name: string]: string | readonly string[] | undefined },
  body: string | ArrayBuffer | Uint8Array,
  options?: { tolerance?: Duration },
): Promise<WebhookEvent>;

/** @import {Input, Tensor, RequestBody, TypedArray} from './index.js' */

/** @type {Record<string, string>} */
const datatypes = {
  Int8Array: 'INT8', Int16Array: 'INT16', Int32Array: 'INT32', BigInt64Array: 'INT64',
  Uint8Array: 'UINT8', Uint8ClampedArray: 'UINT8', Uint16Array: 'UINT16', Uint32Array: 'UINT32', BigUint64Array: 'UINT64',
  Float16Array: 'FP16', Float32Array: 'FP32', Float64Array: 'FP64',
};

const bodyMembers = new Set(['input', 'id', 'lane', 'outputs', 'parameters', 'webhook', 'model_version']);

/**
 * @param {unknown} value
 * @returns {value is TypedArray}
 */
const isTyped = (value) => ArrayBuffer.isView(value) && !(value instanceof DataView);

/**
 * @param {unknown} value
 * @returns {value is Record<string, unknown>}
 */
const isRecord = (value) => typeof value === 'object' && value !== null && !Array.isArray(value) && !ArrayBuffer.isView(value);

/** @param {Record<string, unknown>} value */
function isBody(value) {
  if ('inputs' in value) return Array.isArray(value.inputs) && value.inputs.every(isRecord);
  return 'input' in value && (!isRecord(value.input) || isShaped(value.input)) && Object.keys(value).every((name) => bodyMembers.has(name));
}

/** @param {Record<string, unknown>} value */
const isShaped = ({ data, shape, ...others }) =>
  (Array.isArray(data) || isTyped(data)) && Array.isArray(shape) && Object.keys(others).length === 0;

/**
 * Makes the members of a request that say what the model is given. A whole body is taken as it is.
 * @param {Input | RequestBody} input
 * @returns {Record<string, unknown>}
 */
export function members(input) {
  if (Array.isArray(input) && input.length > 0 && input.every(isRecord)) return { inputs: input.map((t) => tensor(t)) };
  if (!isRecord(input)) return { input };
  if (isShaped(input)) return { input: nested(/** @type {any} */ (input.data), /** @type {number[]} */ (input.shape)) };
  if (!isBody(input)) return { inputs: Object.entries(input).map(([name, value]) => tensor(value, name)) };
  const { input: own, inputs, ...others } = /** @type {RequestBody} */ (input);
  return { ...members(/** @type {Input} */ (inputs ?? own)), ...others };
}

/**
 * Makes an input of the Open Inference Protocol.
 * @param {unknown} value
 * @param {string} [name]
 */
function tensor(value, name) {
  const t = /** @type {Tensor} */ (/** @type {unknown} */ (isRecord(value) ? value : { data: value }));
  // The tag is the same for subclasses, of which Node's Buffer is one.
  const datatype = t.datatype ?? (isTyped(t.data) ? datatypes[t.data[Symbol.toStringTag]] : undefined);
  const called = t.name ?? name;
  if (!called || !datatype || t.data === undefined) {
    throw new TypeError(`input ${called}: expected a typed array, or {datatype, shape, data}`);
  }
  return { ...t, name: called, datatype, shape: t.shape ?? shapeOf(t.data), data: t.data };
}

/**
 * @param {unknown} data
 * @returns {number[]}
 */
function shapeOf(data) {
  if (isTyped(data)) return [data.length];
  return Array.isArray(data) ? [data.length, ...(data.length ? shapeOf(data[0]) : [])] : [];
}

/**
 * Nests flat data by its shape.
 * @param {TypedArray | unknown[]} data
 * @param {number[]} shape
 * @returns {any}
 */
export function nested(data, shape) {
  const size = shape.reduce((product, n) => product * n, 1);
  if (size !== data.length) throw new RangeError(`expected ${size} elements for shape [${shape}], got ${data.length}`);
  if (shape.length === 0) return data[0];
  if (shape.length === 1) return data;
  const [rows = 0, ...below] = shape;
  const step = size / rows;
  return Array.from({ length: rows }, (_, i) => nested(data.slice(i * step, (i + 1) * step), below));
}

/**
 * Encodes as JSON: typed arrays as arrays, and 64-bit integers digit by digit, which JSON.stringify cannot.
 * @param {unknown} value
 * @returns {string}
 */
export function encode(value) {
  if (typeof value === 'number' && !Number.isFinite(value)) throw notFinite();
  if (typeof value === 'bigint') return String(value);
  if (isTyped(value)) {
    if (!(/** @type {any} */ (value).every((/** @type {number | bigint} */ n) => typeof n === 'bigint' || Number.isFinite(n)))) throw notFinite();
    return `[${value.join()}]`;
  }
  if (Array.isArray(value)) return `[${value.map(encode).join()}]`;
  if (!isRecord(value)) return JSON.stringify(value) ?? 'null';
  if (typeof value.toJSON === 'function') return encode(value.toJSON());
  const entries = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${entries.map(([name, member]) => `${JSON.stringify(name)}:${encode(member)}`).join()}}`;
}

const notFinite = () => new RangeError('the input has NaN or infinity, which JSON cannot carry');

/**
 * Makes the header Sheaf-Deadline.
 * @param {Date | number} when a moment, or milliseconds from now
 */
export const deadlineHeader = (when) => String(when instanceof Date ? when.getTime() : Date.now() + Math.round(when));

/** Makes an Idempotency-Key. A page that is not served securely has no crypto.randomUUID. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join('');
}

/**
 * Makes a part of a path.
 * @param {string} name
 */
export function segment(name) {
  if (typeof name !== 'string' || /^\.{0,2}$/.test(name)) throw new TypeError(`expected a name or an id, got ${JSON.stringify(name)}`);
  return encodeURIComponent(name);
}

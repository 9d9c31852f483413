import { TimeoutError } from './errors.js';

const longest = 2 ** 31 - 1; // that setTimeout takes

/** The time that an operation has, and the caller's signal. It has to be ended. */
export class Timer {
  #end;
  /** Whether a server that is away is waited for until then, however many attempts that takes. */
  patient = false;
  #controller = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timeout;
  #caller;
  #forward = () => this.#controller.abort(this.#caller?.reason);

  /**
   * @param {number} ms
   * @param {AbortSignal} [signal] the caller's
   * @param {string} [jobId] what is waited for
   */
  constructor(ms, signal, jobId) {
    if (!(ms > 0)) throw new RangeError(`expected a timeout above 0 ms, got ${ms}`);
    const late = new TimeoutError(`not done within ${ms} ms`, { jobId });
    this.#end = performance.now() + ms;
    this.#caller = signal;
    if (signal?.aborted) this.#forward();
    else signal?.addEventListener('abort', this.#forward, { once: true });
    if (ms <= longest) this.#timeout = setTimeout(() => this.#controller.abort(late), ms);
  }

  /** Aborts when the time is over, and when the caller's signal does. */
  get signal() {
    return this.#controller.signal;
  }

  left() {
    return this.#end - performance.now();
  }

  end() {
    clearTimeout(this.#timeout);
    this.#caller?.removeEventListener('abort', this.#forward);
  }

  /**
   * Waits, but not beyond the timer's end.
   * @param {number} ms
   * @returns {Promise<void>}
   */
  sleep(ms) {
    const { signal } = this;
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const stop = () => {
        clearTimeout(wake);
        reject(signal.reason);
      };
      const wake = setTimeout(() => {
        signal.removeEventListener('abort', stop);
        resolve();
      }, ms);
      signal.addEventListener('abort', stop, { once: true });
    });
  }
}

/** The last answers as text, by key. The one that was used longest ago makes room. */
export class Memory {
  #size;
  /** @type {Map<string, {text: string, at: number}>} */
  #kept = new Map();

  /** @param {number} size how many answers */
  constructor(size) {
    this.#size = size;
  }

  /**
   * @param {string} key
   * @param {string} text
   */
  put(key, text) {
    this.#kept.delete(key);
    this.#kept.set(key, { text, at: Date.now() });
    for (const oldest of this.#kept.keys()) {
      if (this.#kept.size <= this.#size) break;
      this.#kept.delete(oldest);
    }
  }

  /**
   * @param {string} key
   * @param {number} maxAge milliseconds
   */
  get(key, maxAge) {
    const entry = this.#kept.get(key);
    if (!entry) return undefined;
    const age = Date.now() - entry.at;
    if (age > maxAge) return undefined;
    this.#kept.delete(key);
    this.#kept.set(key, entry);
    return { text: entry.text, age };
  }
}

/**
 * Makes a key that is as long for large inputs as for small ones.
 * @param {string} text
 */
export async function digest(text) {
  if (!globalThis.crypto?.subtle) return text; // a page that is not served securely
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text));
  return Array.from(new Uint8Array(hash), (b) => b.toString(16).padStart(2, '0')).join('');
}

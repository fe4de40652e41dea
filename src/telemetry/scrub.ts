const REDACTED = '[redacted]';

/** Shorter values would blank out ordinary words, and guard nothing. */
const MIN_SECRET_LENGTH = 4;

const SECRET_KEY = /authorization|password|passwd|secret|cookie|^token$|[_-]token$/i;
const USERINFO = /\/\/[^/\s"'<>]*@/g;
const HEADER = /(authorization["']?\s*[:=]\s*["']?)(?:[a-z][\w-]*\s+)?[^\s"',;]+/gi;
const BEARER = /\b(bearer\s+)(?!(?:tokens?|authentication|authorization)\b)[\w.~+/=-]{4,}/gi;
const BASIC = /\b(basic\s+)([A-Za-z0-9+/_-]{4,}={0,2})/gi;

/** Takes secrets out of a log line, wherever in it they stand. */
export class Scrubber {
  #known: readonly string[] = [];

  /** From now on this value, and what it looks like in URLs and in base64, appears nowhere. */
  know(secret: string): void {
    const text = secret.trim();
    if (text.length < MIN_SECRET_LENGTH) return;
    const forms = [secret, text, encodeURIComponent(text.toWellFormed()), base64(text), base64url(text)];
    // Longest first: one secret may be a part of another.
    this.#known = [...new Set([...this.#known, ...forms])].toSorted((a, b) => b.length - a.length);
  }

  /** The pair as basic authentication sends it. */
  knowPair(username: string, password: string): void {
    this.know(password);
    this.know(base64(`${username}:${password}`));
  }

  /** `line` is JSON; so is the answer. */
  scrubLine(line: string): string {
    let parsed: unknown;
    try {
      parsed = JSON.parse(line);
    } catch {
      return `${JSON.stringify({ level: 'error', msg: 'A log line was not JSON and is left out.' })}\n`;
    }
    // Value by value and not on the text, where an escaped secret would be missed and a number be broken.
    return `${JSON.stringify(this.#scrub(parsed))}\n`;
  }

  #scrub(value: unknown): unknown {
    if (typeof value === 'string') return this.scrubText(value);
    if (Array.isArray(value)) return value.map(item => this.#scrub(item));
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).map(([key, item]) => [
      this.scrubText(key),
      SECRET_KEY.test(key) && item !== null ? REDACTED : this.#scrub(item),
    ]);
    return Object.fromEntries(entries);
  }

  scrubText(text: string): string {
    let safe = text;
    for (const secret of this.#known) safe = safe.replaceAll(secret, REDACTED);
    return safe
      .replace(USERINFO, `//${REDACTED}@`)
      .replace(HEADER, `$1${REDACTED}`)
      .replace(BEARER, `$1${REDACTED}`)
      .replace(BASIC, (all, scheme: string, pair: string) => (isPair(pair) ? `${scheme}${REDACTED}` : all));
  }
}

/** So that "basic authentication" stays readable. */
function isPair(text: string): boolean {
  return Buffer.from(text, 'base64').includes(':');
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function base64url(text: string): string {
  return Buffer.from(text).toString('base64url');
}

import { type Read, readOf } from '../../proxy/reads.ts';
import { type Target, targetOf } from './target.ts';

/** A load asks the same nine questions each time. */
const MOST = 1_000;
const LONGEST = 1_000;

/** What a request line asks for. */
export interface Asked {
  readonly target: Target;
  readonly query: URLSearchParams;
  /** Of a GET that is a read; null where there is another to be made, with its body. */
  readonly read: Read | null;
}

/** Request lines, understood once. */
export class Requests {
  readonly #known = new Map<string, Asked>();

  /**
   * @param url with its query, as it came
   * @returns null where the path is none of MLflow's
   * @throws SidecarError `invalid_request` for a read that could mean two things
   */
  understand(method: string, url: string): Asked | null {
    const line = `${method} ${url}`;
    const known = this.#known.get(line);
    if (known !== undefined) return known;
    const asked = understood(method, url);
    if (asked === null || line.length > LONGEST) return asked;
    this.#known.set(line, asked);
    const [oldest] = this.#known.keys();
    if (oldest !== undefined && this.#known.size > MOST) this.#known.delete(oldest);
    return asked;
  }
}

function understood(method: string, url: string): Asked | null {
  const mark = url.indexOf('?');
  const target = targetOf(method, mark < 0 ? url : url.slice(0, mark));
  if (target === null) return null;
  const query = new URLSearchParams(mark < 0 ? '' : url.slice(mark));
  const isWhole = target.kind === 'read' && target.found.method === 'GET';
  return { target, query, read: isWhole ? readOf(target.found, query, null) : null };
}

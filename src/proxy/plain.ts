import { type Clock, steady } from '../domain/clock.ts';
import { SidecarError, toSidecarError } from '../domain/errors.ts';
import { withTimeout } from '../policy/abort.ts';
import { SingleFlight } from '../policy/single-flight.ts';
import { singleHeader } from '../upstream/failure.ts';
import type { MlflowClient } from '../upstream/mlflow-client.ts';
import { type Answer, answered } from './answer.ts';
import type { Asker } from './asker.ts';
import type { KeptAnswers } from './kept-answers.ts';

export type PlainPath = 'health' | 'version';

const LONGEST_BYTES = 4_096;

export interface PlainOptions {
  readonly client: MlflowClient;
  readonly trackingUri: string;
  readonly kept: KeptAnswers;
  readonly timeoutMs: number;
  readonly maxStaleMs: number;
  readonly clock: Clock;
  /** Aborts when the process ends. */
  readonly stop: AbortSignal;
}

/** What MLflow says of itself, in plain text. Its health is never an old one. */
export class Plain {
  readonly #options: PlainOptions;
  readonly #asking = new SingleFlight<Answer>();

  constructor(options: PlainOptions) {
    this.#options = options;
  }

  /** @throws SidecarError why MLflow did not answer */
  async answer(path: PlainPath, asker: Asker): Promise<Answer> {
    const { kept, maxStaleMs, clock } = this.#options;
    try {
      // A health that hangs is asked once, however many look at it.
      const answer = await this.#asking.join(`${asker.scope.id} ${path}`, () => this.#ask(path, asker));
      if (path === 'version' && answer.status === 200)
        kept.keep(asker.scope, { key: path, route: 'server-info' }, answer, steady(clock));
      return answer;
    } catch (error) {
      const old = path === 'version' ? await kept.last(asker.scope, path, maxStaleMs) : null;
      if (old === null) throw error;
      return { ...old, stale: toSidecarError(error).code };
    }
  }

  async #ask(path: PlainPath, { caller: { authorization, workspace } }: Asker): Promise<Answer> {
    const { client, trackingUri, timeoutMs, stop } = this.#options;
    const what = `MLflow's /${path} at ${trackingUri}`;
    const tooSlow = () =>
      new SidecarError('mlflow_timeout', `${what} did not answer within ${timeoutMs / 1_000} s.`);
    return await withTimeout(timeoutMs, stop, tooSlow, async signal => {
      const call = { signal, authorization, workspace, origin: null };
      const response = await client.send(
        what,
        { url: new URL(`${trackingUri}/${path}`), method: 'GET' },
        call,
      );
      if (response.statusCode >= 500 || response.statusCode === 408 || response.statusCode === 429) {
        response.body.close();
        throw new SidecarError('mlflow_error', `${what}: HTTP ${response.statusCode}.`);
      }
      const chunks: Buffer[] = [];
      let size = 0;
      for await (const chunk of response.body) {
        chunks.push(Buffer.from(chunk));
        size += chunk.byteLength;
        if (size > LONGEST_BYTES)
          throw new SidecarError('mlflow_error', `${what}: the answer is no short text.`);
      }
      const type = singleHeader(response.headers['content-type']) ?? 'text/plain; charset=utf-8';
      return answered(response.redact(Buffer.concat(chunks).toString('utf8')), response.statusCode, type);
    });
  }
}

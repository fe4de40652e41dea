import { SidecarError } from '../domain/errors.ts';
import type { Origin } from '../domain/events.ts';
import type { Patience } from '../policy/patience.ts';
import type { Credentials } from './credentials.ts';
import { connectionError } from './failure.ts';
import type { ResponseHead } from './receive.ts';
import { redactor } from './redact.ts';
import type { Transport, UpstreamRequest, UpstreamResponse } from './transport.ts';

/** For whom and how long an exchange is made. */
export interface Call {
  readonly signal: AbortSignal;
  /** The caller's own credential; null for the sidecar's. */
  readonly authorization: string | null;
  /** Another workspace than the configured one. */
  readonly workspace?: string | undefined;
  /** For whoever reads of its failures. */
  readonly origin: Origin | null;
  /** Names the requests that are made together, as those of one download are. */
  readonly together?: string | undefined;
  /** How long an outage is waited for; none where that is not wanted. */
  readonly patience?: Patience | undefined;
  /** Told of each try that fails. */
  readonly onTryFailed?: (error: SidecarError) => void;
}

/** Takes a small answer, and says what it means where that breaks off after its head. */
export interface AnswerReceiver {
  head(head: ResponseHead): void;
  data(chunk: Uint8Array): void;
  broken(error: unknown): SidecarError;
}

/** What is asked; the client adds the headers that say who asks. */
type Question = Omit<UpstreamRequest, 'signal' | 'headers'> & Partial<Pick<UpstreamRequest, 'headers'>>;

/** With what takes the credential that it was asked with out of a text. */
export type MlflowResponse = UpstreamResponse & { readonly redact: (text: string) => string };

export interface MlflowClientOptions {
  readonly transport: Transport;
  readonly credentials: Credentials;
  readonly workspace: string | null;
  /** Only they get a credential: an artifact address comes from outside and may be anybody's. */
  readonly trustedOrigins: ReadonlySet<string>;
}

/** The sidecar's own credential was refused. */
class Unauthorized extends Error {
  readonly head: ResponseHead;

  constructor(head: ResponseHead) {
    super('unauthorized');
    this.head = head;
  }
}

/** One try of one exchange with MLflow, with its headers; retries are above it. */
export class MlflowClient {
  readonly #options: MlflowClientOptions;

  constructor(options: MlflowClientOptions) {
    this.#options = options;
  }

  /**
   * Sends once, and once more if the sidecar's own credential was refused and its file holds another by now.
   * @throws SidecarError `mlflow_unreachable` or `mlflow_timeout`; any HTTP status is an answer
   */
  async send(what: string, request: Question, call: Call): Promise<MlflowResponse> {
    const response = await this.#sendOnce(what, request, call);
    if (response.statusCode !== 401 || call.authorization !== null) return response;
    if (!(await this.#options.credentials.renew())) return response;
    response.body.close();
    return await this.#sendOnce(what, request, call);
  }

  /**
   * The same for a small answer, which goes straight to the receiver; that throws for every status that it does not take.
   * @throws SidecarError the receiver's, or `mlflow_unreachable` or `mlflow_timeout` before the answer's head
   */
  async receive(what: string, request: Question, call: Call, receiver: AnswerReceiver): Promise<void> {
    const head = (found: ResponseHead) => {
      if (found.statusCode === 401 && call.authorization === null) throw new Unauthorized(found);
      receiver.head(found);
    };
    try {
      await this.#receiveOnce(what, request, call, { ...receiver, head });
    } catch (error) {
      if (!(error instanceof Unauthorized)) throw error;
      if (!(await this.#options.credentials.renew())) receiver.head(error.head);
      await this.#receiveOnce(what, request, call, receiver);
    }
  }

  async #receiveOnce(what: string, request: Question, call: Call, receiver: AnswerReceiver): Promise<void> {
    const headers = await this.#headers(request, call);
    let isAnswered = false;
    const head = (found: ResponseHead) => {
      isAnswered = true;
      receiver.head(found);
    };
    try {
      const asked = { ...request, headers, signal: call.signal };
      await this.#options.transport.receive(asked, { head, data: chunk => receiver.data(chunk) });
    } catch (error) {
      call.signal.throwIfAborted();
      if (error instanceof SidecarError || error instanceof Unauthorized) throw error;
      throw isAnswered ? receiver.broken(error) : connectionError(what, error);
    }
  }

  async #sendOnce(what: string, request: Question, call: Call): Promise<MlflowResponse> {
    const headers = await this.#headers(request, call);
    try {
      const response = await this.#options.transport.request({ ...request, headers, signal: call.signal });
      return Object.assign(response, { redact: redactor(headers['authorization'] ?? null) });
    } catch (error) {
      call.signal.throwIfAborted();
      throw connectionError(what, error);
    }
  }

  async #headers(
    request: Pick<Question, 'url' | 'body' | 'headers'>,
    call: Call,
  ): Promise<Record<string, string>> {
    const trusted = this.#options.trustedOrigins.has(request.url.origin);
    const workspace = trusted ? (call.workspace ?? this.#options.workspace) : null;
    const authorization = trusted ? (call.authorization ?? (await this.#ownHeader())) : null;
    return {
      ...request.headers,
      'user-agent': 'mlflow-sidecar',
      ...(authorization === null ? {} : { authorization }),
      ...(workspace === null ? {} : { 'x-mlflow-workspace': workspace }),
      ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
    };
  }

  async #ownHeader(): Promise<string | null> {
    try {
      return await this.#options.credentials.header();
    } catch (error) {
      throw new SidecarError('access_denied', `The credential's file cannot be read: ${String(error)}`, {
        cause: error,
      });
    }
  }
}

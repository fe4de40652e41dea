import { type Dispatcher, errors } from 'undici';
import type { Flow } from './response-body.ts';
import { Upload } from './upload.ts';

/** Before a final answer: servers send one or two. A storm of them costs the processor, and brings nothing. */
const MOST_INTERIM = 32;

/** The head of an answer. */
export type ResponseHead = Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>;

/** How long one exchange may take. */
export interface ExchangeLimits {
  readonly signal: AbortSignal;
  /**
   * Milliseconds until its final head, from when an `Upload` has been sent. undici's own limit starts again with each 1xx, and is
   * not there behind a proxy.
   */
  readonly firstByteMs: number;
  /** Called when there is a connection, before the first byte goes out on it. */
  readonly onSending?: () => void;
}

class InterimStorm extends Error {
  constructor() {
    super(`more than ${MOST_INTERIM} interim answers (HTTP 1xx) came before the answer`);
    this.name = 'InterimStorm';
  }
}

/** Takes an answer as it comes. What it throws ends the exchange, which then fails with that. */
export interface Receiver {
  head(head: ResponseHead, flow: Flow): void;
  data(chunk: Uint8Array): void;
}

/**
 * One exchange whose answer goes straight to the receiver, as it comes. With its end an `Upload` is destroyed, whole or not.
 * @throws what undici, the receiver, the upload, the signal or the first byte's limit ends it with
 */
export async function receive(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  receiver: Receiver,
  { signal, firstByteMs, onSending }: ExchangeLimits,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const upload = options.body instanceof Upload ? options.body : null;
  let controller: Dispatcher.DispatchController | null = null;
  let ending: Error | null = null;
  let timer: NodeJS.Timeout | undefined;
  let isAnswered = false;
  let interim = 0;
  const end = (reason: unknown) => {
    ending ??= reason instanceof Error ? reason : new Error(String(reason));
    // Not only through undici: as long as there is no connection it does not look.
    reject(reason);
    controller?.abort(ending);
  };
  const step = (work: () => void) => {
    if (ending !== null) return;
    try {
      work();
    } catch (error) {
      end(error);
    }
  };
  const awaitFirstByte = () => {
    timer = setTimeout(() => end(new errors.HeadersTimeoutError()), firstByteMs);
  };
  const wake = () => end(signal.reason);
  try {
    signal.throwIfAborted();
    signal.addEventListener('abort', wake, { once: true });
    if (upload === null) awaitFirstByte();
    else upload.once('error', end);
    dispatcher.dispatch(options, {
      onRequestStart: started => {
        controller = started;
        if (ending !== null) started.abort(ending);
        else onSending?.();
      },
      onRequestSent: () => {
        if (upload !== null && !isAnswered) awaitFirstByte();
        upload?.destroy();
      },
      onResponseStart: (flow, statusCode, headers) => {
        if (statusCode < 200) {
          interim += 1;
          if (interim > MOST_INTERIM) end(new InterimStorm());
          return;
        }
        isAnswered = true;
        clearTimeout(timer);
        step(() => receiver.head({ statusCode, headers }, flow));
      },
      onResponseData: (_, chunk) => step(() => receiver.data(chunk)),
      onResponseEnd: () => resolve(),
      onResponseError: (_, error) => {
        ending ??= error;
        reject(error);
      },
    });
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', wake);
    upload?.destroy();
  }
}

import { type Dispatcher, errors } from 'undici';
import type { Flow } from './response-body.ts';

/** The head of an answer. */
export type ResponseHead = Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>;

/** How long one exchange may take. */
export interface ExchangeLimits {
  readonly signal: AbortSignal;
  /** Milliseconds until its final head. undici's own limit starts again with each 1xx, and is not there behind a proxy. */
  readonly firstByteMs: number;
}

/** Takes an answer as it comes. What it throws ends the exchange, which then fails with that. */
export interface Receiver {
  head(head: ResponseHead, flow: Flow): void;
  data(chunk: Uint8Array): void;
}

/**
 * One exchange whose answer goes straight to the receiver, as it comes.
 * @throws what undici, the receiver, the signal or the first byte's limit ends it with
 */
export async function receive(
  dispatcher: Dispatcher,
  options: Dispatcher.DispatchOptions,
  receiver: Receiver,
  { signal, firstByteMs }: ExchangeLimits,
): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let controller: Dispatcher.DispatchController | null = null;
  let ending: Error | null = null;
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
  const wake = () => end(signal.reason);
  signal.addEventListener('abort', wake, { once: true });
  const timer = setTimeout(() => end(new errors.HeadersTimeoutError()), firstByteMs);
  try {
    dispatcher.dispatch(options, {
      onRequestStart: started => {
        controller = started;
        if (ending !== null) started.abort(ending);
      },
      onResponseStart: (flow, statusCode, headers) => {
        if (statusCode < 200) return;
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
  }
}

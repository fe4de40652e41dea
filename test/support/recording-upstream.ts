import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { text as readText } from 'node:stream/consumers';
import { z } from 'zod';

/** A request as it arrived. */
export interface Arrived {
  /** Method and target. */
  readonly line: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface RecordingUpstream {
  readonly url: string;
  readonly requests: readonly Arrived[];
  /** Bytes that were no requests. */
  readonly broken: readonly string[];
  readonly close: () => Promise<void>;
}

/** Shaped as MLflow's answer to each read, and with nothing in it. */
const ANY_ANSWER = JSON.stringify({
  ...{
    registered_model: {},
    model_version: {},
    model: { info: {} },
    run: { info: {} },
    artifact_uri: 's3://a/b',
  },
  ...{ registered_models: [], model_versions: [], models: [], runs: [], experiments: [], files: [] },
});

/** A server that does whatever it is asked, and remembers it: 200 with an empty answer, also for what MLflow would not know. */
export async function recordingUpstream(): Promise<RecordingUpstream> {
  const requests: Arrived[] = [];
  const broken: string[] = [];
  const record = async (req: IncomingMessage, res: ServerResponse) => {
    const body = await readText(req).catch(error => `broken: ${error}`);
    requests.push({ line: `${req.method} ${req.url}`, headers: req.headers, body });
    const head = { 'content-type': 'application/json', 'content-length': ANY_ANSWER.length };
    res.writeHead(200, head).end(ANY_ANSWER);
  };
  const server = createServer((req, res) => void record(req, res));
  server.on('clientError', (error, socket) => {
    broken.push(String(error));
    socket.destroy();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = z.object({ port: z.number() }).parse(server.address());
  const close = async () => {
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  };
  return { url: `http://127.0.0.1:${port}`, requests, broken, close };
}

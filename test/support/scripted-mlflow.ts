import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { text as readText } from 'node:stream/consumers';
import { z } from 'zod';
import { type Answer, invalid, text } from './scripted/answers.ts';
import { fileAnswer, listingAnswer } from './scripted/artifacts.ts';
import type { Certificates } from './scripted/certificates.ts';
import { type AnswerFault, type Fault, send } from './scripted/faults.ts';
import { isOfPort, Listener, type PortFault } from './scripted/listener.ts';
import { ScriptedModels, type ScriptedVersion, type VersionSpec } from './scripted/models.ts';
import { type Params, registryAnswer } from './scripted/registry.ts';

export type { Fault } from './scripted/faults.ts';
export type { Files, ListedEntry, ScriptedVersion, VersionSpec } from './scripted/models.ts';

/** `registry`: all but artifacts, `/health` included; `listing`: of artifact directories; `file`: the bytes. */
export type RouteClass = 'registry' | 'listing' | 'file';

export interface RecordedRequest {
  readonly at: number;
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly routeClass: RouteClass;
  /** MLflow's route without its prefix (`model-versions/get`), `listing` or `file`. */
  readonly route: string;
  /** The artifact path, for listings and files; else empty. */
  readonly path: string;
  /** Of the answer's body, as far as no fault cuts it short. */
  readonly bytes: number;
}

export interface FaultScope {
  /** Only for the first so many requests that it applies to. */
  readonly first?: number;
  /** Only for these requests. */
  readonly when?: (request: RecordedRequest) => boolean;
}

interface Script {
  readonly routeClass: RouteClass;
  readonly fault: AnswerFault;
  readonly when: (request: RecordedRequest) => boolean;
  left: number;
}

interface Routed {
  readonly request: RecordedRequest;
  readonly answer: Answer;
}

const ARTIFACTS = '/api/2.0/mlflow-artifacts/artifacts';

/**
 * A real HTTP server that speaks MLflow's REST over models that a test defines, counts what it is asked, and fails on command.
 * It listens on two ports: `url` is the registry, `artifactsUrl` the tracking server with the artifacts, so that one can be refused
 * while the other answers. Both answer every route.
 */
export class ScriptedMlflow {
  readonly models = new ScriptedModels();
  readonly requests: RecordedRequest[] = [];
  readonly #registry: Listener;
  readonly #artifacts: Listener;
  #scripts: Script[] = [];
  /** What the artifacts' port turns to before it answers the last listing of a model. */
  #beforeFiles: PortFault | null = null;

  private constructor(certificates: Certificates | null) {
    const listener = () =>
      new Listener((req, res) => void this.#handle(req, res), certificates?.good ?? null);
    this.#registry = listener();
    this.#artifacts = listener();
  }

  /** @param certificates to speak TLS */
  static async start(certificates: Certificates | null = null): Promise<ScriptedMlflow> {
    const upstream = new ScriptedMlflow(certificates);
    await Promise.all([upstream.#registry.open(), upstream.#artifacts.open()]);
    return upstream;
  }

  get url(): string {
    return this.#registry.url;
  }

  get artifactsUrl(): string {
    return this.#artifacts.url;
  }

  /** The environment of a sidecar that asks both ports. */
  get env(): Readonly<Record<string, string>> {
    return { MLFLOW_TRACKING_URI: this.artifactsUrl, MLFLOW_REGISTRY_URI: this.url };
  }

  get connections(): number {
    return this.#registry.connections + this.#artifacts.connections;
  }

  addVersion(spec: VersionSpec): ScriptedVersion {
    return this.models.add(spec);
  }

  /**
   * The last fault that applies wins. What a whole port does takes no scope; for files, which listings share the port
   * with, it begins with the next listing of a directory that has no directories.
   */
  async setFault(routeClass: RouteClass, fault: Fault, scope: FaultScope = {}): Promise<void> {
    if (isOfPort(fault)) {
      if (routeClass === 'file') this.#beforeFiles = fault;
      else await (routeClass === 'registry' ? this.#registry : this.#artifacts).turn(fault);
      return;
    }
    this.#scripts.unshift({
      routeClass,
      fault,
      when: scope.when ?? (() => true),
      left: scope.first ?? Number.POSITIVE_INFINITY,
    });
  }

  async clearFaults(): Promise<void> {
    this.#scripts = [];
    this.#beforeFiles = null;
    await Promise.all([this.#registry.open(), this.#artifacts.open()]);
  }

  /** Ends every connection, answered or not. */
  hangUp(): void {
    this.#registry.hangUp();
    this.#artifacts.hangUp();
  }

  /** How often each route, or each file by its artifact path, was asked. */
  counts(of: 'route' | 'file'): ReadonlyMap<string, number> {
    const counts = new Map<string, number>();
    for (const request of this.requests) {
      if (of === 'file' && request.route !== 'file') continue;
      const key = of === 'file' ? request.path : request.route;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts;
  }

  async close(): Promise<void> {
    await Promise.all([this.#registry.shut(), this.#artifacts.shut()]);
  }

  async #handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    try {
      const { request, answer } = this.#route(req, await readText(req));
      this.requests.push(request);
      if (request.route === 'listing' && isOfLeaf(answer)) await this.#turnArtifacts(req, res);
      await send(req, res, answer, this.#faultFor(request));
    } catch {
      req.socket.destroy();
    }
  }

  async #turnArtifacts(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const fault = this.#beforeFiles;
    if (fault === null) return;
    this.#beforeFiles = null;
    res.shouldKeepAlive = false;
    await this.#artifacts.turn(fault, req.socket.remotePort ?? null);
  }

  #faultFor(request: RecordedRequest): AnswerFault | undefined {
    const script = this.#scripts.find(
      candidate =>
        candidate.routeClass === request.routeClass && candidate.left > 0 && candidate.when(request),
    );
    if (script === undefined) return undefined;
    script.left -= 1;
    return script.fault;
  }

  #route(req: IncomingMessage, body: string): Routed {
    const url = new URL(req.url ?? '/', 'http://scripted');
    const recorded = (
      routeClass: RouteClass,
      route: string,
      path: string,
      answer: Answer,
    ): RecordedRequest => ({
      at: performance.now(),
      method: req.method ?? '',
      url: req.url ?? '',
      headers: req.headers,
      routeClass,
      route,
      path,
      bytes: answer.body.length,
    });
    if (url.pathname === ARTIFACTS) {
      const path = url.searchParams.get('path') ?? '';
      const answer = path.split('/').includes('..')
        ? invalid('Invalid path')
        : listingAnswer(this.models, path);
      return { request: recorded('listing', 'listing', path, answer), answer };
    }
    if (url.pathname.startsWith(`${ARTIFACTS}/`)) {
      const path = decodeURIComponent(url.pathname.slice(ARTIFACTS.length + 1));
      const answer = fileAnswer(this.models, path, req.headers.range ?? '', header(req, 'if-range'));
      return { request: recorded('file', 'file', path, answer), answer };
    }
    const found = registryAnswer(this.models, url.pathname, paramsOf(url, body));
    const answer =
      found?.answer ?? text('<!doctype html><title>404 Not Found</title>', 'text/html; charset=utf-8', 404);
    return { request: recorded('registry', found?.route ?? url.pathname, '', answer), answer };
  }
}

/** A listing that names no directory. */
function isOfLeaf(answer: Answer): boolean {
  return !/"is_dir": ?true/.test(answer.body.toString('latin1', 0, 65_536));
}

function header(req: IncomingMessage, name: string): string {
  const value = req.headers[name];
  return typeof value === 'string' ? value : '';
}

const Given = z.record(
  z.string(),
  z.union([z.string(), z.number(), z.array(z.string()), z.null()]).catch(''),
);

function paramsOf(url: URL, body: string): Params {
  const given = body === '' ? {} : Given.parse(JSON.parse(body));
  const one = (name: string): string => String(given[name] ?? url.searchParams.get(name) ?? '');
  const many = (name: string): readonly string[] => {
    const value = given[name];
    return Array.isArray(value) ? value : url.searchParams.getAll(name);
  };
  return { one, many };
}

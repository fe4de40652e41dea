import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { text as readText } from 'node:stream/consumers';
import { z } from 'zod';
import { type Answer, invalid, text } from './scripted/answers.ts';
import { fileAnswer, listingAnswer } from './scripted/artifacts.ts';
import { type Fault, send } from './scripted/faults.ts';
import { Listener } from './scripted/listener.ts';
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
}

export interface FaultScope {
  /** Only for the first so many requests that it applies to. */
  readonly first?: number;
  /** Only for these requests. */
  readonly when?: (request: RecordedRequest) => boolean;
}

interface Script {
  readonly routeClass: RouteClass;
  readonly fault: Fault;
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
  readonly #registry = new Listener((req, res) => void this.#handle(req, res));
  readonly #artifacts = new Listener((req, res) => void this.#handle(req, res));
  #scripts: Script[] = [];

  static async start(): Promise<ScriptedMlflow> {
    const upstream = new ScriptedMlflow();
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

  /** The last fault that applies wins. `refused` shuts the port of that class and takes no scope. */
  async setFault(routeClass: RouteClass, fault: Fault, scope: FaultScope = {}): Promise<void> {
    this.#scripts.unshift({
      routeClass,
      fault,
      when: scope.when ?? (() => true),
      left: scope.first ?? Number.POSITIVE_INFINITY,
    });
    if (fault.kind === 'refused') await this.#listenerOf(routeClass).shut();
  }

  async clearFaults(): Promise<void> {
    this.#scripts = [];
    await Promise.all([this.#registry.open(), this.#artifacts.open()]);
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

  #listenerOf(routeClass: RouteClass): Listener {
    return routeClass === 'registry' ? this.#registry : this.#artifacts;
  }

  async #handle(req: IncomingMessage, res: ServerResponse): Promise<void> {
    try {
      const { request, answer } = this.#route(req, await readText(req));
      this.requests.push(request);
      send(req, res, answer, this.#faultFor(request));
    } catch {
      req.socket.destroy();
    }
  }

  #faultFor(request: RecordedRequest): Fault | undefined {
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
    const recorded = (routeClass: RouteClass, route: string, path: string): RecordedRequest => ({
      at: performance.now(),
      method: req.method ?? '',
      url: req.url ?? '',
      headers: req.headers,
      routeClass,
      route,
      path,
    });
    if (url.pathname === ARTIFACTS) {
      const path = url.searchParams.get('path') ?? '';
      const answer = path.split('/').includes('..')
        ? invalid('Invalid path')
        : listingAnswer(this.models, path);
      return { request: recorded('listing', 'listing', path), answer };
    }
    if (url.pathname.startsWith(`${ARTIFACTS}/`)) {
      const path = decodeURIComponent(url.pathname.slice(ARTIFACTS.length + 1));
      const answer = fileAnswer(this.models, path, req.headers.range ?? '', header(req, 'if-range'));
      return { request: recorded('file', 'file', path), answer };
    }
    const found = registryAnswer(this.models, url.pathname, paramsOf(url, body));
    const answer =
      found?.answer ?? text('<!doctype html><title>404 Not Found</title>', 'text/html; charset=utf-8', 404);
    return { request: recorded('registry', found?.route ?? url.pathname, ''), answer };
  }
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

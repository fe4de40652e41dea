import { onTestFinished } from 'vitest';
import { EventBus, type SidecarEvent } from '../../src/domain/events.ts';
import type { Breaker } from '../../src/policy/breaker.ts';
import { RegistryClient } from '../../src/registry/client.ts';
import { Registry } from '../../src/registry/registry.ts';
import { Runs } from '../../src/registry/runs.ts';
import { ScriptedMlflow } from '../support/scripted-mlflow.ts';
import { type Answer, type Asked, clientFor, serve, type Upstream } from '../upstream/support.ts';

export interface Asking {
  readonly registry: Registry;
  readonly client: RegistryClient;
  readonly events: readonly SidecarEvent[];
}

export interface Tries {
  readonly attempts?: number;
  readonly tryTimeoutMs?: number;
  readonly breakerOf?: () => Breaker;
}

/** Asks one server for everything; tries once unless told otherwise, so that no test waits for a backoff. */
export async function asking(
  url: string,
  { attempts = 1, tryTimeoutMs = 5_000, ...more }: Tries = {},
): Promise<Asking> {
  const events: SidecarEvent[] = [];
  const bus = new EventBus();
  bus.subscribe(event => events.push(event));
  const options = {
    client: await clientFor({ trusted: [new URL(url).origin] }),
    attempts,
    tryTimeoutMs,
    events: bus,
    ...more,
  };
  const client = new RegistryClient({ ...options, baseUri: url });
  return { registry: new Registry(client, new Runs(client)), client, events };
}

/** Closed at the test's end. */
export async function scripted(): Promise<ScriptedMlflow> {
  const upstream = await ScriptedMlflow.start();
  onTestFinished(() => upstream.close());
  return upstream;
}

type Routes = Readonly<Record<string, (asked: Asked) => Answer>>;

/** A server that answers by MLflow's route, such as `model-versions/get`, and 404 with a page to all else. */
export async function mlflowWith(routes: Routes): Promise<Upstream> {
  return await serve(asked => {
    const route = new URL(asked.url, 'http://mlflow').pathname.replace('/api/2.0/mlflow/', '');
    const answer = routes[route];
    return answer === undefined
      ? { status: 404, body: '<!doctype html><title>404 Not Found</title>' }
      : answer(asked);
  });
}

export function queryOf(asked: Asked): Record<string, string> {
  return Object.fromEntries(new URL(asked.url, 'http://mlflow').searchParams);
}

/** A registered version as MLflow answers it. */
export function registered(change: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return {
    name: 'churn',
    version: '3',
    creation_timestamp: 1_731_358_595_123,
    current_stage: 'Production',
    source: 'models:/m-0123',
    run_id: 'run-3',
    status: 'READY',
    aliases: ['champion'],
    ...change,
  };
}

/** A logged model as MLflow answers it. */
export function logged(change: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const info = {
    model_id: 'm-0123',
    name: 'model',
    source_run_id: 'run-3',
    creation_timestamp_ms: 1_731_358_595_123,
    artifact_uri: 'mlflow-artifacts:/0/models/m-0123/artifacts',
    status: 'LOGGED_MODEL_READY',
    ...change,
  };
  return { info, data: {} };
}

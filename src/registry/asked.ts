import { SidecarError } from '../domain/errors.ts';
import type { ModelVersion } from '../domain/version.ts';
import type { RegisteredVersion } from './answers.ts';

const HINT =
  "Something between here and MLflow mixes answers up, such as a cache that ignores a request's query or body. Let it pass MLflow's API through.";

/**
 * Whether an answer is the one to the question: something between here and MLflow may give another's.
 * @param what that was asked for, in words
 * @throws SidecarError `mlflow_error`, which names both
 */
export function assertAsked(what: string, asked: string, found: string | null): void {
  if (found === null || isSameName(asked, found)) return;
  throw new SidecarError(
    'mlflow_error',
    `MLflow was asked for ${what} ${shown(asked)}, and the answer is of ${shown(found)}.`,
    { hint: HINT, serverFault: false },
  );
}

/** One of the versions of a model; also by its number where that was asked for. */
export function assertAskedVersion(
  asked: { readonly name: string; readonly version?: string; readonly alias?: string },
  found: Pick<RegisteredVersion, 'name' | 'version' | 'aliases'>,
): void {
  assertAsked('the model', asked.name, found.name);
  if (asked.version !== undefined)
    assertAsked(`a version of ${asked.name}, number`, withoutZeros(asked.version), found.version);
  const { alias } = asked;
  const aliases = found.aliases ?? [];
  // Servers before MLflow 2.10 do not say under which aliases they know a version.
  if (alias !== undefined && !aliases.some(one => isSameName(alias, one)))
    assertAsked(`${asked.name} by the alias`, alias, aliases[0] ?? null);
}

/** The address of a version's artifacts names no version, but what the version was logged as. */
export function assertAddressOf({ name, version, source, modelId }: ModelVersion, address: string): void {
  const what = `the artifacts of version ${version} of ${name}, logged as`;
  if (!address.startsWith('mlflow-artifacts:')) return;
  if (modelId !== null && !address.split('/').includes(modelId)) assertAsked(what, modelId, address);
  if (source.startsWith('mlflow-artifacts:')) assertAsked(what, withoutSlash(source), withoutSlash(address));
}

/** Of versions that are all in another stage; one beside others that are not is only not meant. */
export function assertAskedStage(stage: string, stages: readonly (string | null)[]): void {
  const [first] = stages;
  if (first === undefined || stages.some(one => one !== null && isSameName(stage, one))) return;
  assertAsked('versions in the stage', stage, first);
}

/** A database may compare without case, and a client may write a name in another normal form. */
function isSameName(one: string, other: string): boolean {
  return one === other || folded(one) === folded(other);
}

function folded(name: string): string {
  return name.normalize('NFKC').trimEnd().toLowerCase();
}

function withoutZeros(version: string): string {
  return version.replace(/^0+(?=\d)/, '');
}

function withoutSlash(uri: string): string {
  return uri.replace(/\/+$/, '');
}

function shown(text: string): string {
  return JSON.stringify(text.slice(0, 300));
}

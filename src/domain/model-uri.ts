import { SidecarError } from './errors.ts';

/** A model URI as MLflow writes it, parsed. Stages are in MLflow's own capitals where it is one of its four. */
export type ModelUri =
  | { readonly kind: 'stage'; readonly name: string; readonly stage: string }
  | { readonly kind: 'alias'; readonly name: string; readonly alias: string }
  | { readonly kind: 'version'; readonly name: string; readonly version: string }
  | { readonly kind: 'latest'; readonly name: string }
  | { readonly kind: 'logged_model'; readonly modelId: string }
  | { readonly kind: 'run'; readonly runId: string; readonly path: string };

const STAGES = ['None', 'Staging', 'Production', 'Archived'];
const MODEL_ID = /^m-[\w-]{1,250}$/;
const RUN_ID = /^[\w-]{1,250}$/;
/** MLflow's databases hold a version in 32 bits; a greater number makes the server answer 500. */
const MAX_VERSION = 2_147_483_647;
/** MLflow sets no limit itself; its databases hold 256 to unlimited characters. */
const MAX_NAME_LENGTH = 500;
/** Room for 260 characters of any script; an outcome names it three times and stays under 4 KB. */
const MAX_URI_BYTES = 800;
const CONTROL = /\p{Cc}/u;

const EXAMPLES =
  'models:/name/Production, models:/name@alias, models:/name/3, models:/name/latest, models:/m-<id> or runs:/<run_id>/<path>';

/**
 * Parses a model URI.
 * @throws SidecarError `invalid_request`, naming the text and what is wrong with it
 */
export function parseModelUri(text: string): ModelUri {
  if (Buffer.byteLength(text) > MAX_URI_BYTES)
    throw bad(text.slice(0, 80), `is longer than ${MAX_URI_BYTES} bytes`);
  if (CONTROL.test(text) || !text.isWellFormed())
    throw bad(text, 'holds a control character or half a character');
  if (text.startsWith('runs:/')) return parseRun(text);
  if (text.startsWith('models:/')) return parseModels(text);
  throw bad(text, 'is not a model URI');
}

/** The same; null where the text is no model URI. */
export function modelUriIn(text: string): ModelUri | null {
  try {
    return parseModelUri(text);
  } catch {
    return null;
  }
}

function parseRun(text: string): ModelUri {
  const [runId = '', ...segments] = text.slice('runs:/'.length).split('/');
  if (!RUN_ID.test(runId)) throw bad(text, 'has no run id');
  const path = segments.filter(segment => segment !== '');
  if (path.length === 0) throw bad(text, 'names no artifact path');
  if (path.some(segment => segment === '.' || segment === '..'))
    throw bad(text, 'holds a relative path segment');
  return { kind: 'run', runId, path: path.join('/') };
}

function parseModels(text: string): ModelUri {
  const [name = '', ref, ...rest] = text.slice('models:/'.length).split('/');
  if (rest.length > 0) throw bad(text, 'has too many parts');
  if (ref !== undefined) return namedRef(text, checkedName(text, name), ref);
  const at = name.lastIndexOf('@');
  if (at >= 0) return aliasRef(text, checkedName(text, name.slice(0, at)), name.slice(at + 1));
  if (MODEL_ID.test(name)) return { kind: 'logged_model', modelId: name };
  throw bad(text, 'names no stage, alias or version');
}

function namedRef(text: string, name: string, ref: string): ModelUri {
  if (ref.trim() === '') throw bad(text, 'names no stage, alias or version');
  if (/^\d+$/.test(ref)) return { kind: 'version', name, version: checkedVersion(text, ref) };
  if (ref.toLowerCase() === 'latest') return { kind: 'latest', name };
  return { kind: 'stage', name, stage: canonicalStage(ref) };
}

function aliasRef(text: string, name: string, alias: string): ModelUri {
  if (alias.trim() === '') throw bad(text, 'names no alias');
  return { kind: 'alias', name, alias };
}

function canonicalStage(stage: string): string {
  return STAGES.find(known => known.toLowerCase() === stage.toLowerCase()) ?? stage;
}

function checkedVersion(text: string, digits: string): string {
  const version = Number(digits);
  if (version < 1 || version > MAX_VERSION) throw bad(text, `has a version outside 1 to ${MAX_VERSION}`);
  return String(version);
}

function checkedName(text: string, name: string): string {
  const fault = nameFault(name);
  if (fault !== null) throw bad(text, fault);
  return name;
}

/** What is wrong with a registered model's name, or null. MLflow's own rules, and nothing that could leave a directory. */
export function nameFault(name: string): string | null {
  if (name.trim() === '') return 'has an empty name';
  if (name.length > MAX_NAME_LENGTH) return `has a name longer than ${MAX_NAME_LENGTH} characters`;
  if (/[/:]/.test(name) || CONTROL.test(name)) return 'has a name with "/", ":" or a control character';
  if (name === '.' || name === '..') return 'has a name that is a relative path';
  return null;
}

function bad(text: string, what: string): SidecarError {
  return new SidecarError('invalid_request', `${JSON.stringify(text)} ${what}.`, {
    hint: `Write ${EXAMPLES}.`,
  });
}

/** The one canonical text of a URI; equal URIs have equal texts. */
export function formatModelUri(uri: ModelUri): string {
  switch (uri.kind) {
    case 'stage':
      return `models:/${uri.name}/${uri.stage}`;
    case 'alias':
      return `models:/${uri.name}@${uri.alias}`;
    case 'version':
      return `models:/${uri.name}/${uri.version}`;
    case 'latest':
      return `models:/${uri.name}/latest`;
    case 'logged_model':
      return `models:/${uri.modelId}`;
    case 'run':
      return `runs:/${uri.runId}/${uri.path}`;
  }
}

/** Where a URI stands on disk, before its two parts are encoded as file names. */
export interface RefKey {
  readonly name: string;
  readonly ref: string;
}

/**
 * The model and the ref of a URI; different URIs have different ones. A registered model's name holds no `:`, so a run's
 * cannot collide with it; a stage that is none of MLflow's may be called like an alias, and is kept apart.
 */
export function refKey(uri: ModelUri): RefKey {
  switch (uri.kind) {
    case 'stage':
      return { name: uri.name, ref: STAGES.includes(uri.stage) ? uri.stage : `stage:${uri.stage}` };
    case 'alias':
      return { name: uri.name, ref: `@${uri.alias}` };
    case 'version':
      return { name: uri.name, ref: uri.version };
    case 'latest':
      return { name: uri.name, ref: 'latest' };
    case 'logged_model':
      return { name: uri.modelId, ref: 'logged' };
    case 'run':
      return { name: `runs:${uri.runId}`, ref: uri.path };
  }
}

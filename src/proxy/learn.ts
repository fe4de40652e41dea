import { type ModelUri, modelUriIn } from '../domain/model-uri.ts';
import type { Scope } from '../domain/scope.ts';
import { isSameVersion, type ModelVersion, versionKey } from '../domain/version.ts';
import {
  LatestVersionsAnswer,
  LoggedModelAnswer,
  RunAnswer,
  readinessFault,
  toModelVersion,
  VersionAnswer,
  versionOfLogged,
} from '../registry/answers.ts';
import type { Refs } from '../store/records/refs.ts';
import type { Interests } from './interests.ts';
import { type Read, stagesOf, textOf } from './reads.ts';

/** For whom an answer is, and what is to learn from it. */
export interface Lesson {
  readonly read: Read;
  readonly body: unknown;
  readonly scope: Scope;
  /** Of the question; see Refs. */
  readonly order: number;
  /** Milliseconds since 1970. */
  readonly now: number;
}

/** Takes from an answer of MLflow's what is worth to know for the load that it may be part of. One of another shape says nothing. */
export function learn(lesson: Lesson, refs: Refs | null, interests: Interests): void {
  const { scope } = lesson;
  for (const [uri, version] of meanings(lesson)) resolved(uri, version, lesson, refs, interests);
  const model = loggedModel(lesson);
  if (model !== null) {
    const { artifact_uri: root, model_id: modelId, source_run_id: runId, name } = model;
    const held = { root: [root], version: versionKey(versionOfLogged(model)) } as const;
    interests.shows(scope, held, { kind: 'logged_model', modelId });
    // Whoever asked for the run before loads what it logged under that name.
    if (runId !== null && name !== null && interests.hasRun(scope, runId))
      interests.holds(scope, held, { kind: 'run', runId, path: name });
  }
  learnOfRun(lesson, interests);
}

type Meaning = readonly [ModelUri, ModelVersion];

/** Which URI means which version. */
function meanings({ read, body }: Lesson): readonly Meaning[] {
  const name = textOf(read, 'name');
  const alias = textOf(read, 'alias');
  if (name === null) return [];
  if (read.route === 'registered-models/get-latest-versions') {
    const versions = LatestVersionsAnswer.safeParse(body).data?.model_versions ?? [];
    return latest(name, stagesOf(read), versions.map(toModelVersion));
  }
  if (read.route !== 'registered-models/alias' || alias === null) return [];
  const found = VersionAnswer.safeParse(body).data?.model_version;
  return found === undefined ? [] : [[{ kind: 'alias', name, alias }, toModelVersion(found)]];
}

/** One whose files will not change any more. */
function loggedModel({ read, body }: Lesson) {
  if (read.route !== 'logged-models/*') return null;
  const info = LoggedModelAnswer.safeParse(body).data?.model.info;
  return info === undefined || readinessFault('', info.status, null) !== null ? null : info;
}

function learnOfRun({ read, body, scope }: Lesson, interests: Interests): void {
  const info = read.route === 'runs/get' ? RunAnswer.safeParse(body).data?.run.info : undefined;
  if (info === undefined) return;
  const { run_id: runId, artifact_uri: root, start_time: startedMs = null, end_time: endedMs } = info;
  // A run that is over can be resumed: then its files change again.
  if (info.status !== 'FINISHED') interests.runs(scope, runId, root);
  else interests.ran(scope, { runId, root, startedMs, endedMs: endedMs ?? 0 });
}

/** Each stage that was asked for means its highest version; where none was, `latest` the highest of all. */
function latest(
  name: string,
  stages: readonly string[],
  versions: readonly ModelVersion[],
): readonly Meaning[] {
  const sorted = versions.toSorted((a, b) => Number(a.version) - Number(b.version));
  const uris =
    stages.length === 0 ? [`models:/${name}/latest`] : stages.map(stage => `models:/${name}/${stage}`);
  return uris.flatMap((text): readonly Meaning[] => {
    const uri = modelUriIn(text);
    const version = sorted.findLast(one => uri?.kind !== 'stage' || one.stage === uri.stage);
    return uri === null || version === undefined ? [] : [[uri, version]];
  });
}

function resolved(
  uri: ModelUri,
  version: ModelVersion,
  { scope, order, now }: Lesson,
  refs: Refs | null,
  interests: Interests,
): void {
  if (version.name === null || version.version === null) return;
  interests.resolved(scope, uri, version.name, version.version);
  const published = refs?.get(scope, uri).published ?? null;
  if (published !== null && isSameVersion(published.version, version))
    refs?.confirm(scope, uri, version, order, now);
}

import { z } from 'zod';
import { LatestVersionsAnswer, LoggedModelAnswer, RunAnswer, VersionAnswer } from '../registry/answers.ts';
import { assertAsked, assertAskedStage, assertAskedVersion } from '../registry/asked.ts';
import { type Read, stagesOf, textOf } from './reads.ts';

const ModelAnswer = z.object({ registered_model: z.object({ name: z.string() }) });

type Asked = Pick<Read, 'route' | 'question' | 'fields'>;

/**
 * Whether an answer is the one to the question, as far as it names what it is of; one of another shape says nothing.
 * @throws SidecarError `mlflow_error`, which names both
 */
export function assertAnswers(read: Asked, body: unknown): void {
  const name = textOf(read, 'name');
  switch (read.route) {
    case 'registered-models/get': {
      const found = ModelAnswer.safeParse(body).data?.registered_model.name;
      if (name !== null && found !== undefined) assertAsked('the model', name, found);
      return;
    }
    case 'registered-models/get-latest-versions':
      assertLatest(read, name, body);
      return;
    case 'registered-models/alias':
    case 'model-versions/get': {
      const found = VersionAnswer.safeParse(body).data?.model_version;
      const [version, alias] = [textOf(read, 'version'), textOf(read, 'alias')];
      const asked = { ...(version === null ? {} : { version }), ...(alias === null ? {} : { alias }) };
      if (name !== null && found !== undefined) assertAskedVersion({ name, ...asked }, found);
      return;
    }
    case 'logged-models/*': {
      const found = LoggedModelAnswer.safeParse(body).data?.model.info.model_id;
      if (found !== undefined) assertAsked('the logged model', textOf(read, 'model_id') ?? '', found);
      return;
    }
    case 'runs/get': {
      const found = RunAnswer.safeParse(body).data?.run.info.run_id;
      const asked = textOf(read, 'run_id') ?? textOf(read, 'run_uuid');
      if (asked !== null && found !== undefined) assertAsked('the run', asked, found);
      return;
    }
    default:
      return;
  }
}

function assertLatest(read: Asked, name: string | null, body: unknown): void {
  const found = LatestVersionsAnswer.safeParse(body).data?.model_versions ?? [];
  for (const version of found) if (name !== null) assertAsked('the model', name, version.name);
  const [only, ...others] = stagesOf(read);
  if (only === undefined || others.length > 0) return;
  assertAskedStage(
    only,
    found.map(version => version.current_stage),
  );
}

import { validateDetailed } from 'node-cron';
import { formatModelUri, type ModelUri } from '../domain/model-uri.ts';
import { type Kind, list, modelUri, type Parsed, scalar } from './kinds.ts';
import { isMapping, type RawMapping } from './raw.ts';

/** A model that the sidecar is configured for. */
export interface ConfiguredModel {
  readonly uri: ModelUri;
  /** Its own schedule, as cron has it; null where it has the common one. */
  readonly cron: string | null;
}

const FIELDS = ['uri', 'prewarm'];

/** What node-cron understands: five fields, six with seconds first, or a nickname such as `@hourly`. */
export const cron: Kind<string> = scalar(
  'five cron fields ("*/5 * * * *"), six with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly',
  text => {
    const { valid, errors } = validateDetailed(text);
    if (valid) return { value: text };
    const words = errors.map(({ message }) => message.replace('is a invalid expression for', 'does not fit'));
    return { fault: `is no schedule: ${words.join('; ')}` };
  },
);

export const timezone: Kind<string> = scalar(
  'a name of the IANA database, such as Europe/Berlin, or an offset such as +02:00',
  text => {
    try {
      return { value: new Intl.DateTimeFormat('en', { timeZone: text }).resolvedOptions().timeZone };
    } catch {
      return { fault: 'is no time zone that is known here' };
    }
  },
);

const configuredModel: Kind<ConfiguredModel> = {
  allowed: 'a model URI, or in the file { uri, prewarm }',
  parse: raw => (isMapping(raw) ? ofMapping(raw) : withSchedule(modelUri.parse(raw), null)),
};

/** Named once each. */
export const configuredModels: Kind<readonly ConfiguredModel[]> = distinct(
  list(
    'model URIs such as models:/name/Production, separated by commas; in the file also {uri, prewarm}, with a schedule of its own',
    configuredModel,
  ),
);

function distinct(models: Kind<readonly ConfiguredModel[]>): Kind<readonly ConfiguredModel[]> {
  return {
    allowed: models.allowed,
    parse: raw => {
      const parsed = models.parse(raw);
      return 'fault' in parsed ? parsed : onceEach(parsed.value);
    },
  };
}

function onceEach(models: readonly ConfiguredModel[]): Parsed<readonly ConfiguredModel[]> {
  const byUri = Map.groupBy(models, ({ uri }) => formatModelUri(uri));
  const torn = [...byUri].filter(([, alike]) => new Set(alike.map(model => model.cron)).size > 1);
  if (torn.length > 0) return { fault: `names ${torn[0]?.[0]} twice, with two schedules` };
  return { value: [...byUri.values()].flatMap(alike => alike.slice(0, 1)) };
}

function ofMapping(mapping: RawMapping): Parsed<ConfiguredModel> {
  const unknown = [...mapping.keys()].filter(key => !FIELDS.includes(key));
  if (unknown.length > 0)
    return { fault: `holds ${unknown.join(', ')}, and may hold ${FIELDS.join(' and ')}` };
  const uri = mapping.get('uri');
  if (uri === undefined) return { fault: 'holds no uri' };
  const own = mapping.get('prewarm') ?? '';
  const schedule = own === '' ? { value: null } : cron.parse(own);
  return 'fault' in schedule
    ? { fault: `has a prewarm that ${schedule.fault}` }
    : withSchedule(modelUri.parse(uri), schedule.value);
}

function withSchedule(uri: Parsed<ModelUri>, own: string | null): Parsed<ConfiguredModel> {
  return 'fault' in uri ? uri : { value: { uri: uri.value, cron: own } };
}

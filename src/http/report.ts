import { parseModelUri } from '../domain/model-uri.ts';
import type { Outcome } from '../domain/outcome.ts';

const RUN_ID_SHOWN = 8;

/** The human report of reloads, as operators know it from their task logs; ends with a line feed. */
export function reportOf(outcomes: readonly Outcome[]): string {
  const closing = ['✅ Model reload task complete'];
  if (outcomes.some(outcome => outcome.path === null)) {
    closing.push('   Note: Models will auto-load on first inference request if reload failed.');
  }
  const blocks = [...outcomes.map(blockOf), closing];
  return `${blocks.map(lines => lines.join('\n')).join('\n\n')}\n`;
}

/** The first line of an answer with an error status: Airflow shows no more than one. */
export function errorLine(code: string, message: string): string {
  return `❌ ${code}: ${oneLine(message)}`;
}

/** Text from outside as one line, so that it cannot pass for another line of the report. */
export function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, ' ');
}

function blockOf(outcome: Outcome): string[] {
  return [
    `🔄 Reloading ${titleOf(outcome)}...`,
    `📥 Loading model from: ${oneLine(outcome.model_uri)}`,
    `   🔗 MLflow URI: ${oneLine(outcome.mlflow_uri)}`,
    ...(outcome.path === null ? failureLines(outcome) : givenLines(outcome, outcome.path)),
  ];
}

function titleOf(outcome: Outcome): string {
  return oneLine(outcome.name ?? outcome.model_uri);
}

function givenLines(outcome: Outcome, path: string): string[] {
  const verb = outcome.status === 'loaded' ? 'Loaded' : 'Answered';
  const size = `${humanBytes(outcome.bytes ?? 0)}, ${counted(outcome.files ?? 0, 'file')}`;
  return [
    ...headlines(outcome),
    ...line('📌 Version', outcome.version),
    ...line('🔖 Run ID', outcome.run_id === null ? null : `${outcome.run_id.slice(0, RUN_ID_SHOWN)}...`),
    ...line('📅 Created', outcome.created === null ? null : Math.floor(outcome.created)),
    ...line('🎯 Stage', outcome.stage),
    `   ⏱️ ${verb} in ${outcome.duration_s.toFixed(2)} s (${size}) -> ${oneLine(path)}`,
    ...(outcome.status === 'stale' ? [] : [`✅ ${titleOf(outcome)} reloaded successfully`]),
  ];
}

function headlines(outcome: Outcome): string[] {
  if (outcome.status === 'loaded') return ['✅ Model loaded successfully'];
  if (outcome.status === 'unchanged') return ['✅ Model is up to date'];
  return [
    `⚠️ Serving the last good version: ${messageOf(outcome)}`,
    ...line('🕒 Last confirmed', outcome.age_s === null ? null : `${humanAge(outcome.age_s)} ago`),
    ...line('🆕 Wanted version', outcome.wanted_version),
  ];
}

function line(label: string, value: string | number | null): string[] {
  return value === null ? [] : [`   ${label}: ${oneLine(String(value))}`];
}

function failureLines(outcome: Outcome): string[] {
  const message = messageOf(outcome);
  const stage = outcome.warning?.code === 'no_version_in_stage' ? stageOf(outcome.model_uri) : null;
  return [
    `❌ Failed to load model: ${message}`,
    `   Model URI: ${oneLine(outcome.model_uri)}`,
    ...(stage === null ? [] : [`   This may be expected if no model is in ${stage} stage yet.`]),
    `⚠️ Failed to reload ${titleOf(outcome)}: ${message}`,
    '   (Model will be lazy-loaded on first prediction)',
  ];
}

function messageOf(outcome: Outcome): string {
  return oneLine(outcome.warning?.message ?? 'no reason is known');
}

function stageOf(modelUri: string): string | null {
  const uri = parseModelUri(modelUri);
  return uri.kind === 'stage' ? uri.stage : null;
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** `47 KiB`, `1.5 MiB`: whole from ten on, else with one decimal. */
function humanBytes(bytes: number): string {
  const exponent = Math.min(4, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const value = bytes / 1024 ** exponent;
  return `${exponent === 0 || value >= 10 ? Math.round(value) : value.toFixed(1)} ${['B', 'KiB', 'MiB', 'GiB', 'TiB'][exponent]}`;
}

/** `12 s`, `5 min`, `3 h`, `2 d`: rounded down in the largest unit of which there is one. */
function humanAge(seconds: number): string {
  const [size, unit] = AGE_UNITS.find(([unitSize]) => seconds >= unitSize) ?? [1, 's'];
  return `${Math.floor(seconds / size)} ${unit}`;
}

const AGE_UNITS: readonly (readonly [number, string])[] = [
  [86_400, 'd'],
  [3_600, 'h'],
  [60, 'min'],
];

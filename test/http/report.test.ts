import { expect, test } from 'vitest';
import { errorLine, reportOf } from '../../src/http/report.ts';
import { outcome } from '../support/outcome.ts';
import { failure } from './support.ts';

test('a loaded model', () => {
  expect(reportOf([outcome()])).toBe(`🔄 Reloading topic-classification...
📥 Loading model from: models:/topic-classification/Production
   🔗 MLflow URI: http://mlflow:5000
✅ Model loaded successfully
   📌 Version: 2
   🔖 Run ID: abc123...
   📅 Created: 1731358595
   🎯 Stage: Production
   ⏱️ Loaded in 0.41 s (47 KiB, 7 files) -> /cache/v1/snapshots/s1
✅ topic-classification reloaded successfully

✅ Model reload task complete
`);
});

test('an unchanged model, of which little is known', () => {
  const little = { run_id: null, created: null, stage: null, files: 1, bytes: 12, duration_s: 0.0149 };
  expect(reportOf([outcome({ status: 'unchanged', ...little })])).toBe(`🔄 Reloading topic-classification...
📥 Loading model from: models:/topic-classification/Production
   🔗 MLflow URI: http://mlflow:5000
✅ Model is up to date
   📌 Version: 2
   ⏱️ Answered in 0.01 s (12 B, 1 file) -> /cache/v1/snapshots/s1
✅ topic-classification reloaded successfully

✅ Model reload task complete
`);
});

test('a stale model, with its age and the version that was wanted', () => {
  const warning = {
    code: 'artifact_timeout' as const,
    message: 'The artifacts did not come in time.',
    hint: null,
  };
  const stale = outcome({
    status: 'stale',
    version: '1',
    wanted_version: '2',
    age_s: 7_300,
    duration_s: 2.004,
    warning,
  });
  expect(reportOf([stale])).toBe(`🔄 Reloading topic-classification...
📥 Loading model from: models:/topic-classification/Production
   🔗 MLflow URI: http://mlflow:5000
⚠️ Serving the last good version: The artifacts did not come in time.
   🕒 Last confirmed: 2 h ago
   🆕 Wanted version: 2
   📌 Version: 1
   🔖 Run ID: abc123...
   📅 Created: 1731358595
   🎯 Stage: Production
   ⏱️ Answered in 2.00 s (47 KiB, 7 files) -> /cache/v1/snapshots/s1

✅ Model reload task complete
`);
});

test('a stage that no version is in', () => {
  const missing = failure(
    'missing',
    'no_version_in_stage',
    'No version of topic-classification is in stage Production.',
  );
  expect(reportOf([missing])).toBe(`🔄 Reloading topic-classification...
📥 Loading model from: models:/topic-classification/Production
   🔗 MLflow URI: http://mlflow:5000
❌ Failed to load model: No version of topic-classification is in stage Production.
   Model URI: models:/topic-classification/Production
   This may be expected if no model is in Production stage yet.
⚠️ Failed to reload topic-classification: No version of topic-classification is in stage Production.
   (Model will be lazy-loaded on first prediction)

✅ Model reload task complete
   Note: Models will auto-load on first inference request if reload failed.
`);
});

test('a failure of a run’s model, which has no name, and a message of several lines', () => {
  const failed = failure('failed', 'mlflow_unreachable', 'refused\r\n✅ Model loaded\u2028now', {
    name: null,
    model_uri: 'runs:/r1/model',
  });
  expect(reportOf([failed])).toBe(`🔄 Reloading runs:/r1/model...
📥 Loading model from: runs:/r1/model
   🔗 MLflow URI: http://mlflow:5000
❌ Failed to load model: refused ✅ Model loaded now
   Model URI: runs:/r1/model
⚠️ Failed to reload runs:/r1/model: refused ✅ Model loaded now
   (Model will be lazy-loaded on first prediction)

✅ Model reload task complete
   Note: Models will auto-load on first inference request if reload failed.
`);
});

test('several models, one block each and one closing line', () => {
  const second = failure('failed', 'mlflow_timeout', 'no answer', {
    name: 'sentiment-analysis',
    model_uri: 'models:/sentiment-analysis/Production',
  });
  expect(
    reportOf([outcome({ run_id: '0123456789abcdef' }), second]),
  ).toBe(`🔄 Reloading topic-classification...
📥 Loading model from: models:/topic-classification/Production
   🔗 MLflow URI: http://mlflow:5000
✅ Model loaded successfully
   📌 Version: 2
   🔖 Run ID: 01234567...
   📅 Created: 1731358595
   🎯 Stage: Production
   ⏱️ Loaded in 0.41 s (47 KiB, 7 files) -> /cache/v1/snapshots/s1
✅ topic-classification reloaded successfully

🔄 Reloading sentiment-analysis...
📥 Loading model from: models:/sentiment-analysis/Production
   🔗 MLflow URI: http://mlflow:5000
❌ Failed to load model: no answer
   Model URI: models:/sentiment-analysis/Production
⚠️ Failed to reload sentiment-analysis: no answer
   (Model will be lazy-loaded on first prediction)

✅ Model reload task complete
   Note: Models will auto-load on first inference request if reload failed.
`);
});

test.each([
  [0, '0 B'],
  [1_023, '1023 B'],
  [1_024, '1.0 KiB'],
  [10_240, '10 KiB'],
  [1_572_864, '1.5 MiB'],
  [5 * 1024 ** 3, '5.0 GiB'],
  [2 * 1024 ** 5, '2048 TiB'],
])('%i bytes are shown as %s', (bytes, expected) => {
  expect(reportOf([outcome({ bytes })])).toContain(`(${expected}, 7 files)`);
});

test.each([
  [0.4, '0 s'],
  [59.9, '59 s'],
  [60, '1 min'],
  [3_599, '59 min'],
  [86_399, '23 h'],
  [604_800, '7 d'],
])('an age of %d s is shown as %s', (age_s, expected) => {
  expect(reportOf([outcome({ status: 'stale', age_s })])).toContain(`Last confirmed: ${expected} ago`);
});

test('the first line of an error is one line', () => {
  expect(errorLine('mlflow_error', 'two\n\nlines\u0007')).toBe('❌ mlflow_error: two lines ');
});

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { readDockerfile, textsOf } from '../support/dockerfile.ts';
import { buildImage } from './build-image.ts';
import { keptPaths } from './context.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const HADOLINT = join(ROOT, '.cache', 'venv', 'dockerfile-checks', 'bin', 'hadolint');
const execute = promisify(execFile);

const text = await readFile(join(ROOT, 'Dockerfile'), 'utf8');
const stages = readDockerfile(text);

test('hadolint finds nothing in the Dockerfile', async () => {
  expect(await execute(HADOLINT, [join(ROOT, 'Dockerfile')])).toEqual({ stdout: '', stderr: '' });
});

test.each([
  ['ENTRYPOINT ["mlflow-sidecar"]', 'ENTRYPOINT mlflow-sidecar', 'DL3025'],
  ['WORKDIR /build', 'WORKDIR build', 'DL3000'],
  ['ARG NODE_IMAGE=node:24-slim', 'ARG NODE_IMAGE=node:latest\nFROM node:latest', 'DL3007'],
])('hadolint finds what is wrong with %s as %s', async (right, wrong, code) => {
  const dir = await mkdtemp(join(tmpdir(), 'sidecar-dockerfile-'));
  onTestFinished(() => rm(dir, { recursive: true, force: true }));
  expect(text).toContain(right);
  await writeFile(join(dir, 'Dockerfile'), text.replace(right, wrong));
  await expect(execute(HADOLINT, ['--no-color', join(dir, 'Dockerfile')])).rejects.toMatchObject({
    stdout: expect.stringContaining(code),
  });
});

test('one argument pins the base image of all its stages', () => {
  const pinned = `node:24-slim@sha256:${'0'.repeat(64)}`;
  const froms = readDockerfile(text, { NODE_IMAGE: pinned }).flatMap(stage => textsOf(stage, 'FROM'));
  expect(froms).toEqual([`${pinned} AS build`, pinned]);
});

test('.dockerignore lets through what the Dockerfile copies, and nothing else', async () => {
  const copied = stages
    .flat()
    .filter(({ word, flags }) => word === 'COPY' && flags['from'] === undefined)
    .flatMap(({ text: paths }) => paths.split(' ').slice(0, -1));
  const kept = keptPaths(await readFile(join(ROOT, '.dockerignore'), 'utf8'));
  expect(kept.toSorted()).toEqual([...new Set(copied)].toSorted());
});

test('its labels say what package.json says, and what the build is given', async () => {
  const manifest = z
    .object({ name: z.string(), version: z.string(), description: z.string(), license: z.string() })
    .parse(JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')));
  const given = { REVISION: '0123abc', CREATED: '2026-11-26T08:00:00Z' };
  const image = await buildImage(labelled(), { ...nothing, buildArgs: given });
  expect(image.labels).toEqual({
    'org.opencontainers.image.title': manifest.name,
    'org.opencontainers.image.description': manifest.description,
    'org.opencontainers.image.licenses': manifest.license,
    'org.opencontainers.image.version': manifest.version,
    'org.opencontainers.image.revision': given.REVISION,
    'org.opencontainers.image.created': given.CREATED,
  });
});

const nothing = { context: '', buildArgs: {}, base: async () => '', network: { env: {} } };

/** The image without what needs files. */
function labelled() {
  return [(stages.at(-1) ?? []).filter(({ word }) => ['FROM', 'ARG', 'LABEL'].includes(word))];
}

test.each([
  'ADD . /app',
  'COPY --chown=1:1 a b',
  'ENTRYPOINT mlflow-sidecar serve',
  'USER node',
  'STOPSIGNAL SIGINT',
])('what these tests build an image with does not pass over %s', async line => {
  await expect(buildImage(readDockerfile(`FROM node:24-slim\n${line}\n`), nothing)).rejects.toThrow();
});

test('what these tests send to a build does not pass over a pattern of .dockerignore', () => {
  expect(keptPaths('*\n!src\n!scripts/build\n')).toEqual(['src', 'scripts/build']);
  for (const other of ['node_modules\n', '*\n!src\nsrc/x\n', '*\n!src/*.ts\n']) {
    expect(() => keptPaths(other)).toThrow('.dockerignore is not understood');
  }
});

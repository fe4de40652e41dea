import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { OPTION_SPECS } from '../../src/config/table.ts';
import { manifestsOf, podsIn, SETS, sidecarOf, workloadOf } from '../support/chart.ts';
import { type Container, FRUGAL, HARDENED, type PodSpec } from '../support/pod.ts';

/** Of the pod where the container says nothing else. */
function securityOf({ securityContext: pod }: PodSpec, { securityContext: own }: Container): unknown {
  return { ...pod, ...z.record(z.string(), z.unknown()).parse(own) };
}

/** What no container of the restricted standard may be without. */
const { runAsUser, runAsGroup, ...RESTRICTED } = HARDENED;

describe.each(SETS)('%s', set => {
  const pods = async () => podsIn(await manifestsOf(set));

  test('every container is hardened and frugal', async () => {
    for (const pod of await pods()) {
      for (const container of [...pod.initContainers, ...pod.containers]) {
        expect(securityOf(pod, container)).toMatchObject(RESTRICTED);
        expect(container.resources?.limits).toEqual({ memory: expect.stringMatching(/^\d+Mi$/) });
      }
      const ours = pod.containers.filter(({ name }) => ['mlflow-sidecar', 'status'].includes(name));
      expect(ours.length).toBeGreaterThan(0);
      const ids = set === 'chosen-user-ids' ? {} : { runAsUser, runAsGroup };
      for (const { securityContext, resources } of ours) {
        expect(securityContext).toEqual({ ...RESTRICTED, ...ids });
        expect(resources).toEqual(FRUGAL);
      }
    }
  });

  test('pods have no rights, no service’s addresses, and of their node what was asked for', async () => {
    for (const pod of await pods()) {
      expect(pod).toMatchObject({ automountServiceAccountToken: false, enableServiceLinks: false });
      for (const key of ['hostNetwork', 'hostPID', 'hostIPC']) expect(pod).not.toHaveProperty(key);
    }
    const { volumes, securityContext } = workloadOf(await manifestsOf(set));
    const ofNode = volumes.filter(volume => 'hostPath' in volume);
    expect(ofNode).toHaveLength(set === 'daemon-set-host-path' ? 1 : 0);
    const fsGroup = { fsGroup: 0, fsGroupChangePolicy: 'OnRootMismatch' };
    if (set === 'chosen-user-ids') expect(securityContext).not.toHaveProperty('fsGroup');
    else expect(securityContext).toMatchObject(fsGroup);
  });

  test('only readiness waits for models or MLflow', async () => {
    const { startupProbe, livenessProbe, readinessProbe } = sidecarOf(await manifestsOf(set));
    const asks = (probe: unknown) => JSON.stringify(probe).match(/\/healthz|\/readyz|--\w+/g);
    const isLoopback = set === 'behind-a-proxy';
    expect(asks(startupProbe)).toEqual([isLoopback ? '--live' : '/healthz']);
    expect(asks(livenessProbe)).toEqual([isLoopback ? '--live' : '/healthz']);
    expect(asks(readinessProbe)).toEqual([isLoopback ? '--ready' : '/readyz']);
    for (const probe of [startupProbe, livenessProbe, readinessProbe])
      expect(Object(probe)).toHaveProperty(isLoopback ? 'exec' : 'httpGet');
  });

  test('every variable is one that the sidecar reads', async () => {
    const known = [...OPTION_SPECS.map(({ name }) => name), 'SIDECAR_URL'];
    const ours = (await pods()).flatMap(({ containers }) => containers.flatMap(({ env }) => env));
    expect(known).toEqual(expect.arrayContaining(ours.map(({ name }) => name)));
  });
});

import { expect } from 'vitest';
import {
  commandOf,
  environmentOf,
  FRUGAL,
  fetchersIn,
  HARDENED,
  oursIn,
  type PodSpec,
  sidecarsIn,
} from './pod.ts';

const LIVE = ['mlflow-sidecar', 'status', '--live'];

/**
 * Every container of ours in the pod is hardened and frugal; each sidecar is a native one whose probes ask whether it runs,
 * and nothing more; what runs on never stands in a pod that has to end.
 */
export function expectSafe(pod: PodSpec): void {
  for (const container of oursIn(pod)) {
    expect(container.securityContext).toEqual(HARDENED);
    expect(container.resources).toEqual(FRUGAL);
    expect(environmentOf(container)).toHaveProperty('SIDECAR_PORT', '5080');
  }
  for (const sidecar of sidecarsIn(pod)) {
    expect(pod.initContainers).toContain(sidecar);
    expect(sidecar.restartPolicy).toBe('Always');
    for (const probe of [sidecar.startupProbe, sidecar.livenessProbe]) expect(commandOf(probe)).toEqual(LIVE);
    expect(sidecar.readinessProbe).toBeUndefined();
    expect(environmentOf(sidecar)).not.toHaveProperty('SIDECAR_WARMUP_S');
  }
  for (const fetcher of fetchersIn(pod)) {
    expect(pod.initContainers).toContain(fetcher);
    expect(fetcher).not.toHaveProperty('restartPolicy');
    expect(fetcher.startupProbe).toBeUndefined();
  }
}

/** What a container of ours writes, the named one reads: the whole volume, at the same path, without writing. */
export function expectShared(pod: PodSpec, reader: string): void {
  const mounts = pod.containers.find(({ name }) => name === reader)?.volumeMounts;
  for (const { volumeMounts } of oursIn(pod)) {
    for (const mount of volumeMounts.filter(({ name }) => name !== 'fetched')) {
      expect(mount.readOnly).toBe(false);
      expect(mounts).toContainEqual({ ...mount, readOnly: true });
      expect(pod.volumes.map(({ name }) => name)).toContain(mount.name);
    }
  }
}

/** A new claim is made writable for the sidecar's group, once. */
export function expectWritable(pod: PodSpec): void {
  expect(pod.securityContext).toMatchObject({
    fsGroup: HARDENED.runAsGroup,
    fsGroupChangePolicy: 'OnRootMismatch',
  });
}

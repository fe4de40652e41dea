import { z } from 'zod';

/** A list; as for Kubernetes, none where there is nothing behind its key. */
const listOf = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .nullish()
    .transform(list => list ?? []);

const ProbeSchema = z.strictObject({
  exec: z.strictObject({ command: z.array(z.string()) }),
  periodSeconds: z.number(),
  timeoutSeconds: z.number(),
  failureThreshold: z.number(),
});

const ContainerSchema = z.looseObject({
  name: z.string(),
  image: z.string().default(''),
  restartPolicy: z.string().optional(),
  args: listOf(z.string()),
  env: listOf(
    z.looseObject({ name: z.string(), value: z.string().optional(), valueFrom: z.unknown().optional() }),
  ),
  volumeMounts: listOf(
    z.looseObject({ name: z.string(), mountPath: z.string(), readOnly: z.boolean().default(false) }),
  ),
  startupProbe: z.unknown().optional(),
  readinessProbe: z.unknown().optional(),
  livenessProbe: z.unknown().optional(),
  securityContext: z.unknown().optional(),
  resources: z.looseObject({ limits: z.record(z.string(), z.unknown()).default({}) }).optional(),
});

const VolumeSchema = z.looseObject({
  name: z.string(),
  emptyDir: z.looseObject({ sizeLimit: z.string().optional() }).optional(),
  persistentVolumeClaim: z
    .looseObject({ claimName: z.string(), readOnly: z.boolean().optional() })
    .optional(),
});

/** What the tests look at. Whether it is one of Kubernetes' at all is for its schemas to say. */
export const PodSpecSchema = z.looseObject({
  initContainers: listOf(ContainerSchema),
  containers: z.array(ContainerSchema),
  volumes: listOf(VolumeSchema),
  securityContext: z.record(z.string(), z.unknown()).default({}),
  enableServiceLinks: z.boolean().optional(),
});

export type Container = z.infer<typeof ContainerSchema>;
export type PodSpec = z.infer<typeof PodSpecSchema>;

/** Kubernetes' restricted standard, and a root file system that nobody writes. */
export const HARDENED = {
  runAsNonRoot: true,
  runAsUser: 65532,
  runAsGroup: 0,
  readOnlyRootFilesystem: true,
  allowPrivilegeEscalation: false,
  capabilities: { drop: ['ALL'] },
  seccompProfile: { type: 'RuntimeDefault' },
};

export const FRUGAL = { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '512Mi' } };

/** The containers of this project's image. */
export function oursIn({ initContainers, containers }: PodSpec): readonly Container[] {
  return [...initContainers, ...containers].filter(({ image }) => /(^|\/)mlflow-sidecar:/.test(image));
}

/** Those that run on beside the others, and those that end before them. */
export function sidecarsIn(pod: PodSpec): readonly Container[] {
  return oursIn(pod).filter(({ args }) => args[0] !== 'fetch');
}

export function fetchersIn(pod: PodSpec): readonly Container[] {
  return oursIn(pod).filter(({ args }) => args[0] === 'fetch');
}

/** The names of the pods that have any of these containers. */
export function withAny(
  pods: ReadonlyMap<string, PodSpec>,
  containersIn: (pod: PodSpec) => readonly Container[],
): readonly string[] {
  return [...pods].flatMap(([name, pod]) => (containersIn(pod).length > 0 ? name : [])).sort();
}

export function containerOf({ initContainers, containers }: PodSpec, name: string): Container {
  const found = [...initContainers, ...containers].find(container => container.name === name);
  if (found === undefined) throw new Error(`There is no container ${name}.`);
  return found;
}

/**
 * What the container's processes get, where a variable's text is given: as Kubernetes does, `$(NAME)` is replaced by what was
 * set above it. What comes from a secret is taken from `secrets`, by its key.
 */
export function environmentOf(
  { env }: Container,
  secrets: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { name, value, valueFrom } of env) {
    const secret = z.looseObject({ secretKeyRef: z.object({ key: z.string() }) }).safeParse(valueFrom);
    const text = secret.success ? secrets[secret.data.secretKeyRef.key] : value;
    if (text !== undefined) found[name] = text.replace(/\$\((\w+)\)/g, (as, of: string) => found[of] ?? as);
  }
  return found;
}

/** @throws ZodError where it is no probe by a command */
export function commandOf(probe: unknown): readonly string[] {
  return ProbeSchema.parse(probe).exec.command;
}

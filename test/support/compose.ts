import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { z } from 'zod';

/** What the tests look at. Whether the file is one of Compose's at all is for its schema to say. */
const ComposeSchema = z.object({
  services: z.record(
    z.string(),
    z.object({
      image: z.string().optional(),
      build: z.union([z.string(), z.object({ dockerfile_inline: z.string() })]).optional(),
      command: z.union([z.string(), z.array(z.string())]).optional(),
      environment: z.record(z.string(), z.string()).default({}),
      depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
      volumes: z.array(z.string()).default([]),
      ports: z.array(z.string()).default([]),
      user: z.string().optional(),
    }),
  ),
  volumes: z.record(z.string(), z.null()),
});

export type Compose = z.infer<typeof ComposeSchema>;
type Service = Compose['services'][string];

export async function readCompose(path: string): Promise<Compose> {
  return ComposeSchema.parse(parse(await readFile(path, 'utf8')));
}

/** The service of that name. */
export function serviceOf({ services }: Compose, name: string): Service {
  const service = services[name];
  if (service === undefined) throw new Error(`There is no service ${name}.`);
  return service;
}

/** What the container gets: `${NAME}` and `${NAME:?message}` are replaced by what is given. */
export function environmentOf(
  { environment }: Service,
  given: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const replaced = (text: string) =>
    text.replace(/\$\{(\w+)(?::\?[^}]*)?\}/g, (_, name: string) => given[name] ?? '');
  return Object.fromEntries(Object.entries(environment).map(([name, text]) => [name, replaced(text)]));
}

export interface Mount {
  /** A volume's name, or a path that begins with a dot. */
  readonly source: string;
  readonly target: string;
  readonly isReadOnly: boolean;
}

export function mountsOf({ volumes }: Service): readonly Mount[] {
  return volumes.map(text => {
    const [source = '', target = '', mode] = text.split(':');
    return { source, target, isReadOnly: mode === 'ro' };
  });
}

import type { ArtifactRoot } from './version.ts';

/** With or without the host that serves it. */
const SERVED = /^mlflow-artifacts:(?:\/\/[^/]*)?\/+(.*)$/;

/** Whether a change at a path of MLflow's artifact server changes what is below the root: the path is in it, or it is below the path. */
export function holdsPath(root: ArtifactRoot, path: string): boolean {
  return root.some(part => {
    const [, served = null] = SERVED.exec(part) ?? [];
    return served !== null && (isBelow(path, served) || isBelow(served, path));
  });
}

function isBelow(path: string, dir: string): boolean {
  return path === dir || path.startsWith(dir.endsWith('/') ? dir : `${dir}/`);
}

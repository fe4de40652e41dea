import { fileURLToPath } from 'node:url';

/**
 * For the environment of a Python with many modules: what one process compiled no other compiles again, which saves each
 * import of MLflow 3 s of processor time. Not beside the modules: some are ours, and PYTHONDONTWRITEBYTECODE is to be left out.
 */
export const BYTECODE = {
  PYTHONPYCACHEPREFIX: fileURLToPath(new URL('../../.cache/pycache', import.meta.url)),
} as const;

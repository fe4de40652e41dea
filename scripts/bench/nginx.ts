import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { atExit } from '../../test/support/at-exit.ts';
import { freePort } from '../../test/support/free-port.ts';

const NGINX = fileURLToPath(new URL('../../.cache/nginx/nginx', import.meta.url));
const START_LIMIT_MS = 10_000;

interface Nginx {
  readonly url: string;
  readonly stop: () => void;
}

/** What serves the files of a directory. */
export function filesOf(root: string): string {
  return `root ${root};`;
}

/** What passes everything on to `upstream` and keeps its good answers for a second, those to a POST by its body. */
export function cachedFor1s(upstream: string): string {
  return `
    proxy_pass ${upstream};
    proxy_http_version 1.1;
    proxy_set_header Host ${new URL(upstream).host};
    proxy_set_header Connection "";
    proxy_cache answers;
    proxy_cache_methods GET HEAD POST;
    proxy_cache_key $request_method$request_uri$request_body;
    proxy_cache_valid 200 1s;
    proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
    add_header X-Cache $upstream_cache_status;`;
}

/**
 * Starts nginx as Debian configures it, on a free port of the loopback interface, and waits until it answers. It ends with this process at the latest.
 * @param location what it does with every request: directives of its configuration
 * @param dir an empty directory for all that it writes
 */
export async function startNginx(location: string, dir: string): Promise<Nginx> {
  if (!existsSync(NGINX)) throw new Error(`${NGINX} is not there: "npm run bench" makes it.`);
  const port = await freePort();
  const file = join(dir, 'nginx.conf');
  await writeFile(file, configuration(location, dir, port));
  const child = spawn(NGINX, ['-e', 'stderr', '-p', dir, '-c', file], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const said: string[] = [];
  child.stderr.setEncoding('utf8').on('data', (text: string) => said.push(text));
  child.once('error', error => said.push(error.message));
  // SIGTERM, which takes its workers along.
  const stop = atExit(() => void child.kill());
  const url = `http://127.0.0.1:${port}`;
  const limit = performance.now() + START_LIMIT_MS;
  while (!(await answers(url))) {
    if (child.exitCode !== null || performance.now() > limit) {
      stop();
      throw new Error(`nginx did not start:\n${said.join('')}`);
    }
    await delay(20);
  }
  return { url, stop };
}

function configuration(location: string, dir: string, port: number): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];
  return `
daemon off;
${process.getuid?.() === 0 ? `user ${userInfo().username};` : ''}
worker_processes auto;
pid ${dir}/pid;
events { worker_connections 768; }
http {
  access_log off;
  sendfile on;
  tcp_nopush on;
  ${temporary.map(what => `${what}_temp_path ${dir}/${what};`).join('\n  ')}
  proxy_cache_path ${dir}/answers keys_zone=answers:10m;
  server {
    listen 127.0.0.1:${port};
    location / {${location}
    }
  }
}
`;
}

async function answers(url: string): Promise<boolean> {
  const answer = await fetch(url, { signal: AbortSignal.timeout(1_000) }).catch(() => null);
  await answer?.body?.cancel();
  return answer !== null;
}

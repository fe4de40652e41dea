import { gzipSync } from 'node:zlib';
import type { Answer } from './answers.ts';

const HUGE_BYTES = 10_000_000;
const MEMBER_BYTES = 8 * 1024 * 1024;
/** So many members are 2.5 GiB when they are unpacked, and 2.6 MB as they are sent. */
const MEMBERS = 320;

let more: string | null = null;
let bomb: Buffer | null = null;

/** What was asked for, and 10 MB of other fields that a later MLflow might have. */
export function huge(answer: Answer): Answer {
  more ??= JSON.stringify(
    Array(HUGE_BYTES / 100).fill({ path: 'x'.repeat(80), is_dir: false, file_size: 1 }),
  );
  const isJson = answer.headers['content-type'] === 'application/json';
  const start = isJson ? answer.body.toString('utf8').trimEnd().slice(0, -1) : '{"files": []';
  const headers = { ...answer.headers, 'content-type': 'application/json' };
  return { status: 200, headers, body: Buffer.from(`${start}, "more": ${more}}`) };
}

/** A body that inflates to GBs, since gzip knows files of several members. */
export function gzipBomb(answer: Answer): Answer {
  bomb ??= Buffer.concat(Array<Buffer>(MEMBERS).fill(gzipSync(Buffer.alloc(MEMBER_BYTES))));
  return { status: 200, headers: { ...answer.headers, 'content-encoding': 'gzip' }, body: bomb };
}

// Writes to LOOP_FILE, on SIGUSR2, how long the event loop worked in one go at most since the last time, in milliseconds of the
// processor: on a busy machine others' work is none of it.
import { renameSync, writeFileSync } from 'node:fs';

const file = process.env['LOOP_FILE'];
const TICK_MS = 2;
let longestMs = 0;
let before = used();

function used() {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

setInterval(() => {
  const now = used();
  longestMs = Math.max(longestMs, now - before);
  before = now;
}, TICK_MS).unref();

process.on('SIGUSR2', () => {
  writeFileSync(`${file}.new`, JSON.stringify({ longestMs }));
  renameSync(`${file}.new`, file);
  longestMs = 0;
});

// Writes to PROBE_FILE, on SIGUSR2, what this process has open: the event loop's resources, and every timer that has
// not come to its end, those included that would not keep the process alive.
import { renameSync, writeFileSync } from 'node:fs';

const file = process.env['PROBE_FILE'];
const timers = new Set();

for (const name of ['setTimeout', 'setInterval']) {
  const original = globalThis[name];
  const watched = (...args) => {
    const timer = original(...args);
    timers.add(timer);
    return timer;
  };
  globalThis[name] = Object.defineProperties(watched, Object.getOwnPropertyDescriptors(original));
}

function open() {
  const pending = [...timers].filter(timer => !timer['_destroyed']);
  timers.clear();
  for (const timer of pending) timers.add(timer);
  return [
    ...process.getActiveResourcesInfo(),
    ...pending.map(timer => `timer of ${timer['_idleTimeout']} ms`),
  ];
}

process.on('SIGUSR2', () => {
  writeFileSync(`${file}.new`, JSON.stringify(open()));
  renameSync(`${file}.new`, file);
});

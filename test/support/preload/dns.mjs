// Knows DNS_NAME as 127.0.0.1. Once DNS_FLAG is there, it says `fail` or `hang`, and that is what looking the name up
// does, whichever of Node's ways it goes.
import dns from 'node:dns';
import { readFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const name = process.env['DNS_NAME'];
const flag = process.env['DNS_FLAG'];

function state() {
  try {
    return readFileSync(flag, 'utf8');
  } catch {
    return 'well';
  }
}

function notFound(call) {
  const code = 'ENOTFOUND';
  return Object.assign(new Error(`${call} ${code} ${name}`), {
    code,
    errno: -3008,
    syscall: call,
    hostname: name,
  });
}

/** As a callback's function: `answer` is given in the manner of the one that it stands for. */
function scripted(call, original, answer) {
  return function (hostname, ...rest) {
    if (hostname !== name) return original.call(this, hostname, ...rest);
    const callback = rest.pop();
    const now = state();
    if (now === 'fail') setImmediate(() => callback(notFound(call)));
    else if (now === 'well') setImmediate(() => callback(null, ...answer(rest[0] ?? {})));
    return {};
  };
}

/** As a function that gives a promise. */
function promised(call, original, answer) {
  return async function (hostname, ...rest) {
    if (hostname !== name) return await original.call(this, hostname, ...rest);
    const now = state();
    if (now === 'fail') throw notFound(call);
    if (now === 'hang') await new Promise(() => {});
    return answer(rest[0] ?? {})[0];
  };
}

function looked(options) {
  const found = { address: '127.0.0.1', family: 4 };
  if (options.all) return [[found]];
  return [found.address, found.family];
}

function resolved4(options) {
  return [[options.ttl ? { address: '127.0.0.1', ttl: 1 } : '127.0.0.1']];
}

function resolved6() {
  return [[]];
}

const { lookup: lookupPromise } = dns.promises;
dns.lookup = scripted('getaddrinfo', dns.lookup, looked);
dns.promises.lookup = promised('getaddrinfo', lookupPromise, options =>
  options.all ? looked(options) : [{ address: '127.0.0.1', family: 4 }],
);
for (const [method, answer] of [
  ['resolve4', resolved4],
  ['resolve6', resolved6],
]) {
  for (const owner of [dns, dns.Resolver.prototype]) owner[method] = scripted('query', owner[method], answer);
  for (const owner of [dns.promises, dns.promises.Resolver.prototype])
    owner[method] = promised('query', owner[method], answer);
}
syncBuiltinESMExports();

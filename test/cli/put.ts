// Puts a snapshot into a directory in a process of its own, so that it can be killed: node put.ts SNAPSHOT DIR [UID]
import { materialize, prepareTarget } from '../../src/cli/materialize.ts';

const [snapshot = '', dir = '', uid] = process.argv.slice(2);
if (uid !== undefined) process.seteuid?.(Number(uid));
const target = await prepareTarget(dir);
process.stdout.write('begins\n');
process.stdout.write(`${await materialize(snapshot, target, new AbortController().signal)}\n`);

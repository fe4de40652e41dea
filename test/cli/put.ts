// Puts a snapshot into a directory in a process of its own, so that it can be killed: node put.ts SNAPSHOT DIR VERSION [UID]
import { materialize } from '../../src/cli/materialize.ts';
import { prepareTarget } from '../../src/cli/target.ts';

const [snapshot = '', dir = '', version = '', uid] = process.argv.slice(2);
if (uid !== undefined) process.seteuid?.(Number(uid));
const model = { snapshot, uri: 'models:/a/Production', version, mayLink: true };
const target = await prepareTarget(dir);
process.stdout.write('begins\n');
process.stdout.write(`${await materialize(model, target, new AbortController().signal)}\n`);

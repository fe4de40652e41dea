import { nearest } from './spelling.ts';
import { OPTION_SPECS } from './table.ts';

/** Variables that belong to the sidecar's clients. */
const OF_CLIENTS = ['SIDECAR_URL'];
const PREFIX = 'SIDECAR_';
const KNOWN = [...OPTION_SPECS.map(spec => spec.name), ...OF_CLIENTS]
  .filter(name => name.startsWith(PREFIX))
  .map(name => name.slice(PREFIX.length));

/** What Kubernetes sets in every pod for services whose names begin with "sidecar". */
const SERVICE_LINK = /_SERVICE_(HOST|PORT(_\w+)?)$|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$/;
const SERVICE_ADDRESS = /^(tcp|udp|sctp):\/\//;

/** A warning for each variable that looks like an option and is none. Values are not shown: a misspelt token is a secret. */
export function unknownVariables(env: Readonly<Record<string, string | undefined>>): string[] {
  return Object.entries(env)
    .filter(([name]) => name.startsWith(PREFIX) && !KNOWN.includes(name.slice(PREFIX.length)))
    .filter(([name, value]) => !SERVICE_LINK.test(name) && !SERVICE_ADDRESS.test(value ?? ''))
    .map(([name]) => {
      const near = nearest(name.slice(PREFIX.length), KNOWN);
      return `${name} is not an option and is ignored.${near === null ? '' : ` Did you mean ${PREFIX}${near}?`}`;
    });
}

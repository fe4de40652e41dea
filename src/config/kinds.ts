import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { isIP } from 'node:net';
import { isAbsolute, normalize, resolve } from 'node:path';
import { errnoOf, SidecarError } from '../domain/errors.ts';
import { type ModelUri, parseModelUri } from '../domain/model-uri.ts';
import { isMapping, itemsOf, type Raw, textOf } from './raw.ts';

/** `fault` completes the sentence "SIDECAR_X=value …". */
export type Parsed<T> = { readonly value: T } | { readonly fault: string };

/** The type of an option: what is allowed, in words, and how its text is read. */
export interface Kind<T> {
  readonly allowed: string;
  parse(raw: Raw): Parsed<T>;
}

export function scalar<T>(allowed: string, parse: (text: string) => Parsed<T>): Kind<T> {
  return { allowed, parse: raw => (typeof raw === 'string' ? parse(raw.trim()) : { fault: noText(raw) }) };
}

function noText(raw: Exclude<Raw, string>): string {
  return isMapping(raw) ? 'is a mapping' : 'is a list';
}

const isPrintable = (text: string): boolean => /^[\x21-\x7e]+$/.test(text);

/** A number from `min` to `max`, both included. */
export function number(min: number, max: number, unit: string): Kind<number> {
  return scalar(`${min} to ${max} ${unit}`, text => {
    if (!/^\d+(\.\d+)?$/.test(text)) return { fault: 'is not a number' };
    const value = Number(text);
    return value >= min && value <= max ? { value } : { fault: 'is out of range' };
  });
}

export function integer(min: number, max: number): Kind<number> {
  return scalar(`a whole number, ${min} to ${max}`, text => {
    if (!/^\d+$/.test(text)) return { fault: 'is not a whole number' };
    const value = Number(text);
    return value >= min && value <= max ? { value } : { fault: 'is out of range' };
  });
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
};

/** Written as Kubernetes or df write it; at least `min`. */
export function bytes(min: number): Kind<number> {
  return scalar(`bytes, at least ${min}, as 21474836480, 20Gi, 20GiB or 20G`, text => {
    const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([kMGT]|[KMGT]i)?B?$/.exec(text) ?? [];
    const factor = UNITS[unit];
    if (digits === '' || factor === undefined) return { fault: 'is not a number of bytes' };
    const value = Math.floor(Number(digits) * factor);
    return value >= min && value <= Number.MAX_SAFE_INTEGER ? { value } : { fault: 'is out of range' };
  });
}

/** Kubernetes sets `<SERVICE>_PORT=tcp://10.0.0.1:5080` in every pod beside a service called "sidecar". */
export const port: Kind<number> = scalar('a port, 0 to 65535 (0: any free one)', text => {
  if (text.startsWith('tcp://')) {
    return {
      fault:
        'was set by Kubernetes for a service called "sidecar": set enableServiceLinks: false in the pod, rename the service, or set SIDECAR_PORT or --port yourself',
    };
  }
  const value = /^\d{1,5}$/.test(text) ? Number(text) : -1;
  return value >= 0 && value <= 65_535 ? { value } : { fault: 'is not a port' };
});

/** As MLflow reads its own booleans. */
export const flag: Kind<boolean> = scalar('true, false, 1 or 0', text => {
  const lower = text.toLowerCase();
  if (lower === 'true' || lower === '1') return { value: true };
  return lower === 'false' || lower === '0' ? { value: false } : { fault: 'is neither true nor false' };
});

export function oneOf<const T extends string>(values: readonly T[]): Kind<T> {
  return scalar(values.join(', '), text => {
    const value = values.find(known => known === text.toLowerCase());
    return value === undefined ? { fault: 'is not one of them' } : { value };
  });
}

export const listenHost: Kind<string> = scalar('an IP address without brackets, or a host name', text =>
  isIP(text) !== 0 || /^[a-z\d]([\w.-]*[a-z\d])?$/i.test(text) ? { value: text } : { fault: 'is neither' },
);

/** Where to listen: `127.0.0.1:9090`, `[::]:9090`, or `:9090` for every address, with a null host. */
export const listenAddress: Kind<{ readonly host: string | null; readonly port: number }> = scalar(
  'host:port, or :port for every address',
  text => {
    const [, host = '', digits = ''] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
    const bare = host.replace(/^\[(.*)\]$/, '$1');
    const parsed = bare === '' ? { value: null } : listenHost.parse(bare);
    const parsedPort = Number(digits);
    if (digits === '' || parsedPort > 65_535 || 'fault' in parsed) return { fault: 'is no such address' };
    return { value: { host: parsed.value, port: parsedPort } };
  },
);

export function matching(allowed: string, pattern: RegExp): Kind<string> {
  return scalar(allowed, text => (pattern.test(text) ? { value: text } : { fault: 'does not fit' }));
}

/** What fits into an `Authorization` header. */
export const bearer: Kind<string> = scalar('visible ASCII characters without blanks', text =>
  isPrintable(text) ? { value: text } : { fault: 'holds a blank or a character outside ASCII' },
);

/** Anything; blanks around it count, since a password may begin with one. */
export const anyText: Kind<string> = {
  allowed: 'a text',
  parse: raw => (typeof raw === 'string' ? { value: raw } : { fault: noText(raw) }),
};

export const path: Kind<string> = scalar('a path', text => {
  if (text.includes('\0')) return { fault: 'holds a NUL' };
  if (text.startsWith('~'))
    return { fault: 'begins with "~", which only a shell expands: write the whole path' };
  return { value: resolve(text) };
});

const absolutePath: Kind<string> = scalar('an absolute path', text => {
  if (text.includes('\0')) return { fault: 'holds a NUL' };
  if (!isAbsolute(text)) return { fault: 'is not absolute' };
  return { value: normalize(text).replace(/(.)\/+$/, '$1') };
});

export const readableFile: Kind<string> = scalar('a file that the sidecar can read', text => {
  const parsed = path.parse(text);
  return 'fault' in parsed ? parsed : (fileFault(parsed.value) ?? parsed);
});

const CERTIFICATE = /^-----BEGIN CERTIFICATE-----/m;
const PRIVATE_KEY = /^-----BEGIN ([A-Z]+ )*PRIVATE KEY-----/m;

function fileFault(file: string): { readonly fault: string } | undefined {
  try {
    if (statSync(file).isDirectory()) return { fault: 'is a directory' };
    accessSync(file, constants.R_OK);
    return undefined;
  } catch (error) {
    return { fault: errnoOf(error) === 'ENOENT' ? 'does not exist' : `cannot be read (${errnoOf(error)})` };
  }
}

/** Node takes any file for authorities and then trusts none, without a word. */
export const certificates: Kind<string> = pemFile(text =>
  CERTIFICATE.test(text) ? null : 'holds no certificate in PEM ("-----BEGIN CERTIFICATE-----")',
);

export const certificateAndKey: Kind<string> = pemFile(text => {
  if (!CERTIFICATE.test(text)) return 'holds no certificate in PEM ("-----BEGIN CERTIFICATE-----")';
  return PRIVATE_KEY.test(text)
    ? null
    : 'holds no private key ("-----BEGIN PRIVATE KEY-----"): put it into the same file';
});

function pemFile(faultOf: (text: string) => string | null): Kind<string> {
  const { allowed } = readableFile;
  return scalar(allowed, text => {
    const parsed = readableFile.parse(text);
    if ('fault' in parsed) return parsed;
    const fault = faultOf(readFileSync(parsed.value, 'latin1'));
    return fault === null ? parsed : { fault };
  });
}

/** An item per comma, or per element where the YAML file holds a sequence; then an item may hold a comma. */
export function list<T>(allowed: string, item: Kind<T>): Kind<readonly T[]> {
  return {
    allowed,
    parse: raw => {
      const parsed = itemsOf(raw).map(one => [one, item.parse(one)] as const);
      const faults = parsed.flatMap(([written, one]) =>
        'fault' in one ? [`${textOf(written)} ${one.fault}`] : [],
      );
      if (faults.length > 0) return { fault: `has a bad item: ${faults.join('; ')}` };
      if (parsed.length === 0) return { fault: 'names nothing' };
      return { value: parsed.flatMap(([, one]) => ('value' in one ? [one.value] : [])) };
    },
  };
}

export const modelUri: Kind<ModelUri> = scalar('a model URI', text => {
  try {
    return { value: parseModelUri(text) };
  } catch (error) {
    if (!(error instanceof SidecarError)) throw error;
    return { fault: error.message.replace(`${JSON.stringify(text)} `, '').replace(/\.$/, '') };
  }
});

const uriPattern: Kind<string> = scalar('a pattern', text =>
  /^(models:\/|runs:\/|\*)/.test(text)
    ? { value: text }
    : { fault: 'matches no model URI: begin with models:/ or runs:/' },
);

const hostPattern: Kind<string> = scalar('a host', text => {
  if (text.includes('/')) return { fault: 'is a URL or a path: write the host alone' };
  if (/^[^:]*:\d+$|\]:\d+$/.test(text)) return { fault: 'holds a port: write the host alone' };
  const host = text.toLowerCase().replace(/^\[(.*)\]$/, '$1');
  return /^[\w.*?:-]+$/.test(host) ? { value: host } : { fault: 'is not a host' };
});

export const uriPatterns = list(
  'patterns of model URIs such as models:/topic-*, separated by commas',
  uriPattern,
);
export const hostPatterns = list('hosts or patterns such as *.example.com, separated by commas', hostPattern);
export const directories = list('absolute paths, separated by commas', absolutePath);

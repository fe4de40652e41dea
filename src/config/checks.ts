import { hostname, networkInterfaces } from 'node:os';
import { matchesGlob } from '../domain/glob.ts';
import { formatModelUri } from '../domain/model-uri.ts';
import { isLoopback } from './loopback.ts';
import type { Options } from './options.ts';
import type { Reader } from './reader.ts';
import { OPTIONS } from './table.ts';

/** What is wrong between options each of which is right by itself. */
export function crossCheck(reader: Reader, options: Options): void {
  checkDeadlines(reader, options);
  checkTls(reader, options);
  checkCredentials(reader, options);
  checkExposure(reader, options);
  checkModels(reader, options);
  checkPrewarm(reader, options);
  checkAddresses(reader, options);
  checkLoop(reader, options);
}

function checkDeadlines(reader: Reader, { reloadDeadlineS, reloadDeadlineMaxS }: Options): void {
  if (!reader.areSound(OPTIONS.reloadDeadlineS, OPTIONS.reloadDeadlineMaxS)) return;
  if (reloadDeadlineS <= reloadDeadlineMaxS) return;
  const [blamed, other] = reader.isSet(OPTIONS.reloadDeadlineS)
    ? [
        OPTIONS.reloadDeadlineS,
        `is above ${reader.nameOf(OPTIONS.reloadDeadlineMaxS)}, which is ${reloadDeadlineMaxS} s.`,
      ]
    : [
        OPTIONS.reloadDeadlineMaxS,
        `is below ${reader.nameOf(OPTIONS.reloadDeadlineS)}, which is ${reloadDeadlineS} s.`,
      ];
  reader.fault(blamed, other);
}

function checkTls(reader: Reader, { mlflow }: Options): void {
  if (!mlflow.tls.insecure || !reader.isSet(OPTIONS.serverCertPath)) return;
  reader.fault(
    OPTIONS.insecureTls,
    `and ${reader.nameOf(OPTIONS.serverCertPath)} exclude each other, as in MLflow. Unset one of them.`,
  );
}

function checkCredentials(reader: Reader, { mlflow }: Options): void {
  const { username, password } = mlflow.credentials;
  if (!reader.areSound(OPTIONS.username, OPTIONS.usernameFile, OPTIONS.password, OPTIONS.passwordFile))
    return;
  if (username !== null && password === null) {
    reader.fault(OPTIONS.password, 'must be set, since a user name for MLflow is.');
  }
  if (username === null && password !== null) {
    reader.fault(OPTIONS.username, 'must be set, since a password for MLflow is.');
  }
}

function checkExposure(reader: Reader, { host }: Options): void {
  if (isLoopback(host)) return;
  const why = `must be set, since ${reader.nameOf(OPTIONS.host)} (${host}) is reachable from beyond this machine.`;
  if (!reader.isSet(OPTIONS.token) && !reader.isSet(OPTIONS.tokenFile)) {
    reader.fault(OPTIONS.token, `or ${OPTIONS.tokenFile.name} ${why}`);
  }
  if (!reader.isSet(OPTIONS.allow)) reader.fault(OPTIONS.allow, `${why} Write * for every model.`);
}

function checkModels(reader: Reader, { models, allow }: Options): void {
  if (allow.length === 0) return;
  const refused = models.map(formatModelUri).filter(uri => !allow.some(pattern => matchesGlob(pattern, uri)));
  if (refused.length === 0) return;
  reader.fault(
    OPTIONS.models,
    `names what ${reader.nameOf(OPTIONS.allow)} does not allow: ${refused.join(', ')}.`,
  );
}

function checkPrewarm(reader: Reader, { models, warmupS }: Options): void {
  if (models.length > 0 || !reader.areSound(OPTIONS.models)) return;
  for (const spec of warmupS > 0 ? [OPTIONS.prewarm, OPTIONS.warmupS] : [OPTIONS.prewarm]) {
    if (reader.isSet(spec) && reader.areSound(spec)) {
      reader.fault(spec, `is for the models that ${reader.nameOf(OPTIONS.models)} names, and it names none.`);
    }
  }
}

function checkAddresses(reader: Reader, { host, port, metricsAddr }: Options): void {
  if (metricsAddr === null || port === 0 || port !== metricsAddr.port) return;
  const both = [host, metricsAddr.host];
  const isSame = host === metricsAddr.host || both.some(isEveryAddress) || both.every(isOnLoopback);
  if (!isSame) return;
  reader.fault(
    OPTIONS.metricsAddr,
    `and ${reader.nameOf(OPTIONS.port)} (${port}) are one and the same. Choose another port.`,
  );
}

function isOnLoopback(host: string | null): boolean {
  return host !== null && isLoopback(host);
}

function isEveryAddress(host: string | null): boolean {
  return host === null || host === '0.0.0.0' || host === '::';
}

/** An upstream that is the sidecar itself would have every request ask itself, without end. */
function checkLoop(reader: Reader, { host, port, mlflow }: Options): void {
  if (!reader.areSound(OPTIONS.host, OPTIONS.port)) return;
  const own = new Set([host, hostname(), ...interfaceAddresses(host)].map(name => name.toLowerCase()));
  const isSelf = (uri: string): boolean => {
    const url = URL.parse(uri);
    if (url === null || portOf(url) !== port) return false;
    const name = url.hostname.toLowerCase().replace(/^\[(.*)\]$/, '$1');
    return isLoopback(name) || own.has(name);
  };
  for (const [spec, uri] of [
    [OPTIONS.trackingUri, mlflow.trackingUri],
    [OPTIONS.registryUri, mlflow.registryUri],
  ] as const) {
    if (reader.isSet(spec) && isSelf(uri)) {
      reader.fault(
        spec,
        `is this sidecar itself, by ${reader.nameOf(OPTIONS.port)} (${port}). Name the MLflow server behind it.`,
      );
    }
  }
}

/** Where it listens on every address, each of the machine's is its own. */
function interfaceAddresses(host: string): string[] {
  if (!isEveryAddress(host)) return [];
  const addresses = Object.values(networkInterfaces()).flatMap(list => list ?? []);
  return ['0.0.0.0', '::', ...addresses.map(entry => entry.address)];
}

function portOf(url: URL): number {
  if (url.port !== '') return Number(url.port);
  return url.protocol === 'https:' ? 443 : 80;
}

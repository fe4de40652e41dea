import * as kinds from './kinds.ts';
import { MAX_SECONDS, option } from './spec.ts';
import { proxyUrl } from './upstream.ts';

/** Options of MLflow's own clients, meant as MLflow means them, and the standard proxy variables. */
export const MLFLOW_OPTIONS = {
  username: option({
    name: 'MLFLOW_TRACKING_USERNAME',
    kind: kinds.anyText,
    fallback: null,
    meaning: 'The user name for MLflow.',
  }),
  usernameFile: option({
    name: 'MLFLOW_TRACKING_USERNAME_FILE',
    kind: kinds.readableFile,
    fallback: null,
    meaning: 'A file that holds it, read again after MLflow answered 401.',
  }),
  password: option({
    name: 'MLFLOW_TRACKING_PASSWORD',
    kind: kinds.anyText,
    fallback: null,
    meaning: 'The password for MLflow.',
    secret: true,
  }),
  passwordFile: option({
    name: 'MLFLOW_TRACKING_PASSWORD_FILE',
    kind: kinds.readableFile,
    fallback: null,
    meaning: 'A file that holds it, read again after MLflow answered 401.',
  }),
  mlflowToken: option({
    name: 'MLFLOW_TRACKING_TOKEN',
    kind: kinds.bearer,
    fallback: null,
    meaning: 'The bearer token for MLflow; a user name and password win over it.',
    secret: true,
  }),
  mlflowTokenFile: option({
    name: 'MLFLOW_TRACKING_TOKEN_FILE',
    kind: kinds.readableFile,
    fallback: null,
    meaning: 'A file that holds it, read again after MLflow answered 401.',
  }),
  insecureTls: option({
    name: 'MLFLOW_TRACKING_INSECURE_TLS',
    kind: kinds.flag,
    fallback: false,
    meaning: 'Take any certificate of MLflow’s.',
    why: 'as in MLflow',
  }),
  serverCertPath: option({
    name: 'MLFLOW_TRACKING_SERVER_CERT_PATH',
    kind: kinds.certificates,
    fallback: null,
    shown: 'Node’s authorities',
    meaning: 'A PEM file with the authorities to trust for MLflow.',
  }),
  clientCertPath: option({
    name: 'MLFLOW_TRACKING_CLIENT_CERT_PATH',
    kind: kinds.certificateAndKey,
    fallback: null,
    meaning: 'A PEM file with the certificate and key to show MLflow.',
  }),
  requestTimeoutS: option({
    name: 'MLFLOW_HTTP_REQUEST_TIMEOUT',
    kind: kinds.number(0.001, MAX_SECONDS, 's'),
    fallback: 5,
    meaning: 'How long one try of a registry request may take; at most 5 s are used.',
    why: 'so that three tries fit into 30 s',
  }),
  maxRetries: option({
    name: 'MLFLOW_HTTP_REQUEST_MAX_RETRIES',
    kind: kinds.integer(0, 1_000),
    fallback: 2,
    meaning: 'How often a registry request is tried again; at most 2 times.',
    why: 'three tries in all',
  }),
  workspace: option({
    name: 'MLFLOW_WORKSPACE',
    kind: kinds.matching('2 to 63 of a–z, 0–9 and inner "-"', /^[a-z0-9][-a-z0-9]{0,61}[a-z0-9]$/),
    fallback: null,
    meaning: 'MLflow’s workspace.',
  }),
  httpProxy: option({
    name: 'HTTP_PROXY',
    kind: proxyUrl,
    holdsCredentials: true,
    fallback: null,
    meaning: 'The proxy for an MLflow at `http:`. In lower case too, which wins.',
    environmentOnly: true,
  }),
  httpsProxy: option({
    name: 'HTTPS_PROXY',
    kind: proxyUrl,
    holdsCredentials: true,
    fallback: null,
    meaning: 'The proxy for an MLflow at `https:`. In lower case too, which wins.',
    environmentOnly: true,
  }),
  noProxy: option({
    name: 'NO_PROXY',
    kind: kinds.anyText,
    fallback: null,
    meaning: 'Hosts that are asked without a proxy, separated by commas. In lower case too, which wins.',
    environmentOnly: true,
  }),
};

import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { type Answer, text } from './answers.ts';
import { gzipBomb, huge } from './bodies.ts';
import type { PortFault } from './listener.ts';

/** What can go wrong between a client and MLflow. */
export type Fault = PortFault | AnswerFault;

export type AnswerFault =
  /** Accepts, reads the request, and says nothing. */
  | { readonly kind: 'silent' }
  /** A TCP reset once the request is there. */
  | { readonly kind: 'reset' }
  /** One byte a second, from the status line on or from the body on. */
  | { readonly kind: 'trickle'; readonly part: 'headers' | 'body' }
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly body?: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** A page for people, with status 200. */
  | { readonly kind: 'html' }
  /** Status 200, and JSON that ends too early. */
  | { readonly kind: 'broken_json' }
  /** Half of the body, then nothing. */
  | { readonly kind: 'stall' }
  /** Half of the body, then the end of the connection; without a Content-Length it looks whole. */
  | { readonly kind: 'cut'; readonly contentLength: boolean }
  /** More bytes than were listed, with a Content-Length that says so. */
  | { readonly kind: 'longer' }
  /** 10 MB of JSON, with status 200. */
  | { readonly kind: 'huge' }
  /** A few MB of gzip that inflate to GBs. */
  | { readonly kind: 'gzip_bomb' }
  /** To the same path of another origin. */
  | { readonly kind: 'redirect'; readonly origin: string }
  /** The right answer, late. Milliseconds. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** The right answer, once something has been done. */
  | { readonly kind: 'after'; readonly act: () => Promise<unknown> };

const TRICKLE_MS = 1_000;

/** Sends an answer, with what the fault does to it. */
export async function send(
  req: IncomingMessage,
  res: ServerResponse,
  answer: Answer,
  fault: AnswerFault | undefined,
): Promise<void> {
  if (fault?.kind === 'after') await fault.act();
  if (fault === undefined || fault.kind === 'after') whole(res, answer);
  else if (fault.kind === 'delay') later(req.socket, fault.ms, () => whole(res, answer));
  else {
    const other = otherAnswer(req, answer, fault);
    if (other === undefined) breakOff(req.socket, answer, fault);
    else whole(res, other);
  }
}

/** The whole answer that some faults give instead. */
function otherAnswer(req: IncomingMessage, answer: Answer, fault: AnswerFault): Answer | undefined {
  switch (fault.kind) {
    case 'status':
      return statusAnswer(fault.status, fault.body ?? '', fault.headers ?? {});
    case 'html':
      return text('<!doctype html><title>Sign in</title><p>Please sign in.', 'text/html; charset=utf-8');
    case 'broken_json':
      return text('{"model_versions": [{"name": "x"', 'application/json');
    case 'longer':
      return { ...answer, body: Buffer.concat([answer.body, Buffer.from('more')]) };
    case 'huge':
      return huge(answer);
    case 'gzip_bomb':
      return gzipBomb(answer);
    case 'redirect':
      return statusAnswer(307, '', { location: `${fault.origin}${req.url ?? '/'}` });
    default:
      return undefined;
  }
}

/** The faults that never give a whole answer. */
function breakOff(socket: Socket, answer: Answer, fault: AnswerFault): void {
  switch (fault.kind) {
    case 'reset':
      socket.resetAndDestroy();
      break;
    case 'trickle':
      trickle(socket, answer, fault.part);
      break;
    case 'stall':
      socket.write(head(answer, answer.body.length));
      socket.write(half(answer));
      break;
    case 'cut':
      socket.write(head(answer, fault.contentLength ? answer.body.length : null));
      socket.end(half(answer));
      break;
    default:
      break;
  }
}

function whole(res: ServerResponse, answer: Answer): void {
  res.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length });
  res.end(answer.body);
}

function statusAnswer(status: number, body: string, headers: Readonly<Record<string, string>>): Answer {
  return { status, headers: { 'content-type': 'text/plain', ...headers }, body: Buffer.from(body) };
}

function half(answer: Answer): Buffer {
  return answer.body.subarray(0, Math.floor(answer.body.length / 2));
}

/** Written by hand, since Node would put the framing right. */
function head(answer: Answer, length: number | null): string {
  const framing = length === null ? {} : { 'content-length': String(length) };
  const headers = { ...answer.headers, ...framing, connection: 'close' };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${answer.status} ${STATUS_CODES[answer.status]}\r\n${lines.join('')}\r\n`;
}

function trickle(socket: Socket, answer: Answer, part: 'headers' | 'body'): void {
  const start = head(answer, answer.body.length);
  if (part === 'body') socket.write(start);
  const bytes = part === 'body' ? answer.body : Buffer.concat([Buffer.from(start), answer.body]);
  let sent = 0;
  const timer = setInterval(() => {
    if (sent >= bytes.length) socket.end();
    else socket.write(bytes.subarray(sent, ++sent));
  }, TRICKLE_MS);
  socket.once('close', () => clearInterval(timer));
}

function later(socket: Socket, ms: number, then: () => void): void {
  const timer = setTimeout(() => {
    if (!socket.destroyed) then();
  }, ms);
  socket.once('close', () => clearTimeout(timer));
}

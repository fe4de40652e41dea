import type { Request, Response } from 'express';

export const JSON_TYPE = 'application/json; charset=utf-8';

/** Whether the caller would rather read the report; JSON where it does not say, or says neither. */
export function wantsText(req: Request<object>): boolean {
  return req.accepts(['application/json', 'text/plain']) === 'text/plain';
}

export function sendJson(res: Response, status: number, body: unknown, type = JSON_TYPE): void {
  send(res, status, JSON.stringify(body), type);
}

export function sendText(
  res: Response,
  status: number,
  text: string,
  type = 'text/plain; charset=utf-8',
): void {
  send(res, status, text, type);
}

// Not `res.send`: it answers 304 to an `If-None-Match: *`, and nothing here may be "not modified".
function send(res: Response, status: number, body: string, type: string): void {
  res.statusCode = status;
  res.setHeader('Content-Type', type);
  res.setHeader('Content-Length', Buffer.byteLength(body));
  res.end(body);
}

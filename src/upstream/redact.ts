/** A shorter one would blank out ordinary words, and guards nothing. */
const MIN_SECRET_LENGTH = 4;

/** Takes a credential out of what the other side says: servers and proxies echo headers in their error messages. */
export function redactor(authorization: string | null): (text: string) => string {
  const secrets = secretsOf(authorization ?? '').filter(secret => secret.length >= MIN_SECRET_LENGTH);
  return text => secrets.reduce((safe, secret) => safe.replaceAll(secret, '[redacted]'), text);
}

/** The longer ones first: the shorter are parts of them. */
function secretsOf(authorization: string): readonly string[] {
  const [scheme = '', value = ''] = authorization.split(/\s+(.*)/s);
  if (scheme.toLowerCase() !== 'basic') return [value];
  const pair = Buffer.from(value, 'base64').toString('utf8');
  return [value, pair, pair.slice(pair.indexOf(':') + 1)];
}

import { createHash } from 'node:crypto';

const MAX_BYTES = 200;
/** Enough to recognise a name by; the hash tells it from others. */
const KEPT_BYTES = 100;

/**
 * A model's or ref's name as one file name: percent-encoded but for `A-Z a-z 0-9 _ - .` and a leading `@`, and over
 * 200 bytes cut and marked with `~` and a hash. Different names have different file names: no encoded name holds a `~`.
 * @param tellsCase without it capital letters are encoded, too, so that they differ where the file system does not tell case
 */
export function encodeName(name: string, tellsCase = true): string {
  const plain = tellsCase ? /[\w.-]/ : /[a-z0-9_.-]/;
  const encoded = name.startsWith('@') ? `@${encode(name.slice(1), plain)}` : encode(name, plain);
  if (encoded.length <= MAX_BYTES) return encoded;
  return `${encoded.slice(0, KEPT_BYTES)}~${createHash('sha256').update(name).digest('hex')}`;
}

function encode(text: string, plain: RegExp): string {
  // As nearly all are, whatever is plain: a list of ten thousand models has twenty thousand.
  if (/^[a-z\d_-][a-z\d_.-]*$/.test(text)) return text;
  const encoded = Array.from(new TextEncoder().encode(text.toWellFormed()), byte => {
    const char = String.fromCharCode(byte);
    return plain.test(char) ? char : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');
  // `.` and `..` are directories, and a leading dot hides a file.
  return encoded.replace(/^\./, '%2E');
}

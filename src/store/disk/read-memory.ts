/** Of one piece. As quick as nginx with its `sendfile`. */
const PIECE_BYTES = 256 * 1024;
/** Of one piece where others have so much: slower, but 1,000 readers take 32 MiB more and not 500. */
const LEAST_BYTES = 16 * 1024;
/** Of all pieces of the usual size: of 64 readers with two each. */
const MOST_BYTES = 32 * 1024 * 1024;

let allotted = 0;

interface Allotment {
  /** Of each piece. */
  readonly bytes: number;
  /** Once. */
  readonly giveBack: () => void;
}

/**
 * Memory for a reader of a file, who holds it for as long as it likes.
 * @param length how much it will read, in bytes
 * @param pieces that it holds at the same time
 */
export function allotRead(length: number, pieces: 1 | 2): Allotment {
  const usual = Math.min(PIECE_BYTES, length);
  const bytes = allotted + pieces * usual > MOST_BYTES ? Math.min(LEAST_BYTES, usual) : usual;
  allotted += pieces * bytes;
  const giveBack = () => {
    allotted -= pieces * bytes;
  };
  return { bytes, giveBack };
}

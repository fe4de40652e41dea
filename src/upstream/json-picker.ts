import { Tokenizer, TokenType } from '@streamparser/json';
import type { SharedSlices } from '../policy/slices.ts';

/**
 * What of a value is read: all of it, members by name, or each element of a list that has no more than `most`. Of everything else
 * nothing stays but the names of an object's members, without their values.
 */
export type Wanted =
  | 'all'
  | { readonly members: Readonly<Record<string, Wanted>> }
  | { readonly elements: Wanted; readonly most: number };

/** An answer has more of something than is read. */
export class TooMuch extends Error {}

/** What comes is no JSON. */
export class Malformed extends Error {}

/** MLflow's own answers are eight deep. */
const DEEPEST = 64;
/** Metric curves in 64 MiB have 1.5 million. */
const MOST_VALUES = 2_000_000;
/** One text or number; what MLflow keeps of a dataset is the longest. */
const LONGEST_BYTES = 1024 * 1024;
/** What is picked, in characters and values: a listing of 50,000 files has 4 million. */
const MOST_PICKED = 16 * 1024 * 1024;
/** Looked at in one go: a millisecond or two, whatever is in it. */
const STEP_BYTES = 16 * 1024;

type Expected = 'value' | 'value or end' | 'name' | 'name or end' | 'colon' | 'comma or end' | 'nothing';

/** An object or list that is not at its end yet. */
interface Open {
  readonly isList: boolean;
  /** Null where nothing of it is wanted. */
  readonly picked: Map<string, unknown> | unknown[] | null;
  readonly wanted: Wanted | null;
  name: string;
}

/** Reads a JSON text as it comes, in steps that leave everybody else their turn, and keeps of it what is wanted. */
export class JsonPicker {
  readonly #wanted: Wanted;
  readonly #slices: SharedSlices;
  // A long number would be put together from single digits.
  readonly #tokenizer = new Tokenizer({ numberBufferSize: 4_096 });
  readonly #open: Open[] = [];
  #expected: Expected = 'value';
  #values = 0;
  #picked = 0;
  #bytesSinceToken = 0;
  #result: unknown;

  constructor(wanted: Wanted, slices: SharedSlices) {
    this.#wanted = wanted;
    this.#slices = slices;
    this.#tokenizer.onToken = ({ token, value }) => {
      this.#bytesSinceToken = 0;
      this.#take(token, value);
    };
  }

  /**
   * @param bytes are not needed any more when it resolves
   * @throws TooMuch or Malformed
   */
  async write(bytes: Uint8Array): Promise<void> {
    for (let from = 0; from < bytes.byteLength; from += STEP_BYTES) {
      await this.#slices.next();
      const step = bytes.subarray(from, from + STEP_BYTES);
      this.#bytesSinceToken += step.byteLength;
      this.#tokenize(step);
      if (this.#bytesSinceToken > LONGEST_BYTES)
        throw new TooMuch(`has a text or number of more than ${LONGEST_BYTES} bytes`);
    }
  }

  /**
   * What was wanted of the whole text.
   * @throws Malformed where it is not at its end
   */
  end(): unknown {
    if (this.#expected !== 'nothing') throw malformed();
    return this.#result;
  }

  #tokenize(step: Uint8Array): void {
    try {
      this.#tokenizer.write(step);
    } catch (error) {
      throw error instanceof TooMuch ? error : malformed();
    }
  }

  #take(token: TokenType, value: unknown): void {
    switch (this.#expected) {
      case 'name or end':
        if (token === TokenType.RIGHT_BRACE) this.#close();
        else this.#name(token, value);
        break;
      case 'name':
        this.#name(token, value);
        break;
      case 'colon':
        if (token !== TokenType.COLON) throw malformed();
        this.#expected = 'value';
        break;
      case 'value or end':
        if (token === TokenType.RIGHT_BRACKET) this.#close();
        else this.#value(token, value);
        break;
      case 'value':
        this.#value(token, value);
        break;
      case 'comma or end':
        this.#next(token);
        break;
      case 'nothing':
        throw malformed();
    }
  }

  #name(token: TokenType, value: unknown): void {
    const open = this.#open.at(-1);
    if (token !== TokenType.STRING || typeof value !== 'string' || open === undefined) throw malformed();
    open.name = value;
    this.#expected = 'colon';
  }

  #value(token: TokenType, value: unknown): void {
    this.#values += 1;
    if (this.#values > MOST_VALUES) throw new TooMuch(`has more than ${MOST_VALUES} values`);
    const wanted = this.#wantedNext();
    switch (token) {
      case TokenType.LEFT_BRACE:
        this.#begin({ isList: false, picked: wanted === null ? null : new Map(), wanted, name: '' });
        break;
      case TokenType.LEFT_BRACKET:
        this.#begin({ isList: true, picked: wanted === null ? null : [], wanted, name: '' });
        break;
      case TokenType.STRING:
      case TokenType.NUMBER:
      case TokenType.TRUE:
      case TokenType.FALSE:
      case TokenType.NULL:
        this.#add(wanted === null ? undefined : value);
        break;
      default:
        throw malformed();
    }
  }

  #begin(open: Open): void {
    if (this.#open.length >= DEEPEST) throw new TooMuch(`is nested deeper than ${DEEPEST} levels`);
    this.#open.push(open);
    this.#expected = open.isList ? 'value or end' : 'name or end';
  }

  #next(token: TokenType): void {
    const isList = this.#open.at(-1)?.isList === true;
    if (token === TokenType.COMMA) this.#expected = isList ? 'value' : 'name';
    else if (token === (isList ? TokenType.RIGHT_BRACKET : TokenType.RIGHT_BRACE)) this.#close();
    else throw malformed();
  }

  #close(): void {
    const { picked } = this.#open.pop() ?? { picked: null };
    this.#add(picked instanceof Map ? Object.fromEntries(picked) : (picked ?? undefined));
  }

  /** A value that is whole. */
  #add(value: unknown): void {
    const open = this.#open.at(-1);
    this.#expected = open === undefined ? 'nothing' : 'comma or end';
    if (open === undefined) this.#result = value;
    else if (open.picked instanceof Map) open.picked.set(open.name, value);
    else if (open.picked !== null) open.picked.push(value);
    else return;
    this.#count((open?.name.length ?? 0) + (typeof value === 'string' ? value.length : 0));
  }

  #count(characters: number): void {
    this.#picked += 8 + characters;
    if (this.#picked > MOST_PICKED) throw new TooMuch(`has more than ${MOST_PICKED} characters to read`);
  }

  /** Of the value that begins now; null where it is not. */
  #wantedNext(): Wanted | null {
    const open = this.#open.at(-1);
    if (open === undefined) return this.#wanted;
    const { wanted, picked } = open;
    if (wanted === null || wanted === 'all') return wanted;
    // What is a list instead of an object, or the other way round, is seen by what it is: nothing in it is looked at.
    if ('members' in wanted)
      return !open.isList && Object.hasOwn(wanted.members, open.name)
        ? (wanted.members[open.name] ?? null)
        : null;
    if (!Array.isArray(picked)) return null;
    if (picked.length >= wanted.most) throw new TooMuch(`has more than ${wanted.most} entries`);
    return wanted.elements;
  }
}

function malformed(): Malformed {
  return new Malformed('The text is no JSON.');
}

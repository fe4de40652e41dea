import { type Fault, shownValue } from './faults.ts';
import type { FileContent } from './file.ts';
import { isEmpty, type Raw } from './raw.ts';
import { type AnyOption, flagOf, keyOf, type OptionSpec, waysToWrite } from './spec.ts';

export interface Sources {
  /** By flag, with its dashes. */
  readonly flags: Readonly<Record<string, string>>;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface Found {
  readonly raw: Raw;
  readonly writtenAs: string;
}

/** Takes options from flags, environment and file, in this order, and keeps what is wrong with them. An empty value is none. */
export class Reader {
  readonly faults: Fault[] = [];
  readonly #sources: Sources;
  readonly #unsound = new Set<string>();
  #file: ReadonlyMap<string, Raw> = new Map();
  #path = '';

  constructor(sources: Sources) {
    this.#sources = sources;
  }

  useFile(path: string, content: FileContent): void {
    this.#path = path;
    this.#file = content.values;
    this.faults.push(...content.faults);
  }

  /** The option's value; its default where it is absent or faulty. */
  get<T, D>(spec: OptionSpec<T, D>): T | D {
    const found = this.#find(spec);
    if (found === null) return spec.fallback;
    const parsed = spec.kind.parse(found.raw);
    if ('value' in parsed) return parsed.value;
    this.fault(spec, `${parsed.fault}. Allowed: ${spec.kind.allowed}.`);
    return spec.fallback;
  }

  isSet(spec: AnyOption): boolean {
    return this.#find(spec) !== null;
  }

  /** Whether nothing is wrong with these options, so that they can be compared. */
  areSound(...specs: readonly AnyOption[]): boolean {
    return specs.every(spec => !this.#unsound.has(spec.name));
  }

  /** The option as the user wrote it, or the ways to write it. */
  nameOf(spec: AnyOption): string {
    return this.#find(spec)?.writtenAs ?? waysToWrite(spec);
  }

  fault(spec: AnyOption, message: string): void {
    const found = this.#find(spec);
    const value = found === null ? null : shownValue(spec, found.raw);
    this.#unsound.add(spec.name);
    this.faults.push({ option: this.nameOf(spec), value, message });
  }

  #find(spec: AnyOption): Found | null {
    return this.#flag(spec) ?? this.#variable(spec) ?? this.#entry(spec);
  }

  #flag(spec: AnyOption): Found | null {
    const flag = flagOf(spec);
    return flag === null ? null : written(this.#sources.flags[flag], flag);
  }

  #variable(spec: AnyOption): Found | null {
    const lower = spec.name.toLowerCase();
    const first = spec.environmentOnly === true ? written(this.#sources.env[lower], lower) : null;
    return first ?? written(this.#sources.env[spec.name], spec.name);
  }

  #entry(spec: AnyOption): Found | null {
    const key = keyOf(spec);
    return key === null ? null : written(this.#file.get(key), `${key} in ${this.#path}`);
  }
}

function written(raw: Raw | undefined, writtenAs: string): Found | null {
  return raw === undefined || isEmpty(raw) ? null : { raw, writtenAs };
}

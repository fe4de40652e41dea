/** A mapping in the YAML file. */
export type RawMapping = ReadonlyMap<string, string>;

/** What an element of a sequence in the YAML file may be. */
export type RawItem = string | RawMapping;

/** An option's value as it was written: a text, or in the YAML file also a mapping or a sequence. */
export type Raw = RawItem | readonly RawItem[];

export function isMapping(raw: Raw): raw is RawMapping {
  return raw instanceof Map;
}

export function isEmpty(raw: Raw): boolean {
  return isMapping(raw) ? raw.size === 0 : raw.length === 0;
}

/** An item per comma of a text, or per element of a sequence, where an item may hold a comma; without empty ones. */
export function itemsOf(raw: Raw): readonly RawItem[] {
  if (isMapping(raw)) return [raw];
  const items = typeof raw === 'string' ? raw.split(',') : raw;
  return items.map(item => (typeof item === 'string' ? item.trim() : item)).filter(item => item !== '');
}

/** For people, on one line. */
export function textOf(raw: Raw): string {
  const shown = (item: RawItem) => (isMapping(item) ? Object.fromEntries(item) : item);
  if (typeof raw === 'string' || isMapping(raw)) return JSON.stringify(shown(raw));
  return JSON.stringify(raw.every(item => typeof item === 'string') ? raw.join(',') : raw.map(shown));
}

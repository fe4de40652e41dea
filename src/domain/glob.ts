/** Whether some text that begins with `prefix` fits the pattern. */
export function mayMatch(pattern: string, prefix: string): boolean {
  const [head = '', ...parts] = pattern.split('*');
  return head.startsWith(prefix) || (parts.length > 0 && prefix.startsWith(head));
}

/**
 * Whether the whole text fits the pattern, in which `*` stands for any run of characters (also none, also `/`)
 * and everything else for itself. The parts between the stars are looked for from left to right, once: a pattern
 * of many stars takes no longer than a short one.
 */
export function matchesGlob(pattern: string, text: string): boolean {
  const [head = '', ...parts] = pattern.split('*');
  const tail = parts.pop();
  if (tail === undefined) return pattern === text;
  if (!text.startsWith(head) || !text.endsWith(tail)) return false;
  const end = text.length - tail.length;
  let from = head.length;
  for (const part of parts) {
    const at = text.indexOf(part, from);
    if (at < 0) return false;
    from = at + part.length;
  }
  return from <= end;
}

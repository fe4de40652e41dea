import { appendFile } from 'node:fs/promises';

/** Adds to the table that `npm run chaos` closes with: counts by name, of which those of one `what` are summed. */
export async function account(what: string, counts: Readonly<Record<string, number>>): Promise<void> {
  const file = process.env['CHAOS_ACCOUNT'];
  if (file !== undefined) await appendFile(file, `${JSON.stringify({ what, counts })}\n`);
}

import { z } from 'zod';

const AnswerSchema = z.looseObject({ status: z.string().optional() });
const REPORT = /^(?:❌|⚠️)/mu;

/** What is wrong with an answer of the sidecar to what should have given a model; null where nothing is. */
export function outcomeFault(answer: string): string | null {
  if (!answer.startsWith('{')) return REPORT.test(answer) ? `gives no model: ${answer}` : null;
  const { status } = AnswerSchema.parse(JSON.parse(answer));
  return status === 'missing' || status === 'failed' ? `gives no model: ${answer}` : null;
}

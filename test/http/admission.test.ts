import { describe, expect, test } from 'vitest';
import { Admission, type Ticket } from '../../src/http/admission.ts';

const SAMPLE_MS = 50;

function sampled(admission: Admission, utilization: number, ms: number): void {
  for (let passed = 0; passed < ms; passed += SAMPLE_MS) admission.sample(utilization, SAMPLE_MS);
}

/** As many as are let in, at most `most`. */
function letIn(admission: Admission, most: number): Ticket[] {
  const tickets: Ticket[] = [];
  while (tickets.length < most) {
    const ticket = admission.admit();
    if (typeof ticket === 'string') break;
    tickets.push(ticket);
  }
  return tickets;
}

function shedding(): Admission {
  const admission = new Admission();
  sampled(admission, 1, 2_000);
  return admission;
}

describe('with time to spare', () => {
  test('1,000 calls are let in at once and the next is refused, until one is answered', () => {
    const admission = new Admission();
    const [first] = letIn(admission, 1_000);
    expect(admission.admit()).toBe('full');
    if (first !== undefined) admission.release(first);
    expect(admission.admit()).toEqual({ generation: 0 });
    expect(admission.admit()).toBe('full');
  });

  test('calls that wait for minutes still count', () => {
    const admission = new Admission();
    letIn(admission, 1_000);
    sampled(admission, 0.1, 120_000);
    expect(admission.admit()).toBe('full');
  });

  test('a burst that keeps the loop busy for less than two seconds is taken in', () => {
    const admission = new Admission();
    sampled(admission, 1, 1_950);
    sampled(admission, 0.2, 50);
    sampled(admission, 1, 100);
    expect(letIn(admission, 900)).toHaveLength(900);
    expect(admission.isShedding).toBe(false);
  });

  test('a loop that is busy for 90 % is at work, not overloaded', () => {
    const admission = new Admission();
    sampled(admission, 0.9, 600_000);
    expect(admission.isShedding).toBe(false);
  });
});

describe('a loop that was busy for two seconds', () => {
  test('lets ten calls be active', () => {
    const admission = shedding();
    expect(letIn(admission, 100)).toHaveLength(10);
    expect(admission.admit()).toBe('busy');
  });

  test('lets one in for each that is answered', () => {
    const admission = shedding();
    const tickets = letIn(admission, 100);
    for (const ticket of tickets.slice(0, 3)) admission.release(ticket);
    expect(letIn(admission, 100)).toHaveLength(3);
  });

  test('never refuses ten callers that ask one after the other', () => {
    const admission = shedding();
    for (let n = 0; n < 1_000; n++) {
      const tickets = letIn(admission, 10);
      expect(tickets).toHaveLength(10);
      sampled(admission, 1, 50);
      for (const ticket of tickets) admission.release(ticket);
    }
  });

  test('does not count calls that have been waiting for a second', () => {
    const admission = new Admission();
    const waiting = letIn(admission, 500);
    sampled(admission, 1, 2_000);
    expect(letIn(admission, 100)).toHaveLength(10);
    for (const ticket of waiting) admission.release(ticket);
    expect(admission.admit()).toBe('busy');
  });

  test('lets more in while there is time left over, and fewer when there is none', () => {
    const admission = shedding();
    for (let n = 0; n < 10; n++) {
      letIn(admission, 1_000);
      admission.sample(0.6, SAMPLE_MS);
    }
    const tickets = letIn(admission, 1_000);
    sampled(admission, 0.6, 1_000);
    const more = letIn(admission, 1_000).length;
    expect(more).toBeGreaterThan(20);
    expect(more).toBeLessThan(60);
    for (const ticket of tickets) admission.release(ticket);
    sampled(admission, 1, 1_000);
    expect(letIn(admission, 1_000)).toHaveLength(10);
  });

  test('keeps the number where it is busy enough', () => {
    const admission = shedding();
    letIn(admission, 1_000);
    for (let n = 0; n < 19; n++) {
      expect(admission.admit()).toBe('busy');
      admission.sample(0.9, SAMPLE_MS);
    }
    expect(letIn(admission, 1_000)).toHaveLength(0);
  });
});

describe('the end of an overload', () => {
  test('comes after two seconds in which nobody was refused', () => {
    const admission = shedding();
    sampled(admission, 0.3, 1_950);
    expect(admission.isShedding).toBe(true);
    sampled(admission, 0.3, 50);
    expect(admission.isShedding).toBe(false);
    expect(letIn(admission, 500)).toHaveLength(500);
  });

  test('does not come while somebody is refused now and then', () => {
    const admission = shedding();
    for (let n = 0; n < 20; n++) {
      letIn(admission, 1_000);
      sampled(admission, 0.3, 1_000);
    }
    expect(admission.isShedding).toBe(true);
  });

  test('does not come while the loop stays busy', () => {
    const admission = shedding();
    sampled(admission, 0.9, 60_000);
    expect(admission.isShedding).toBe(true);
  });

  test('is not followed by the next at once', () => {
    const admission = shedding();
    sampled(admission, 0.3, 2_000);
    sampled(admission, 1, 1_900);
    expect(admission.isShedding).toBe(false);
  });
});

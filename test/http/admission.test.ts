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

function giveBack(admission: Admission, tickets: readonly Ticket[]): void {
  for (const ticket of tickets) admission.release(ticket);
}

/** For so long calls come faster than they are answered: never fewer than `active` of them are under way. */
function queued(admission: Admission, ms: number, active = 30, utilization = 1): void {
  for (let passed = 0; passed < ms; passed += SAMPLE_MS) {
    const tickets = letIn(admission, active);
    admission.sample(utilization, SAMPLE_MS);
    giveBack(admission, tickets);
  }
}

/** One that sheds, with nobody under way. */
function shedding(): Admission {
  const admission = new Admission();
  queued(admission, 2_000);
  return admission;
}

describe('with time to spare', () => {
  test('1,000 calls are let in at once and the next is refused, until one is answered', () => {
    const admission = new Admission();
    const tickets = letIn(admission, 1_000);
    expect(admission.admit()).toBe('full');
    giveBack(admission, tickets.slice(0, 1));
    expect(admission.admit()).toEqual({ generation: 0 });
    expect(admission.admit()).toBe('full');
  });

  test('calls that wait for minutes still count', () => {
    const admission = new Admission();
    letIn(admission, 1_000);
    sampled(admission, 0.1, 120_000);
    expect(admission.admit()).toBe('full');
  });

  test('a hundred calls under way are not too many', () => {
    const admission = new Admission();
    queued(admission, 600_000, 100, 0.9);
    expect(admission.isShedding).toBe(false);
  });
});

describe('a loop with no time to spare', () => {
  test('takes in a burst that is over within two seconds', () => {
    const admission = new Admission();
    queued(admission, 1_950, 900);
    expect(admission.isShedding).toBe(false);
    expect(letIn(admission, 900)).toHaveLength(900);
  });

  test('takes in one burst after the other, if there is as much time between them', () => {
    const admission = new Admission();
    for (let n = 0; n < 100; n++) {
      queued(admission, 1_500);
      sampled(admission, 0.3, 1_500);
    }
    expect(admission.isShedding).toBe(false);
  });

  test('refuses nobody while no queue forms, as during a large download', () => {
    const admission = new Admission();
    queued(admission, 600_000, 20);
    expect(admission.isShedding).toBe(false);
  });

  test('refuses nobody because of calls that wait for somebody else', () => {
    const admission = new Admission();
    letIn(admission, 500);
    sampled(admission, 0.5, 1_000);
    sampled(admission, 1, 600_000);
    expect(admission.isShedding).toBe(false);
  });
});

describe('once calls have queued for two seconds', () => {
  test('five are let in', () => {
    const admission = shedding();
    expect(admission.isShedding).toBe(true);
    expect(letIn(admission, 100)).toHaveLength(5);
    expect(admission.admit()).toBe('busy');
  });

  test('one is let in for each that is answered', () => {
    const admission = shedding();
    giveBack(admission, letIn(admission, 100).slice(0, 3));
    expect(letIn(admission, 100)).toHaveLength(3);
  });

  test('five callers that ask one after the other are never refused', () => {
    const admission = shedding();
    for (let n = 0; n < 1_000; n++) {
      const tickets = letIn(admission, 5);
      expect(tickets).toHaveLength(5);
      sampled(admission, 1, 50);
      giveBack(admission, tickets);
    }
  });

  test('calls that have been waiting for a second do not count', () => {
    const admission = new Admission();
    const waiting = letIn(admission, 500);
    sampled(admission, 0.5, 1_000);
    queued(admission, 2_000);
    expect(letIn(admission, 100)).toHaveLength(5);
    giveBack(admission, waiting);
    expect(admission.admit()).toBe('busy');
  });

  test('more are let in while there is time left over, and five again when there is none', () => {
    const admission = shedding();
    queued(admission, 500, 1_000, 0.6);
    const more = letIn(admission, 1_000);
    expect(more.length).toBeGreaterThan(10);
    expect(more.length).toBeLessThan(30);
    giveBack(admission, more);
    queued(admission, 1_000, 1_000, 1);
    expect(letIn(admission, 1_000)).toHaveLength(5);
  });

  test('their number stays where the loop is busy enough', () => {
    const admission = shedding();
    queued(admission, 60_000, 1_000, 0.9);
    expect(letIn(admission, 1_000)).toHaveLength(5);
  });

  test('no more than 1,000 are let in, however much time there is', () => {
    const admission = shedding();
    queued(admission, 60_000, 2_000, 0.1);
    expect(letIn(admission, 2_000)).toHaveLength(1_000);
    expect(admission.admit()).toBe('full');
  });
});

describe('the end of an overload', () => {
  test('comes after two seconds in which nobody was refused', () => {
    const admission = shedding();
    queued(admission, 1_950, 5);
    expect(admission.isShedding).toBe(true);
    queued(admission, 100, 5);
    expect(admission.isShedding).toBe(false);
    expect(letIn(admission, 500)).toHaveLength(500);
  });

  test('does not come while somebody is refused now and then', () => {
    const admission = shedding();
    for (let n = 0; n < 20; n++) {
      queued(admission, SAMPLE_MS, 100);
      sampled(admission, 0.9, 1_500);
    }
    expect(admission.isShedding).toBe(true);
  });

  test('is not followed by the next at once', () => {
    const admission = shedding();
    sampled(admission, 0.3, 2_050);
    expect(admission.isShedding).toBe(false);
    queued(admission, 1_950);
    expect(admission.isShedding).toBe(false);
    queued(admission, 50);
    expect(admission.isShedding).toBe(true);
  });
});

import { Counter, Gauge, Histogram, type MetricValue, Registry } from '@prometheus-io/client';

/** What a metric is, for its documentation. */
interface Description {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
}

/** Metrics in a registry of their own. Units are seconds and bytes. */
export class MetricSet {
  readonly registry = new Registry();
  readonly #descriptions: Description[] = [];

  get descriptions(): readonly Description[] {
    return this.#descriptions;
  }

  counter<L extends string = never>(name: string, help: string, labels: readonly L[] = []): Counter<L> {
    const metric = new Counter<L>(this.#config('counter', name, help, labels));
    this.registry.registerMetric(metric);
    return metric;
  }

  histogram<L extends string = never>(
    name: string,
    help: string,
    buckets: readonly number[],
    labels: readonly L[] = [],
  ): Histogram<L> {
    const config = { ...this.#config('histogram', name, help, labels), buckets: [...buckets] };
    const metric = new Histogram<L>(config);
    this.registry.registerMetric(metric);
    return metric;
  }

  /** A gauge that is looked at when it is asked for; null where there is nothing to show yet. */
  gauge(name: string, help: string, look: () => number | null): void {
    this.gauges<string>(name, help, [], () => {
      const value = look();
      return value === null ? [] : [{ labels: {}, value }];
    });
  }

  /** The same, of many samples, which must differ in their labels. */
  gauges<L extends string>(
    name: string,
    help: string,
    labels: readonly L[],
    look: () => readonly MetricValue<L>[],
  ): void {
    this.registry.registerMetric(new LookedAt(this.#config('gauge', name, help, labels), look));
  }

  /** A counter that somebody else counts, without labels. */
  countedElsewhere(name: string, help: string, look: () => number): void {
    const collect = function (this: Counter): void {
      this.reset();
      this.inc(look());
    };
    this.registry.registerMetric(new Counter({ ...this.#config('counter', name, help, []), collect }));
  }

  #config<L extends string>(type: Description['type'], name: string, help: string, labels: readonly L[]) {
    this.#descriptions.push({ name, type, labels, help });
    return { name, help, labelNames: labels, registers: [] };
  }
}

/**
 * Keeps no samples: what is gone is not shown any more. The library's own store joins the values of labels by `|`, so that
 * two series whose values hold one could fall into one.
 */
class LookedAt<L extends string> extends Gauge<L> {
  readonly #look: () => readonly MetricValue<L>[];

  constructor(config: ConstructorParameters<typeof Gauge<L>>[0], look: () => readonly MetricValue<L>[]) {
    super(config);
    this.#look = look;
  }

  override async get() {
    return { ...(await super.get()), values: [...this.#look()] };
  }
}

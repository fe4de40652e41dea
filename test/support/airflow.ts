import { rmSync } from 'node:fs';
import { copyFile, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pLimit from 'p-limit';
import { type AirflowVersion, ended, startTaskApi } from './airflow-process.ts';
import { type Recorded, recorded } from './airflow-record.ts';
import { atExit } from './at-exit.ts';

export type { AirflowVersion };

const DATABASE = 'airflow.db';
const oneOfTwo = pLimit(2);

export interface DagRun extends Recorded {
  /** Of `airflow dags test`: 1 where the run failed. */
  readonly exitCode: number | null;
  /** What Airflow and the tasks wrote, to the log and to both output streams. */
  readonly log: string;
}

interface RunOptions {
  /** Params of the run. */
  readonly conf?: object;
  readonly env?: Readonly<Record<string, string>>;
  /** Matches the ids of tasks that count as done. */
  readonly skip?: string;
  /** Tasks run in processes of their own, up to so many at once (Airflow 3); else one after the other. */
  readonly parallelism?: number;
  /** Most of the time it waits for something that takes no processor. */
  readonly waits?: boolean;
}

/** A real Airflow: `airflow dags test` runs a whole DAG, and what a triggerer would do, without a scheduler. */
export class Airflow {
  readonly #version: AirflowVersion;
  readonly #dir: string;
  readonly #remove: () => void;

  private constructor(version: AirflowVersion, dir: string) {
    this.#version = version;
    this.#dir = dir;
    this.#remove = atExit(() => rmSync(dir, { recursive: true, force: true }));
  }

  /** With an empty database of its version, of which each run gets a copy. */
  static async start(version: AirflowVersion): Promise<Airflow> {
    const airflow = new Airflow(version, await mkdtemp(join(tmpdir(), `airflow-${version}-`)));
    const { exitCode, log } = await ended(version, ['db', 'migrate'], environment(airflow.#dir));
    if (exitCode === 0) return airflow;
    airflow.stop();
    throw new Error(`Airflow ${version} made no database:\n${log.slice(-4_000)}`);
  }

  /** Removes what the runs left. */
  stop(): void {
    this.#remove();
  }

  /** Runs a DAG to its end. Of those that do not wait at most two go on at once: each is busy on one core. */
  async run(dagId: string, options: RunOptions = {}): Promise<DagRun> {
    const work = () => this.#run(dagId, options);
    return await (options.waits === true ? work() : oneOfTwo(work));
  }

  async #run(dagId: string, { conf = {}, env = {}, skip, parallelism }: RunOptions): Promise<DagRun> {
    const home = await mkdtemp(join(this.#dir, 'run-'));
    await copyFile(join(this.#dir, DATABASE), join(home, DATABASE));
    const args = ['dags', 'test', dagId, '--conf', JSON.stringify(conf)];
    if (skip !== undefined) args.push('--mark-success-pattern', skip);
    const ofRun = { ...environment(home), ...env };
    const { exitCode, log } =
      parallelism === undefined
        ? await ended(this.#version, args, ofRun)
        : await this.#parallel(args, ofRun, parallelism);
    return { exitCode, log, ...recorded(join(home, DATABASE), log) };
  }

  async #parallel(args: readonly string[], env: NodeJS.ProcessEnv, parallelism: number) {
    const api = await startTaskApi(this.#version, env);
    try {
      const executor = {
        AIRFLOW__CORE__EXECUTOR: 'LocalExecutor',
        AIRFLOW__CORE__PARALLELISM: String(parallelism),
      };
      return await ended(this.#version, [...args, '--use-executor'], { ...env, ...api.env, ...executor });
    } finally {
      api.stop();
    }
  }
}

function environment(home: string): NodeJS.ProcessEnv {
  return {
    AIRFLOW_HOME: home,
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN: `sqlite:///${join(home, DATABASE)}`,
  };
}

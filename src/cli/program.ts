import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { COLLECT_OPTIONS, loadCacheDir, loadCacheOptions, VERIFY_OPTIONS } from '../config/cache.ts';
import { packageVersion } from '../config/version.ts';
import { SidecarError } from '../domain/errors.ts';
import { type ModelUri, parseModelUri } from '../domain/model-uri.ts';
import { probedSidecarOf, sidecarOf } from './client.ts';
import { type ExitCode, USAGE } from './failure.ts';
import { addOptionFlags, cacheOptionsOf, type Env, optionsOf } from './option-flags.ts';

const CLIENT_HELP = `
Environment: SIDECAR_URL, and SIDECAR_TOKEN or SIDECAR_TOKEN_FILE where the sidecar asks for a token.`;

const EXIT_CODES = '\nExit codes: 0 ok, 1 failed, 2 usage or configuration.';

const RELOAD_HELP = `${CLIENT_HELP}

Exit codes:
  0  The sidecar did as it was asked: with "warn" also where a model could not be loaded and the report says why, with
     "fail" only where every model is there.
  1  With "fail": a model is missing or could not be loaded. With either: the sidecar is not there, does not answer in
     time, or refuses the request (its token, its list of allowed models).
  2  Usage.
In a task that must go on even without a sidecar, write: mlflow-sidecar reload … || true`;

const VERIFY_HELP = `
What is damaged is moved to state/quarantine in the cache, so that nobody gets it. A version of which every content is
still there is made anew from that; the next reload fetches the others again.

Exit codes: 0 all is well, 1 something is damaged, or it failed, 2 usage or configuration.`;

const GC_HELP = `
Give it what the sidecar on this cache is given: what it may hold, its models, and for how long they are good.
${EXIT_CODES}`;

/** Runs one command line and gives its exit code. Words for the user go to the streams. */
export async function run(args: readonly string[], env: Env): Promise<ExitCode> {
  let code: ExitCode = 0;
  const program = new Command('mlflow-sidecar')
    .description(
      'Loads MLflow models within a deadline: never blocks, never gives wrong bytes, always says why.',
    )
    .version(packageVersion())
    .exitOverride()
    .addHelpText('after', EXIT_CODES);
  const finish = (result: ExitCode): void => {
    code = result;
  };
  addServe(program, env, finish);
  addFetch(program, env, finish);
  addReload(program, env, finish);
  addStatus(program, env, finish);
  addGc(program, env, finish);
  addVerify(program, env, finish);
  try {
    await program.parseAsync(args, { from: 'user' });
    return code;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return error.exitCode === 0 ? 0 : USAGE;
  }
}

type Finish = (code: ExitCode) => void;

function addServe(program: Command, env: Env, finish: Finish): void {
  const command = program
    .command('serve')
    .description('run the sidecar')
    .option('--check', 'only check the configuration');
  addOptionFlags(command);
  command.action(async ({ check }: { check?: true }) => {
    const { options, warnings } = optionsOf(command, env);
    if (check === true) {
      for (const warning of warnings) process.stderr.write(`${warning}\n`);
      process.stdout.write('The configuration is right.\n');
      return;
    }
    const { serve } = await import('./serve.ts');
    finish(await serve(options, warnings));
  });
}

interface FetchFlags {
  readonly to: string;
  readonly deadline?: number;
}

function addFetch(program: Command, env: Env, finish: Finish): void {
  const command = program
    .command('fetch')
    .description('load one model into a directory, without a server; for init containers')
    .argument('<uri>', 'a model URI, such as models:/name/Production', modelUri)
    .option('--once', 'load it once and end; the default, and the only way there is')
    .requiredOption('--to <dir>', 'the directory: absent, empty, or filled by an earlier fetch of this URI')
    .addOption(deadlineOption(' (default: SIDECAR_RELOAD_DEADLINE_S)'));
  addOptionFlags(command);
  command.addHelpText('after', EXIT_CODES).action(async (uri: ModelUri, { to, deadline }: FetchFlags) => {
    const { options, warnings, namesCache } = optionsOf(command, env);
    for (const warning of warnings) process.stderr.write(`${warning}\n`);
    const { fetchTo } = await import('./fetch.ts');
    const deadlineMs = (deadline ?? options.reloadDeadlineS) * 1_000;
    finish(await fetchTo(options, { uri, to, deadlineMs, keepCache: namesCache }));
  });
}

interface ReloadFlags {
  readonly onFailure: 'warn' | 'fail';
  readonly deadline?: number;
  readonly force?: true;
  readonly url?: string;
}

function addReload(program: Command, env: Env, finish: Finish): void {
  program
    .command('reload')
    .description('have a running sidecar reload, and print its report')
    .argument('[uris...]', 'model URIs; none: those that the sidecar is configured for', collectUris)
    .addOption(
      new Option('--on-failure <mode>', 'what a failed reload means')
        .choices(['warn', 'fail'])
        .default('warn'),
    )
    .addOption(deadlineOption(' (default: what the sidecar is configured for)'))
    .option('--force', 'download and verify again, even what is cached')
    .addOption(urlOption())
    .addHelpText('after', RELOAD_HELP)
    .action(async (uris: readonly string[], flags: ReloadFlags) => {
      const { reload } = await import('./reload.ts');
      finish(await reload(sidecarOf(flags.url, env), uris, { ...flags, force: flags.force ?? false }));
    });
}

interface StatusFlags {
  readonly json?: true;
  readonly live?: true;
  readonly ready?: true;
  readonly url?: string;
}

function addStatus(program: Command, env: Env, finish: Finish): void {
  program
    .command('status')
    .description('show what a running sidecar has, and how MLflow is')
    .option('--json', 'as JSON')
    .addOption(
      new Option('--live', 'only whether it is alive, by the exit code: for probes').conflicts('json'),
    )
    .addOption(
      new Option('--ready', 'only whether it is ready, by the exit code').conflicts(['json', 'live']),
    )
    .addOption(urlOption())
    .addHelpText('after', CLIENT_HELP + EXIT_CODES)
    .action(async ({ json, live, ready, url }: StatusFlags) => {
      if (live === true || ready === true) {
        const { probe } = await import('./probe.ts');
        return finish(await probe(probedSidecarOf(url, env), live === true ? '/healthz' : '/readyz'));
      }
      const { status } = await import('./status.ts');
      finish(await status(sidecarOf(url, env), json ?? false));
    });
}

function addVerify(program: Command, env: Env, finish: Finish): void {
  const command = program
    .command('verify')
    .description('check every file of the cache, also of a running sidecar, and take away what is damaged');
  addOptionFlags(command, VERIFY_OPTIONS);
  command.addHelpText('after', VERIFY_HELP).action(async () => {
    const cacheDir = cacheOptionsOf(command, env, loadCacheDir);
    const { verify } = await import('./verify.ts');
    finish(await verify(cacheDir));
  });
}

function addGc(program: Command, env: Env, finish: Finish): void {
  const command = program
    .command('gc')
    .description('remove from the cache what need not be kept, where no running sidecar owns it')
    .option('--dry-run', 'only say what would go; beside a running sidecar, too');
  addOptionFlags(command, COLLECT_OPTIONS);
  command.addHelpText('after', GC_HELP).action(async ({ dryRun }: { dryRun?: true }) => {
    const options = cacheOptionsOf(command, env, loadCacheOptions);
    const { gc } = await import('./gc.ts');
    finish(await gc(options, dryRun ?? false));
  });
}

function urlOption(): Option {
  return new Option(
    '--url <url>',
    'the sidecar’s address (SIDECAR_URL; default: that of a sidecar with this environment, http://127.0.0.1:5080)',
  );
}

function deadlineOption(help: string): Option {
  return new Option('--deadline <seconds>', `seconds within which it is over${help}`).argParser(text => {
    const seconds = /^\d+(\.\d+)?$/.test(text) ? Number(text) : Number.NaN;
    if (seconds >= 0.1 && seconds <= 86_400) return seconds;
    throw new InvalidArgumentError('Allowed: 0.1 to 86400.');
  });
}

function collectUris(text: string, earlier: readonly string[] | undefined): readonly string[] {
  modelUri(text);
  return [...(earlier ?? []), text];
}

function modelUri(text: string): ModelUri {
  try {
    return parseModelUri(text);
  } catch (error) {
    if (!(error instanceof SidecarError)) throw error;
    throw new InvalidArgumentError([error.message, error.hint ?? ''].join(' '));
  }
}

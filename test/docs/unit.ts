/** What a unit of ours sets of systemd's settings, by section. One that is not here is refused. */
const SETTINGS: Readonly<Record<string, readonly string[]>> = {
  Unit: ['Description', 'Documentation', 'After', 'Wants'],
  Service: [
    ...[
      'ExecStart',
      'Environment',
      'EnvironmentFile',
      'User',
      'Group',
      'CacheDirectory',
      'Restart',
      'RestartSec',
    ],
    ...['NoNewPrivileges', 'ProtectSystem', 'ProtectHome', 'PrivateTmp', 'MemoryMax'],
  ],
  Install: ['WantedBy'],
};

interface Unit {
  /** The values of a setting of the service, in their order. */
  readonly valuesOf: (key: string) => readonly string[];
  readonly faults: readonly string[];
}

export function readUnit(text: string): Unit {
  const faults: string[] = [];
  const service: [string, string][] = [];
  let section = '';
  for (const line of text.split('\n').filter(one => one !== '')) {
    const [, opened] = /^\[(\w+)\]$/.exec(line) ?? [];
    const [, key = '', value = ''] = /^([A-Z]\w+)=(\S.*)$/.exec(line) ?? [];
    if (opened !== undefined) {
      section = opened;
      if (!Object.hasOwn(SETTINGS, section)) faults.push(`${line}: is no section`);
    } else if (SETTINGS[section]?.includes(key) !== true)
      faults.push(`${line}: is no setting of [${section}]`);
    else if (section === 'Service') service.push([key, value]);
  }
  return { valuesOf: key => service.filter(([name]) => name === key).map(([, value]) => value), faults };
}

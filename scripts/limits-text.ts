import { defaultLimits, limitGroups, limitSetting, type LimitName } from '../src/limits.ts';
import type { Definition } from '../src/limit-definition.ts';

/** docs/limits.md, made from the table that the server enforces. */
export function limitsText(): string {
  const groups: [string, Record<string, Definition>][] = Object.entries(limitGroups);
  return [
    '# Limits',
    'Made by `npm run limits` from `src/limits-of-requests.ts` and `src/limits-of-connections.ts`, which the server enforces. ' +
      'Each is a setting, read at start like all others: `SWEEPBOOK_LIMIT_DEPTH=15 sweepbook serve`. ' +
      '`sweepbook config` shows those in force; a name that does not exist or a figure out of range is refused.',
    'HTTP and WebSocket have the same limits of documents, operations and rates, and all of them are looked at before any ' +
      'SQL is run. A refusal names its limit (`facts.limit`), the figure (`facts.most`) and the setting (`facts.setting`), ' +
      'and for `RATE_LIMITED` when to come again (`facts.retryAfterSeconds`, the header `retry-after`); that of a header, or ' +
      'of a request that comes too slowly, has them in its text, and a WebSocket that is closed in its reason. The command line ' +
      'waits so long and asks again, for up to a minute; the Python client, as long as its patience.',
    'Who shows a token is counted by principal, whatever addresses and however many tokens he has; who shows none by address, ' +
      'IPv6 by its /64. Behind a proxy name it in `SWEEPBOOK_TRUSTED_PROXIES`: else all who come through it are one. Each ' +
      'server counts for itself: two of them allow twice as much. `/healthz` has no rate.',
    ...groups.flatMap(([title, definitions]) => [`## ${title}`, tableOf(definitions)]),
    '## Not set here',
    [
      '- How long a question may take the database: `SWEEPBOOK_QUERY_SECONDS` (`QUERY_TOO_COMPLEX`).',
      '- A page has at most 1000 files, or 200 of what is larger; a bulk call 10,000 items (`BAD_USER_INPUT`).',
      '- One operation in a request: batches are refused (`BAD_USER_INPUT`, HTTP 400).',
      '- Manifests ([imports.md](imports.md)), publications ([publishing.md](publishing.md)) and webhooks ' +
        '([webhooks.md](webhooks.md)) have limits of their own.',
    ].join('\n'),
  ]
    .join('\n\n')
    .concat('\n');
}

function tableOf(definitions: Record<string, Definition>): string {
  const lines = Object.entries(definitions).map(([key, { unit, what, refusal }]) => {
    const name = key as LimitName;
    const figure = defaultLimits[name].toLocaleString('en');
    return `| \`${limitSetting(name)}\` | ${figure}${unit && ` ${unit}`} | ${what} | ${refusal} |`;
  });
  return ['| Setting | Default | What | Beyond it |', '| --- | --- | --- | --- |', ...lines].join(
    '\n',
  );
}

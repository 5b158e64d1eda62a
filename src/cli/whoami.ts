import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';

export function addWhoamiCommand(program: Command): void {
  runs(addVerb(program, 'whoami', 'who the server takes you for, and your roles'), whoami);
}

export interface Viewer {
  readonly principal: string;
  readonly roles: readonly string[];
  readonly expiresAt: string | null;
  readonly token: {
    readonly prefix: string | null;
    readonly issuer: string | null;
    readonly subject: string | null;
    readonly scopes: readonly string[] | null;
    readonly sites: readonly string[] | null;
    readonly groups: readonly string[];
  } | null;
}

export const whoamiQuery = `query Whoami {
  viewer { principal roles expiresAt token { prefix issuer subject scopes sites groups } }
}`;

async function whoami({ client, output }: Context): Promise<void> {
  const { viewer } = await client.call<{ viewer: Viewer }>(whoamiQuery);
  const { token } = viewer;
  await output.object(viewer, {
    principal: viewer.principal,
    roles: viewer.roles.join(', ') || 'none',
    ...(token?.groups.length ? { groups: token.groups.join(', ') } : {}),
    ...(token?.scopes ? { 'narrowed to': token.scopes.join(', ') } : {}),
    ...(token?.sites ? { sites: token.sites.join(', ') } : {}),
    ...(token?.issuer ? { issuer: token.issuer, subject: token.subject } : {}),
    ...(token?.prefix ? { token: token.prefix } : {}),
    'token from': token === null ? null : client.settings.tokenFrom,
    'token expires': viewer.expiresAt,
    server: client.settings.url,
  });
}

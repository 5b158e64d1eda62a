import type { Command } from 'commander';
import { addVerb, runs, type Context } from './command.ts';

export function addWhoamiCommand(program: Command): void {
  runs(addVerb(program, 'whoami', 'who the server takes you for, and your roles'), whoami);
}

interface Viewer {
  readonly principal: string;
  readonly roles: readonly string[];
  readonly expiresAt: string | null;
}

async function whoami({ client, output }: Context): Promise<void> {
  const { viewer } = await client.call<{ viewer: Viewer }>(
    'query Whoami { viewer { principal roles expiresAt } }',
  );
  await output.object(viewer, {
    principal: viewer.principal,
    roles: viewer.roles.join(', '),
    'token expires': viewer.expiresAt,
    server: client.settings.url,
  });
}
